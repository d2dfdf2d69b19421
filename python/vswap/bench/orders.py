"""In which order pages are touched; the same orders for every contender."""

from __future__ import annotations

from typing import Any

import numpy as np

from vswap.bench.data import SEED

Order = np.ndarray[Any, np.dtype[np.uint32]]
BLOCK_PAGES = 16
"""Pages of one 64 KiB block, the unit of vswap's fault-around."""


def sequential(pages: int) -> Order:
    """Every page once, upwards."""
    return np.arange(pages, dtype=np.uint32)


def random(pages: int) -> Order:
    """Every page once, in a fixed random order."""
    return np.random.default_rng(SEED).permutation(pages).astype(np.uint32)


def sparse(pages: int) -> Order:
    """One page of each 64 KiB block in a random order: nobody's fault-around can help."""
    rng = np.random.default_rng(SEED + 1)
    blocks = rng.permutation(pages // BLOCK_PAGES)
    inside = rng.integers(0, BLOCK_PAGES, blocks.size)
    return (blocks * BLOCK_PAGES + inside).astype(np.uint32)
