"""faulthandler takes SIGBUS and SIGSEGV for itself; swapped memory must not notice.

`crash` as the argument ends with a real fault, which faulthandler must report.
"""

from __future__ import annotations

import ctypes
import faulthandler
import sys

BLOCK = 1 << 20


def main() -> None:
    faulthandler.enable()
    blocks = [bytearray(bytes([i % 251, (i * 7) % 253, 3, 4]) * (BLOCK // 4)) for i in range(160)]
    for _ in range(2):
        for i, block in enumerate(blocks):
            piece = bytes([i % 251, (i * 7) % 253, 3, 4]) * (BLOCK // 4)
            assert block == piece, f"block {i} changed"
            block[0] = block[0]
        faulthandler.disable()
        faulthandler.enable()
    print("verified", flush=True)
    if sys.argv[1:] == ["crash"]:
        ctypes.string_at(16)


main()
