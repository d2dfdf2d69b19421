"""Devices that fail under programs that verify themselves: stress-ng, and the flights job."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from random import Random

import pytest

from support.capability import delivery
from support.live import flights, stress
from support.sizes import MIB

MODES = ["thread", "signal"]
LOST = "vswap: a swapped page cannot be read back correctly: it is poisoned\n"


def forbid_to_grow(pid: int, most: int) -> None:
    """From now on the kernel refuses writes of this process beyond so many bytes of a file."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, hard))


@pytest.mark.parametrize("faults", MODES)
def test_a_device_without_space_under_stress_ng_is_left_alone_and_used_again_when_there_is_some(
    disk: Path, faults: str
) -> None:
    delivery(faults)
    swap = f"{disk}/swap"
    options = ("--ram", "40M", "--faults", faults, "--swap", f"{swap}:256M")
    with stress(disk, *options, method="rand-set") as program:
        program.until(lambda now: now["device_bytes"] > 4 * MIB)
        forbid_to_grow(program.pid, 0)
        # All of it is in RAM then, which the budget is too small for: told, and nothing fails.
        counters = program.until(lambda now: now["over_budget_faults"] > 0)
        assert (counters["device_errors"], counters["alloc_failures"]) == (0, 0), counters
        before = program.devices()[swap]
        assert before["state"] == "on", before
        forbid_to_grow(program.pid, resource.RLIM_INFINITY)
        more = before["written_bytes"] + 16 * MIB
        counters = program.until(lambda now: now["device_written_bytes"] > more)
        assert counters["poisoned_pages"] == 0
        assert program.is_lawful()
        program.verified()


@pytest.mark.parametrize(("how", "faults"), [("short", "thread"), ("torn", "signal")])
def test_what_a_device_lost_ends_the_flights_job_in_one_line_and_never_in_wrong_numbers(
    disk: Path, faults: str, how: str
) -> None:
    delivery(faults)
    swap, said = disk / "swap", disk / "said"
    with said.open("wb") as out:
        options = ("--ram", "200M", "--faults", faults, "--swap", f"{swap}:1G")
        with flights(*options, stderr=out.fileno()) as job:
            assert job.counters()["device_bytes"] > 40 * MIB
            spoil(swap, how)
            assert job.work() == ""
            assert job.ended() == -signal.SIGBUS
    assert said.read_text() == LOST


@pytest.mark.parametrize("faults", MODES)
def test_stress_ng_never_sees_a_wrong_byte_of_a_device_that_was_overwritten(
    disk: Path, faults: str
) -> None:
    delivery(faults)
    swap = disk / "swap"
    options = ("--ram", "40M", "--faults", faults, "--swap", f"{swap}:256M")
    with stress(disk, *options, method="rand-set") as program:
        program.until(lambda now: now["device_bytes"] > 8 * MIB)
        spoil(swap, "torn")
        said = program.lost()
        assert LOST in said
        assert "detected" not in said


def spoil(swap: Path, how: str) -> None:
    """Take what the device holds, or put something else there; its header stays."""
    if how == "short":
        os.truncate(swap, 4096)
        return
    noise = Random(1).randbytes(MIB)
    with swap.open("r+b") as out:
        for at in range(4096, swap.stat().st_size, MIB):
            out.seek(at)
            out.write(noise)
