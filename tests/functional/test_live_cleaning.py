"""The cleaner under programs that verify themselves: stress-ng, and the flights job."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.capability import delivery
from support.live import flights, stress
from support.sizes import MIB, sized

CLEANED_MIB = sized(24, 1024)
COPIED_PER_FREED = sized(2, 2.6)
"""Bytes copied for a byte freed, at most. Pages that die at random empty a segment exponentially, from full down to the
part u at which it is the emptiest: (u - 1) / ln u of the log is alive. The cleaner keeps that at 85 %, so u is 72 %, and
emptying the emptiest copies u / (1 - u) = 2.52 bytes for each it frees. A small run ends before it is as dear as that."""


def utilisation(counters: dict[str, int]) -> float:
    """Of the bytes of all segments, the part that lives."""
    return counters["stored_bytes"] / (counters["pool_bytes"] + counters["device_bytes"])


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_stress_ng_swaps_pages_at_random_while_the_cleaner_gathers(disk: Path, faults: str) -> None:
    delivery(faults)
    swap = ("--swap", f"{disk}/swap:256M")
    with stress(disk, "--ram", "40M", "--faults", faults, *swap, method="swap") as program:
        program.until(lambda now: now["cleaned_bytes"] > CLEANED_MIB * MIB)
        counters = program.counters()
        # Each page at random is the dearest there is; still the log stays dense, at a cost that is bounded.
        assert utilisation(counters) > 0.5, counters
        assert counters["cleaned_bytes"] < COPIED_PER_FREED * counters["swap_out_bytes"], counters
        assert program.is_lawful()
        program.verified()


def test_the_cleaner_copies_little_for_the_flights_job(disk: Path, flights_line: str) -> None:
    with flights("--ram", "200M", "--swap", f"{disk}/swap:1G") as job:
        assert job.work() == flights_line
        counters = job.counters()
        assert counters["cleaned_bytes"] > MIB, counters
        assert counters["cleaned_bytes"] * 10 < counters["swap_out_bytes"], counters
        assert utilisation(counters) > 0.5, counters
        assert job.is_lawful()
