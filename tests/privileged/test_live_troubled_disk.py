"""Block devices that are slow or return I/O errors under stress-ng, which verifies its memory."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from support.capability import delivery
from support.live import stress
from support.sizes import MIB
from support.troubled_disk import troubled_disk

pytestmark = pytest.mark.privileged
MODES = ["thread", "signal"]
DEVICE_MIB = 200


@pytest.mark.parametrize("faults", MODES)
def test_a_slow_device_slows_the_program_down_and_does_nothing_else(
    disk: Path, faults: str
) -> None:
    delivery(faults)
    with troubled_disk(disk, DEVICE_MIB, delay_ms=30) as slow:
        options = ("--ram", "40M", "--faults", faults, "--swap", slow.path)
        with stress(disk, *options, method="rand-set") as program:
            program.until(
                lambda now: (
                    now["device_written_bytes"] > 24 * MIB and now["device_read_bytes"] > 4 * MIB
                )
            )
            assert program.is_lawful()
            program.told("swapon", f"{disk}/second:256M")
            program.told("swapoff", slow.path)
            assert list(program.devices()) == [f"{disk}/second"]
            counters = program.counters()
            assert (counters["device_errors"], counters["poisoned_pages"]) == (0, 0)
            assert counters["held_peak_bytes"] <= 64 * MIB
            assert program.is_lawful()
            program.verified()


@pytest.mark.parametrize("faults", MODES)
def test_a_device_whose_writes_fail_is_closed_for_writing_and_still_read(
    disk: Path, faults: str
) -> None:
    delivery(faults)
    with troubled_disk(disk, DEVICE_MIB) as broken:
        options = ("--ram", "40M", "--faults", faults, "--swap", broken.path)
        with stress(disk, *options, method="rand-set") as program:
            program.until(lambda now: now["device_bytes"] > 8 * MIB)
            broken.refuse("pwrite")
            program.until(lambda now: now["device_errors"] > 0)
            closed = program.devices()[broken.path]
            assert (closed["state"], closed["error"]) == ("failed", errno.EIO), closed
            program.told("swapon", f"{disk}/second:256M")
            # What is on it can be read, so all of it can leave.
            program.told("swapoff", broken.path)
            assert list(program.devices()) == [f"{disk}/second"]
            assert program.counters()["poisoned_pages"] == 0
            assert program.is_lawful()
            program.verified()


@pytest.mark.parametrize("faults", MODES)
def test_a_device_whose_reads_fail_costs_pages_in_so_many_words_and_never_in_wrong_bytes(
    disk: Path, faults: str
) -> None:
    delivery(faults)
    with troubled_disk(disk, DEVICE_MIB) as broken:
        options = ("--ram", "40M", "--faults", faults, "--swap", broken.path)
        with stress(disk, *options, method="rand-set") as program:
            program.until(lambda now: now["device_bytes"] > 8 * MIB)
            broken.refuse("pread")
            # It may ask for many pages (madvise) before it touches one and dies.
            said = program.saying("cannot be read back correctly: it is poisoned")
            assert "detected" not in said
