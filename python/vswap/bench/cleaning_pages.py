"""The pages of `vswap bench cleaning`: every one distinct, told by its number, and made as fast as it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vswap.bench.data import PAGE_SIZE, SEED

if TYPE_CHECKING:
    from vswap.bench.data import Bytes

Numbers = np.ndarray[Any, np.dtype[np.int64]]

NOISE_BYTES = (1000, 1400, 1800)
"""What does not compress of a page, in turns: a third of each, about 2.9 to 1 in all."""
_POOL_BYTES = 1 << 20
_SPREAD = 40_503
"""Odd, so that neighbouring pages begin far apart in the pool."""


class Pages:
    """Makes the page of any number: the number itself, noise that begins where the number says, zeros."""

    def __init__(self) -> None:
        """Draw the noise that all pages take theirs from."""
        pool = np.random.default_rng(SEED).integers(0, 256, _POOL_BYTES, dtype=np.uint8)
        self._noise = np.lib.stride_tricks.sliding_window_view(pool, PAGE_SIZE)

    def of(self, numbers: Numbers) -> Bytes:
        """Return the pages of these numbers, one a row."""
        rows = np.zeros((numbers.size, PAGE_SIZE), dtype=np.uint8)
        starts = numbers * _SPREAD % len(self._noise)
        for kind, size in enumerate(NOISE_BYTES):
            mine = numbers % len(NOISE_BYTES) == kind
            rows[mine, 8 : 8 + size] = self._noise[starts[mine], :size]
        rows[:, :8] = numbers.reshape(-1, 1).view(np.uint8)
        return rows

    def are_right(self, memory: Bytes, numbers: Numbers) -> bool:
        """Whether these rows hold the pages of these numbers, byte for byte."""
        return bool(np.array_equal(memory, self.of(numbers)))
