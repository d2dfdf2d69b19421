"""Swap devices under programs that verify themselves: stress-ng, and the flights job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.capability import delivery
from support.live import flights, stress
from support.sizes import MIB, sized

MODES = ["thread", "signal"]
ROUNDS = sized(4, 40)
MOST_PASSES = 20
KERNEL_SHARE_PERCENT = 40
"""Bytes to a device for each page that leaves memory, of what kernel swap writes for it."""


def occupied(path: Path) -> int:
    """What the file really takes of its disk."""
    return path.stat().st_blocks * 512


@pytest.mark.parametrize("faults", MODES)
def test_stress_ng_fills_a_device_spills_to_the_next_and_its_cold_data_moves_down(
    disk: Path, faults: str
) -> None:
    delivery(faults)
    fast, slow = disk / "fast", disk / "slow"
    swap = ("--swap", f"{fast}:16M@5", "--swap", f"{slow}:256M@1")
    with stress(disk, "--ram", "40M", "--faults", faults, *swap, method="rand-set") as program:
        program.until(lambda now: now["demoted_bytes"] > 0)
        program.until(lambda now: now["device_written_bytes"] > 192 * MIB)
        on = program.devices()
        assert list(on) == [str(fast), str(slow)]
        assert on[str(fast)]["used_bytes"] <= 16 * MIB
        # The next was written to while the first had no room, not by moving alone.
        moved = program.counters()["demoted_bytes"]
        assert program.devices()[str(slow)]["written_bytes"] > 2 * moved
        # What was freed was given back: the files hold what lives now, not all that was written.
        assert min(device["discards"] for device in on.values()) > 0
        assert occupied(fast) + occupied(slow) < 160 * MIB
        program.told("swapoff", str(fast))
        assert occupied(fast) < MIB
        assert list(program.devices()) == [str(slow)]
        assert program.is_lawful()
        program.verified()


@pytest.mark.parametrize("faults", MODES)
def test_stress_ng_uses_plain_slots_beside_a_full_device_and_loses_them(
    disk: Path, faults: str
) -> None:
    delivery(faults)
    fast, slots, late = f"{disk}/fast", f"{disk}/slots", f"{disk}/late"
    swap = ("--swap", f"{fast}:16M", "--swap", f"slots:{slots}:256M")
    with stress(disk, "--ram", "40M", "--faults", faults, *swap, method="rand-set") as program:
        program.until(lambda now: now["slot_pages"] > 256 and now["device_written_bytes"] > 0)
        assert {device["kind"] for device in program.devices().values()} == {"file", "slots"}
        program.told("swapon", f"{late}:256M", "--priority", "9")
        program.told("swapoff", slots)
        program.until(lambda now: now["slot_pages"] == 0)
        assert list(program.devices()) == [late, fast]
        assert program.is_lawful()
        program.verified()


@pytest.mark.parametrize("faults", MODES)
def test_devices_are_taken_off_stress_ng_one_after_the_other(disk: Path, faults: str) -> None:
    delivery(faults)
    swap = ("--swap", f"{disk}/0:256M")
    with stress(disk, "--ram", "40M", "--faults", faults, *swap, method="rand-set") as program:
        program.until(lambda now: now["device_bytes"] > 8 * MIB)
        moved = 0
        for number in range(ROUNDS):
            program.told("swapon", f"{disk}/{number + 1}:256M")
            done = program.told("swapoff", f"{disk}/{number}", "--json")
            moved += json.loads(done)["moved_bytes"]
            assert list(program.devices()) == [f"{disk}/{number + 1}"]
            assert occupied(disk / str(number)) < MIB
            assert program.is_lawful()
        assert moved > ROUNDS * 4 * MIB
        program.verified()


def test_what_the_flights_job_reads_again_moves_up_and_its_old_device_leaves(
    disk: Path, flights_line: str
) -> None:
    slow, fast = f"{disk}/slow", f"{disk}/fast"
    with flights("--ram", "200M", "--swap", f"{slow}:1G@1") as job:
        assert job.devices()[slow]["used_bytes"] > 40 * MIB
        job.told("swapon", f"{fast}:512M@9")
        for _ in range(MOST_PASSES):
            assert job.work() == flights_line
            if job.counters()["promoted_bytes"] > 0:
                break
            # What came back whole before anybody looked has left the slow device for good: once more from there.
            job.told("swapoff", fast)
            job.told("swapon", f"{fast}:512M@9")
        else:
            raise AssertionError(job.devices())
        assert job.devices()[fast]["used_bytes"] > 0
        done = job.told("swapoff", slow, "--json")
        assert json.loads(done)["moved_bytes"] > 20 * MIB
        assert list(job.devices()) == [fast]
        assert job.work() == flights_line
        assert job.is_lawful()


def test_the_flights_job_writes_little_for_each_page_and_that_in_sequence(
    disk: Path, flights_line: str
) -> None:
    with flights("--ram", "200M", "--swap", f"{disk}/swap:1G") as job:
        assert job.work() == flights_line
        counters, (device,) = job.counters(), job.devices().values()
        told = Path(f"/proc/{job.pid}/io").read_text().split()
        by_kernel = int(told[told.index("write_bytes:") + 1])
        written, pages = counters["device_written_bytes"], counters["swap_out_pages"]
        assert pages > 100_000
        assert 0 < written <= pages * 4096 * KERNEL_SHARE_PERCENT // 100, counters
        # Whole segments, and the kernel counted the same bytes.
        assert device["written_bytes"] == device["writes"] * (256 << 10)
        assert device["sequential_writes"] > device["writes"] * 7 // 10, device
        assert written * 0.98 <= by_kernel, (written, by_kernel)
        assert job.is_lawful()
