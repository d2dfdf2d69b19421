"""`vswap bench metadata` on a small layer of the real engine."""

from __future__ import annotations

from support.child import Child


def test_a_layers_tables_grow_with_its_use_and_are_given_back() -> None:
    Child(None)(
        """
from vswap.bench.metadata import as_json, measure
entries = 1 << 16
rows = list(measure(entries))
dense = [row for row in rows if row.order == "dense"]
assert [row.use_percent for row in dense] == [0, 25, 50, 75, 100]
assert dense[0].met(entries), dense[0]
for row in dense[1:]:
    used = entries * row.use_percent // 100
    assert 8 * used <= row.descriptors <= 8 * used + 8192, row
    assert row.object_headers == 12 * used, row
    assert row.padding < 4 * used and row.counts == 0, row
empty = rows[-1]
assert (empty.order, empty.use_percent) == ("sparse", 0)
assert empty.descriptors <= 8192 and empty.object_headers == empty.padding == 0, empty
assert len(as_json(entries, rows)["kernel_mb"]) == 4
""",
        timeout=120,
    )
