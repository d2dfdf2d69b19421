"""Block devices that are slow or return I/O errors under stress-ng, which verifies its memory."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.capability import delivery
from support.live import Stress, stress
from support.running import Running
from support.sizes import MIB
from support.troubled_disk import TroubledDisk, troubled_disk

pytestmark = pytest.mark.privileged
MODES = ["thread", "signal"]
DEVICE_MIB = 200


@contextmanager
def at_work(disk: Path, faults: str, *, delay_ms: int = 0) -> Iterator[tuple[TroubledDisk, Stress]]:
    """A device, and stress-ng with some of its memory on it."""
    delivery(faults)
    with troubled_disk(disk, DEVICE_MIB, delay_ms) as device:
        options = ("--ram", "40M", "--faults", faults, "--swap", device.path)
        with stress(disk, *options, method="rand-set") as program:
            program.until(lambda now: now["device_bytes"] > 8 * MIB)
            yield device, program


def moves_to_another(program: Stress, device: TroubledDisk, disk: Path) -> None:
    """All that is on the device leaves it for another one, and every byte is right."""
    second = f"{disk}/second"
    program.told("swapon", f"{second}:256M")
    program.told("swapoff", device.path)
    assert list(program.devices()) == [second]
    assert program.counters()["poisoned_pages"] == 0
    assert program.is_lawful()
    program.verified()


@pytest.mark.parametrize("faults", MODES)
def test_a_slow_device_slows_the_program_down_and_does_nothing_else(
    disk: Path, faults: str
) -> None:
    with at_work(disk, faults, delay_ms=30) as (slow, program):
        program.until(lambda now: now["device_written_bytes"] > 24 * MIB)
        counters = program.until(lambda now: now["device_read_bytes"] > 4 * MIB)
        assert counters["device_errors"] == 0
        assert counters["held_peak_bytes"] <= 64 * MIB
        assert program.is_lawful()
        moves_to_another(program, slow, disk)


@pytest.mark.parametrize("faults", MODES)
def test_a_device_whose_writes_fail_is_closed_for_writing_and_still_read(
    disk: Path, faults: str
) -> None:
    with at_work(disk, faults) as (broken, program):
        broken.refuse("pwrite")
        program.until(lambda now: now["device_errors"] > 0)
        closed = program.devices()[broken.path]
        assert (closed["state"], closed["error"]) == ("failed", errno.EIO), closed
        moves_to_another(program, broken, disk)


@pytest.mark.parametrize("faults", MODES)
def test_a_device_whose_reads_fail_costs_pages_in_so_many_words_and_never_in_wrong_bytes(
    disk: Path, faults: str
) -> None:
    with at_work(disk, faults) as (broken, program):
        broken.refuse("pread")
        # It may ask for many pages (madvise) before it touches one and dies.
        said = program.saying("cannot be read back correctly: it is poisoned")
        assert "detected" not in said


PREFETCHES = """
import sys
import numpy as np, vswap
with vswap.SwapSpace("32M", devices=[sys.argv[1]], faults=sys.argv[2], dedup="off") as space:
    noise = np.frombuffer(np.random.default_rng(5).bytes(64 << 20), dtype=np.uint64)
    array = space.array(noise)
    print("ready", flush=True)
    for line in sys.stdin:
        before = space.stats()
        if line == "touch\\n":
            print(bool((array == noise).all()), space.check(), flush=True)
            continue
        space.prefetch(array)
        now = space.stats() - before
        print(now.faults, now.poisoned_pages, now.device_errors > 0, flush=True)
"""


@pytest.mark.parametrize("faults", MODES)
def test_a_prefetch_of_what_cannot_be_read_for_a_while_costs_no_page(
    disk: Path, faults: str
) -> None:
    delivery(faults)
    with troubled_disk(disk, DEVICE_MIB) as device:
        program = Running(sys.executable, "-c", PREFETCHES, device.path, faults)
        try:
            device.refuse("pread")
            assert program.work("prefetch") == "0 0 True"
            device.allow("pread")
            assert program.work("touch") == "True ()"
        finally:
            program.end()
