"""Equal pages are stored once under programs that verify themselves: stress-ng, and the flights job."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.capability import delivery
from support.live import flights, stress
from support.sizes import MIB


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_stress_ng_shares_its_equal_pages_and_verifies(disk: Path, faults: str) -> None:
    delivery(faults)
    swap = ("--swap", f"{disk}/swap:256M")
    # Of its methods the one whose pages are alike and not of one word, all the time.
    with stress(disk, "--ram", "40M", "--faults", faults, *swap, method="gray") as program:
        program.until(lambda now: now["shared_pages"] > 100 and now["dedup_saved_bytes"] > 0)
        program.until(lambda now: now["dedup_hits"] > 5000)
        assert program.is_lawful()
        program.verified()


def test_stress_ng_shares_nothing_where_that_is_off(disk: Path) -> None:
    with stress(disk, "--ram", "40M", "--swap", f"{disk}/swap:256M", "--dedup", "off") as program:
        counters = program.until(lambda now: now["device_written_bytes"] > 64 * MIB)
        assert counters["dedup_hits"] == counters["shared_objects"] == 0
        assert program.is_lawful()
        program.verified()


def test_what_the_flights_job_shares_survives_cleaning_writeback_and_swapoff(
    disk: Path, flights_line: str
) -> None:
    first, second = f"{disk}/first", f"{disk}/second"
    with flights("--ram", "200M", "--swap", f"{first}:1G") as job:
        counters = job.counters()
        assert counters["shared_pages"] > 1000, counters
        assert counters["dedup_saved_bytes"] > 0
        assert counters["cleaned_bytes"] > 0 and counters["device_bytes"] > 40 * MIB
        job.told("swapon", f"{second}:1G")
        job.told("swapoff", first)
        assert job.counters()["shared_pages"] > 1000
        assert job.is_lawful()
        assert job.work() == flights_line
        assert job.is_lawful()
