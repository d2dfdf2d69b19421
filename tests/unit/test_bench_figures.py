"""What `vswap bench` makes of turns: each is compared with what stood beside it."""

from __future__ import annotations

from typing import Any

from vswap.bench.record import joined, results_of


def turn(swap_out: float, metadata: float, log: float) -> dict[str, Any]:
    return {
        "status": "ok",
        "samples": {"swap_out_cpu": [swap_out], "metadata": [metadata]},
        "latencies_us": {},
        "overhead_per_page": {"log": log},
    }


def test_turns_are_joined_in_order_and_what_bytes_are_for_is_a_median() -> None:
    said = joined([turn(2.0, 40.0, 1.0), turn(3.0, 44.0, 9.0), turn(1.0, 38.0, 2.0)])
    assert said["samples"] == {"swap_out_cpu": [2.0, 3.0, 1.0], "metadata": [40.0, 44.0, 38.0]}
    assert said["overhead_per_page"] == {"log": 2.0}


def test_a_contender_that_fails_in_a_later_turn_has_no_figures() -> None:
    failed = {"status": "failed", "reason": "ended with 1: no"}
    (result,) = results_of({"vswap-thread": joined([turn(1.0, 1.0, 1.0), failed])})
    assert (result.status, result.reason, result.figures) == ("failed", "ended with 1: no", {})


def test_a_machine_that_becomes_slow_for_a_turn_changes_no_comparison() -> None:
    # Twice as fast as the baseline in each turn; the machine is ten times slower in two of three.
    ours, theirs = (1.0, 10.0, 10.0), (2.0, 20.0, 20.0)
    raw = {
        "vswap-thread": joined([turn(cost, 38.0, 0.0) for cost in ours]),
        "zram-lz4": joined([turn(cost, 66.0, 0.0) for cost in theirs]),
    }
    figures = results_of(raw)[0].figures["swap_out_cpu"]
    assert (figures.against_baseline, figures.met) == (2.0, True)
    # And where it is slow beside one contender only, one turn of three does not decide.
    raw["vswap-thread"] = joined([turn(cost, 38.0, 0.0) for cost in (10.0, 10.0, 10.0)])
    figures = results_of(raw)[0].figures["swap_out_cpu"]
    assert (figures.against_baseline, figures.met) == (2.0, True)
