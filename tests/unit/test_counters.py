"""The list of counters is one list, in Rust, in Python and in the statistics."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from vswap.counters import COUNTERS, NAMES
from vswap.histogram import BUCKETS, merge, quantile, upper_bound
from vswap.stats import SpaceStats

UNITS = Path(__file__).parents[2] / "crates" / "units" / "src"


def test_the_python_list_equals_the_engines() -> None:
    source = (UNITS / "engine_counters.rs").read_text()
    rows = re.findall(r'^\s+(gauge|peak|counter) (\w+) "(.*)";', source, re.M)
    assert rows == [(info.kind, info.name, info.help) for info in COUNTERS]


def test_every_counter_is_a_field_of_the_statistics() -> None:
    assert [field.name for field in dataclasses.fields(SpaceStats)] == list(NAMES)


def test_every_quantity_has_its_unit_in_its_name() -> None:
    for info in COUNTERS:
        if info.help.startswith(("RAM", "bytes", "compressed bytes")):
            assert info.name.endswith("_bytes"), info.name
        if info.help.startswith("nanoseconds"):
            assert info.name.endswith("_ns"), info.name


def test_the_difference_of_two_snapshots_is_one() -> None:
    before = SpaceStats(faults=10, resident_pages=50, held_peak_bytes=70, ram_budget_bytes=100)
    after = SpaceStats(faults=15, resident_pages=20, held_peak_bytes=90, ram_budget_bytes=200)
    change = after - before
    assert isinstance(change, SpaceStats)
    assert (change.faults, change.resident_pages) == (5, -30)
    assert (change.held_peak_bytes, change.ram_budget_bytes) == (90, 200)


def test_a_snapshot_is_frozen_and_ignores_counters_of_a_newer_engine() -> None:
    stats = SpaceStats.from_values({"faults": 3, "counter_of_tomorrow": 1})
    assert stats.faults == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.faults = 4  # type: ignore[misc]


def test_the_ratio_is_unknown_while_nothing_is_stored() -> None:
    assert SpaceStats().ratio is None
    assert SpaceStats(stored_pages=4, stored_bytes=4096).ratio == 4.0


def test_the_buckets_are_the_engines() -> None:
    source = (UNITS / "histogram.rs").read_text()
    first, last = (
        int(re.search(rf"{name}_SHIFT: u32 = (\d+)", source)[1])  # type: ignore[index]
        for name in ("FIRST", "LAST")
    )
    assert (last - first) * 4 + 2 == BUCKETS
    assert [upper_bound(i) for i in (0, 1, 2, 4, 5)] == [256, 320, 384, 512, 640]
    assert all(upper_bound(i) < upper_bound(i + 1) for i in range(BUCKETS - 1))


def test_quantiles_never_flatter() -> None:
    buckets = [0] * BUCKETS
    buckets[17] = 99  # 4096 to 5120 ns
    buckets[80] = 1
    assert quantile(buckets, 0.5) == 5120
    assert quantile(buckets, 0.99) == 5120
    assert quantile(buckets, 1.0) == upper_bound(80)
    assert quantile([0] * BUCKETS, 0.5) == 0
    assert quantile((), 0.5) == 0


def test_histograms_of_a_tree_are_added() -> None:
    assert merge([(1, 2), (3, 4)]) == (4, 6)
    assert merge([]) == ()
