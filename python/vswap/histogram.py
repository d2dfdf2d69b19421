"""Read the engine's latency histogram: four buckets an octave from 256 ns.

The same boundaries as crates/units (kept equal by test).
"""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_SHIFT = 8
LAST_SHIFT = 34
BUCKETS = (LAST_SHIFT - FIRST_SHIFT) * 4 + 2


def upper_bound(index: int) -> int:
    """Return the first ns past bucket ``index``; the open last one, twice its start."""
    if index <= 0:
        return 1 << FIRST_SHIFT
    if index >= BUCKETS - 1:
        return 2 << LAST_SHIFT
    octave, quarter = divmod(index - 1, 4)
    return (5 + quarter) << (FIRST_SHIFT + octave - 2)


def quantile(buckets: Sequence[int], q: float) -> int:
    """Return an upper bound in ns of the ``q``-quantile; 0 for an empty histogram."""
    total = sum(buckets)
    if total == 0:
        return 0
    rank = min(max(math.ceil(total * min(max(q, 0.0), 1.0)), 1), total)
    seen = 0
    for index, count in enumerate(buckets):
        seen += count
        if seen >= rank:
            return upper_bound(index)
    return upper_bound(BUCKETS - 1)


def merge(histograms: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Add histograms bucket by bucket, as for the processes of a tree."""
    return tuple(sum(column) for column in zip(*histograms, strict=True)) if histograms else ()
