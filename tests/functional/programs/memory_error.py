"""More random bytes than there is room for: MemoryError, nothing lost, and the program goes on."""

from __future__ import annotations

import hashlib
import os
import sys

BLOCK = 4 << 20
PIECE = 4096
"""Small enough for the heap of small objects: a refusal is one of a whole block."""


def fill(limit: int) -> list[tuple[bytearray, bytes]]:
    """Random blocks until the first MemoryError."""
    held: list[tuple[bytearray, bytes]] = []
    while len(held) < limit:
        try:
            block = bytearray(BLOCK)
        except MemoryError:
            return held
        for start in range(0, BLOCK, PIECE):
            block[start : start + PIECE] = os.urandom(PIECE)
        held.append((block, hashlib.sha256(block).digest()))
    sys.exit(f"{limit} blocks of random bytes and no MemoryError")


def intact(held: list[tuple[bytearray, bytes]]) -> bool:
    return all(hashlib.sha256(block).digest() == digest for block, digest in held)


def main() -> None:
    held = fill(int(sys.argv[1]))
    assert len(held) > 4, f"only {len(held)} blocks"
    assert intact(held)
    del held[::2]
    more = fill(int(sys.argv[1]))
    assert more, "nothing fits although half was freed"
    assert intact(held)
    assert intact(more)
    print("survived")


main()
