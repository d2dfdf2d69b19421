"""The job of `vswap bench writes`: what a NumPy program does to memory that does not fit.

The data are a job's ordinary heap (`data.py`), changed and read in and out of order; one hash of all of it at the end.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np

from vswap.bench.data import SEED, fill_from

PAGE = 4096
ROUNDS = 3


def main(words: list[str]) -> int:
    """Run it on the pages of a file, `words[0]`, of which there are `words[1]`."""
    pages = int(words[1])
    memory = np.empty(pages * PAGE, dtype=np.uint8)
    fill_from(Path(words[0]), memory)
    rows = memory.reshape(pages, PAGE)
    rng = np.random.default_rng(SEED)
    for turn in range(ROUNDS):
        rows[rng.permutation(pages)[: pages // 4], 64] = turn
        rows[:, 128] += 1
        picked = rows[rng.permutation(pages)[: pages // 4], 64:72]
        memory[:8] = picked.sum(axis=0, dtype=np.uint64).astype(np.uint8)
    print(hashlib.sha256(memory.data).hexdigest())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
