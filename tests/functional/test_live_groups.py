"""Groups of programs that verify themselves and know nothing of vswap: stress-ng, and the flights job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.capability import delivery
from support.live import flights, stress
from support.program import Managed, run
from support.sizes import MIB, sized

if TYPE_CHECKING:
    from support.compile import Compiler

MODES = ["thread", "signal"]
SEGMENT = 256 << 10
LOOKS = sized(8, 80)
HEADER_BYTES = 4096


@pytest.mark.parametrize("faults", MODES)
def test_limits_of_the_group_of_stress_ng_hold_and_change_while_it_runs(
    disk: Path, faults: str
) -> None:
    delivery(faults)
    swap = disk / "swap"
    options = ("--ram", "200M", "--faults", faults, "--swap", f"{swap}:256M")
    limits = "job:ram_max=48M,zswap_max=8M"
    with stress(disk, *options, "--group", limits, method="rand-set") as program:
        program.until(lambda now: now["device_bytes"] > 8 * MIB)
        for _ in range(LOOKS):
            job = program.groups()["job"]
            assert job["compressed_bytes"] <= 8 * MIB + SEGMENT, job
            assert job["ram_bytes"] <= 48 * MIB + SEGMENT, job
        assert job["ram_max_events"] > 0 and job["zswap_max_events"] > 0, job
        # It alone: the budget has room for all of it.
        assert program.counters()["held_bytes"] < 100 * MIB
        tree = program.told("stat")
        assert "job" in tree and "48.0 MiB" in tree and "8.0 MiB" in tree
        assert "below what the group holds" in program.refused("set", "--limit", "job:ram_max=1M")
        assert program.groups()["job"]["ram_max_bytes"] == 48 * MIB
        program.told("set", "--limit", "job:ram_max=none,zswap_max=none")
        program.until(lambda now: now["swapped_pages"] == 0 or now["held_bytes"] > 100 * MIB)
        assert "ram_max_bytes" not in program.groups()["job"]
        assert program.is_lawful()
        program.verified()


@pytest.mark.parametrize("faults", MODES)
def test_stress_ng_has_no_more_on_a_device_than_its_group_may(disk: Path, faults: str) -> None:
    delivery(faults)
    options = ("--ram", "64M", "--faults", faults, "--swap", f"{disk}/swap:256M")
    with stress(disk, *options, "--group", "job:swap_max=4M", method="rand-set") as program:
        program.until(lambda now: now["device_written_bytes"] > 8 * MIB)
        for _ in range(LOOKS):
            assert program.groups()["job"]["device_bytes"] <= 4 * MIB
        assert program.groups()["job"]["swap_max_events"] > 0
        assert program.is_lawful()
        program.verified()


@pytest.mark.parametrize("faults", MODES)
def test_no_byte_of_the_flights_job_is_on_a_device_until_its_group_may_write_back(
    disk: Path, flights_line: str, faults: str
) -> None:
    delivery(faults)
    swap = disk / "swap"
    options = ("--ram", "600M", "--faults", faults, "--swap", f"{swap}:1G")
    with flights(*options, "--group", "job:writeback=off") as job:
        assert job.work() == flights_line
        assert job.counters()["swap_out_pages"] > 10_000
        assert job.groups()["job"]["compressed_bytes"] > 16 * MIB
        assert job.told("set", "--drain", "job=8M").endswith("MiB moved\n")
        assert job.groups()["job"]["device_bytes"] == job.counters()["device_written_bytes"] == 0
        assert is_empty(swap)
        job.told("set", "--limit", "job:writeback=on")
        before = job.groups()["job"]
        assert job.told("set", "--drain", "job=8M") == f"{job.pid}: job: 8.0 MiB moved\n"
        after = job.groups()["job"]
        assert after["device_bytes"] - before["device_bytes"] >= 8 * MIB
        assert not is_empty(swap)
        assert job.work() == flights_line
        assert job.is_lawful()


def is_empty(swap: Path) -> bool:
    """Whether a swap file holds its header and nothing else."""
    with swap.open("rb") as stream:
        stream.seek(HEADER_BYTES)
        return not any(any(part) for part in iter(lambda: stream.read(MIB), b""))


def test_a_program_without_groups_is_drained_as_a_whole(disk: Path, flights_line: str) -> None:
    with flights("--ram", "600M", "--swap", f"{disk}/swap:1G") as job:
        before = job.counters()
        assert job.told("set", "--drain", "8M") == f"{job.pid}: 8.0 MiB moved\n"
        written = job.until(lambda now: now["device_bytes"] > before["device_bytes"])
        assert written["device_written_bytes"] - before["device_written_bytes"] >= 8 * MIB
        assert "whole space" in job.refused("set", "--limit", "/:zswap_max=1M")
        assert "no group" in job.refused("set", "--limit", "job:zswap_max=1M")
        assert job.work() == flights_line
        assert job.is_lawful()


@pytest.mark.parametrize("faults", MODES)
@pytest.mark.parametrize(
    "program",
    [
        ("partial_ranges",),
        ("huge_pages",),
        ("random_operations", sized("4", "60"), "1"),
        ("fork_pages", sized("2", "40")),
        ("thread_churn", sized("3", "60")),
        ("random_writers", sized("3", "60"), "128"),
    ],
    ids=lambda program: program[0],
)
def test_all_memory_of_a_program_may_belong_to_a_group(
    compiled: Compiler, disk: Path, program: tuple[str, ...], faults: str
) -> None:
    delivery(faults)
    # As in test_programs_hygiene: signal mode leaves some mappings alone unless asked.
    options = ("--min-alloc", "64K", "--group", "job:ram_max=40M,zswap_max=16M")
    how = Managed(48, swap=f"{disk}/swap:512M", faults=faults, options=options)
    env = {"VSWAP_TEST_MANAGED": "1"}
    command = [compiled(program[0]), *program[1:]]
    done = run(command, how, env=env, timeout=sized(150, 1000), cwd=disk).succeeded()
    counted = [process["counters"] for process in done.report["per_process"]]
    assert max(counters["groups"] for counters in counted) == 1
