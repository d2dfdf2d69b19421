"""What `vswap bench layers` makes of a trace and of its figures."""

from __future__ import annotations

import numpy as np
import pytest

from vswap.bench import layers, sequence
from vswap.bench.layers_replay import Spent, overhead_percent

IN, OUT, ELSE = sequence.SWAP_IN_EVENT, sequence.SWAP_OUT_EVENT, 5


def _of_events(events: list[tuple[int, int]], most_pages: int = 1 << 20) -> sequence.Sequence:
    kinds = np.array([kind for kind, _ in events], dtype=np.uint8)
    pages = np.array([page for _, page in events], dtype=np.uint32)
    return sequence.sequence_of_events(kinds, pages, most_pages, 1000)


def test_a_page_is_touched_once_where_it_first_came() -> None:
    order = sequence.first_touches(np.array([0, 5, -3, 5, 2, 0, 1 << 40]))
    assert order.tolist() == [0, 5, 2]


def test_the_recorded_sequence_is_repeated_over_larger_memory() -> None:
    recorded = sequence.RECORDED_MIB * layers.MIB // 4096
    order = sequence.spread_over(np.array([3, 1], dtype=np.uint32), 2 * recorded)
    assert order.tolist() == [3, 1, recorded + 3, recorded + 1]
    assert sequence.spread_over(np.array([3, 1], dtype=np.uint32), 3).tolist() == [1]


def test_what_the_layer_adds_is_the_median_of_the_repeats_own_ratios() -> None:
    direct, virtual = Spent([100.0, 90.0, 5000.0]), Spent([103.0, 1.0, 9000.0])
    assert overhead_percent(direct, virtual) == pytest.approx(3.0)


def test_a_step_is_never_longer_than_asked_for_and_none_is_left_out() -> None:
    touched = np.array([7, 3, 1, 2, 0], dtype=np.uint32)
    steps = list(sequence.Round([(0, 5), (8, 1), (16, 2)], touched).slices(3))
    assert [one.out_runs for one in steps if one.out_runs] == [
        [(0, 3)],
        [(3, 2), (8, 1)],
        [(16, 2)],
    ]
    assert [one.touched.tolist() for one in steps if one.touched.size] == [[7, 3, 1], [2, 0]]
    assert list(sequence.Round([], touched[:0]).slices(3)) == []


def test_a_page_goes_out_again_only_after_it_came_back_as_recorded() -> None:
    made = _of_events([(OUT, 160), (OUT, 161), (ELSE, 7), (IN, 160), (OUT, 3200), (OUT, 161)])
    told = [(one.out_runs, one.touched.tolist()) for one in made.rounds]
    assert made.pages == 32
    assert told == [([(0, 2), (16, 1)], [0]), ([(1, 1)], [])]


def test_a_recording_that_is_too_large_is_thinned_by_whole_mibs_with_all_their_events() -> None:
    events = [(OUT, page) for page in range(0, 8 * 256, 4)] + [(IN, 4), (IN, 256), (IN, 512)]
    made = _of_events(events, most_pages=4 * 256)
    assert (made.kept_mib, made.recorded_mib, made.pages) == (4, 8, 4 * 256)
    assert made.rounds[0].touched.tolist() == [4, 256]
    assert sum(count for _, count in made.rounds[0].out_runs) == 256
    fewer = sequence.sequence_of_events(
        np.array([kind for kind, _ in events]), np.array([page for _, page in events]), 1 << 20, 300
    )
    assert fewer.kept_mib == 4
