"""Pages of every kind the swap layer treats differently, each told by its kind and seed."""

from __future__ import annotations

import struct
from functools import lru_cache
from random import Random

from vswap.model import PAGE_BYTES

KINDS = ("zero", "word", "odd_word", "text", "half", "noise", "nearly_zero")
"""Of these `zero` and `word` need no memory at all, and `noise` does not compress."""


@lru_cache(maxsize=1 << 14)
def page(kind: str, seed: int) -> bytes:
    """The page of that kind and seed, always the same bytes."""
    random = Random(f"{kind} {seed}")
    match kind:
        case "zero":
            return bytes(PAGE_BYTES)
        case "word":
            return _words(random.choice([seed, 2**64 - 1 - seed, seed << 8, seed * (2**32 + 1)]))
        case "odd_word":
            return _words(struct.unpack("<Q", struct.pack("<d", 0.1 + seed))[0])
        case "text":
            line = f"entry {seed} of the log, in segment {random.random()}\n"
            return (line * (PAGE_BYTES // len(line) + 1)).encode()[:PAGE_BYTES]
        case "half":
            return random.randbytes(PAGE_BYTES // 2) + bytes([seed % 251]) * (PAGE_BYTES // 2)
        case "noise":
            return random.randbytes(PAGE_BYTES)
        case "nearly_zero":
            one = bytearray(PAGE_BYTES)
            one[random.randrange(PAGE_BYTES)] = 1 + seed % 255
            return bytes(one)
    raise ValueError(kind)


def _words(word: int) -> bytes:
    return struct.pack("<Q", word % 2**64) * (PAGE_BYTES // 8)
