"""`SwapSpace.trace`: what the engine notes about pages."""

from __future__ import annotations

import pytest

from support.capability import delivery
from support.child import Child


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_a_trace_tells_what_happened_to_pages_and_nothing_when_it_is_off(faults: str) -> None:
    delivery(faults)
    Child(None)(
        f"""
import numpy as np
import vswap
space = vswap.SwapSpace("48M", faults={faults!r}, devices=[])
a = space.empty((64, 1 << 17), "i8")
for row in range(64):
    a[row] = np.arange(1 << 17) + row
assert space.trace().size == 0
space.trace(on=True)
for row in range(64):
    assert np.array_equal(a[row], np.arange(1 << 17) + row), row
events = space.trace(on=False)
kinds = set(events["event"].tolist())
assert {{3, 4, 5}} <= kinds <= {{1, 2, 3, 4, 5}}, kinds
assert (np.diff(events["number"].astype(np.int64)) > 0).all()
assert (events["duration_ns"] > 0).all() and events["thread"].all()
last = int(events["number"][-1])
for row in range(64):
    assert np.array_equal(a[row], np.arange(1 << 17) + row), row
assert space.trace(since=last + 1).size < 64, space.trace(since=last + 1)
assert space.check() == ()
""",
        timeout=120,
    )
