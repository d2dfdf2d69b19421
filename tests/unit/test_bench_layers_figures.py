"""What `vswap bench layers` makes of a trace and of its figures."""

from __future__ import annotations

import numpy as np
import pytest

from vswap.bench import layers


def test_a_page_is_touched_once_where_it_first_came() -> None:
    order = layers._first_touches(np.array([0, 5, -3, 5, 2, 0, 1 << 40]))
    assert order.tolist() == [0, 5, 2]


def test_the_recorded_sequence_is_repeated_over_larger_memory() -> None:
    recorded = layers.RECORDED_MIB * layers.MIB // 4096
    order = layers.spread_over(np.array([3, 1], dtype=np.uint32), 2 * recorded)
    assert order.tolist() == [3, 1, recorded + 3, recorded + 1]
    assert layers.spread_over(np.array([3, 1], dtype=np.uint32), 3).tolist() == [1]


def test_what_the_layer_adds_is_told_from_neighbouring_turns() -> None:
    direct, virtual = layers.Spent([100.0, 90.0, 5000.0]), layers.Spent([103.0, 1.0, 9000.0])
    assert layers.overhead_percent(direct, virtual) == pytest.approx(3.0)
