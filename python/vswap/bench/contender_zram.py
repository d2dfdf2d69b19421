"""The kernel's own swap on /dev/zram0; `zram.py` sets the device up and takes it down."""

from __future__ import annotations

import mmap
import time
from typing import TYPE_CHECKING

import numpy as np

from vswap.bench.contender import Held, Unavailable
from vswap.bench.data import PAGE_SIZE
from vswap.bench.zram import ZramSwap

if TYPE_CHECKING:
    from pathlib import Path

    from vswap.bench.data import Bytes

MADV_PAGEOUT = 21
ZRAM_TABLE_BYTES = 16
"""struct zram_table_entry: a handle and flags per page of the device."""
SWAP_MAP_BYTES = 3
"""The kernel's swap_map (1) and swap_cgroup (2) per slot."""
MOSTLY_OUT = 0.98
"""MADV_PAGEOUT skips pages that are busy for a moment; what stays in is left out of the figures."""


class ZramContender:
    """A private anonymous mapping, pushed out with MADV_PAGEOUT."""

    def __init__(self, algorithm: str) -> None:
        self.name = f"zram-{algorithm}"
        self._swap = ZramSwap(algorithm)
        self._pages = 0
        self._maps: dict[int, mmap.mmap] = {}

    def open(self, pages: int, data: Path) -> None:
        """Room for everything twice, so that the device is never the limit."""
        del data
        self._pages = pages
        self._swap.start(2 * pages * PAGE_SIZE)

    def fresh(self) -> Bytes:
        """4 KiB pages only: swap works on those, and so does vswap near its budget."""
        mapping = mmap.mmap(-1, self._pages * PAGE_SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        mapping.madvise(mmap.MADV_NOHUGEPAGE)
        memory = np.frombuffer(mapping, dtype=np.uint8)
        self._maps[memory.ctypes.data] = mapping
        return memory

    def drop(self, memory: Bytes) -> None:
        """The mapping goes when the last array over it does."""
        self._maps.pop(memory.ctypes.data)

    def push_out(self, memory: Bytes) -> None:
        """One madvise over the whole range."""
        self._maps[memory.ctypes.data].madvise(MADV_PAGEOUT)

    def held(self) -> Held:
        """From mm_stat, plus the tables the kernel keeps per page of the device."""
        deadline = time.monotonic() + 2.0
        stat = self._swap.mm_stat()
        while stat.original_bytes < MOSTLY_OUT * self._pages * PAGE_SIZE:
            if time.monotonic() > deadline:
                message = f"the kernel kept pages in: {stat.original_bytes} bytes out"
                raise Unavailable(message)
            time.sleep(0.05)
            stat = self._swap.mm_stat()
        pages = stat.original_bytes // PAGE_SIZE
        overhead = {
            "allocator": max(0, stat.used_bytes - stat.compressed_bytes),
            "zram table": ZRAM_TABLE_BYTES * pages,
            "swap map": SWAP_MAP_BYTES * pages,
        }
        return Held(pages, stat.compressed_bytes, overhead)

    def close(self) -> None:
        """Swap off, device reset."""
        self._maps.clear()
        self._swap.stop()
