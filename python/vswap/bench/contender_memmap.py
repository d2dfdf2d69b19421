"""numpy.memmap on a file: what people use today."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vswap.bench.contender import Held
from vswap.bench.data import PAGE_SIZE

if TYPE_CHECKING:
    from vswap.bench.data import Bytes


class MemmapContender:
    """The page cache is dropped after each flush, so that every swap-in reads the disk."""

    name = "memmap"

    def __init__(self) -> None:
        self._folder = Path()
        self._pages = 0
        self._made = 0
        self._files: dict[int, tuple[np.memmap[tuple[int], np.dtype[np.uint8]], Path]] = {}

    def open(self, pages: int, data: Path) -> None:
        """Files are made beside the data."""
        self._folder = data.parent
        self._pages = pages

    def fresh(self) -> Bytes:
        """A new sparse file, mapped."""
        self._made += 1
        path = self._folder / f"memmap-{os.getpid()}-{self._made}.bin"
        mapped = np.memmap(path, dtype=np.uint8, mode="w+", shape=(self._pages * PAGE_SIZE,))
        flat = np.asarray(mapped)
        self._files[flat.ctypes.data] = (mapped, path)
        return flat

    def drop(self, memory: Bytes) -> None:
        """Unmap and delete."""
        _, path = self._files.pop(memory.ctypes.data)
        path.unlink()

    def push_out(self, memory: Bytes) -> None:
        """Write dirty pages to the file, then let go of the page cache."""
        mapped, path = self._files[memory.ctypes.data]
        mapped.flush()
        mapping = mapped._mmap  # type: ignore[attr-defined]
        mapping.madvise(mmap.MADV_DONTNEED)
        with path.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def held(self) -> Held:
        """Nothing is compressed and nothing is held beside the file."""
        return Held(self._pages, self._pages * PAGE_SIZE)

    def close(self) -> None:
        """Delete what is left."""
        for _, path in self._files.values():
            path.unlink(missing_ok=True)
        self._files.clear()
