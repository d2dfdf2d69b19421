"""The command line over the real engine."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.child import Child

MIB = 1 << 20
CLI = Child(None)

WORK = """
import hashlib
rows = [bytes([i % 7, i % 251]) * (1 << 19) for i in range(160)]
whole = hashlib.sha256()
for _ in range(2):
    for row in rows:
        whole.update(row)
print(whole.hexdigest())
"""


def expected() -> str:
    whole = hashlib.sha256()
    for _ in range(2):
        for i in range(160):
            whole.update(bytes([i % 7, i % 251]) * (1 << 19))
    return whole.hexdigest()


def reported(tmp_path: Path, *options: str, **environ: str) -> tuple[str, dict[str, Any]]:
    """Run WORK with a report; what it printed and the report."""
    path = tmp_path / "report.json"
    words = ["run", *options, "--report-json", str(path), sys.executable, "-c", WORK]
    done = CLI.cli(*words, **environ)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), json.loads(path.read_text())


@pytest.mark.parametrize("swap", ["none", "auto", "file"])
def test_a_program_ends_with_the_same_result_in_a_third_of_its_memory(
    tmp_path: Path, swap: str
) -> None:
    place = f"/var/tmp/vswap-test-{os.getpid()}:512M" if swap == "file" else swap
    try:
        out, report = reported(tmp_path, "--ram", "64M", "--swap", place)
    finally:
        Path(place.partition(":")[0]).unlink(missing_ok=True) if swap == "file" else None
    assert out == expected()
    assert report["held_peak_bytes"] <= (64 + 24) * MIB
    assert report["swapped_peak_bytes"] >= 90 * MIB
    assert report["swap_out_pages"] > 20_000
    assert report["swap_in_pages"] > 20_000
    assert 0 < report["fault_p50_ns"] <= report["fault_p99_ns"]
    assert report["waited_seconds"] > 0
    assert report["fault_delivery"] in ("thread", "signal")


def test_the_options_may_come_from_the_environment(tmp_path: Path) -> None:
    out, report = reported(tmp_path, VSWAP_RAM="80M", VSWAP_CODEC="zstd:3", VSWAP_SWAP="none")
    assert out == expected()
    assert report["ram_budget_bytes"] == 80 * MIB


def test_the_counters_are_there_after_the_command_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    program = WORK + "\nimport os, time; time.sleep(0.3); os.kill(os.getpid(), 9)"
    words = ["run", "--ram", "64M", "--report-json", str(path), sys.executable, "-c", program]
    assert CLI.cli(*words).returncode == -signal.SIGKILL
    assert json.loads(path.read_text())["swap_out_pages"] > 20_000


def test_stat_and_set_act_on_a_running_program() -> None:
    program = WORK + "\nimport time; print('ready', flush=True); time.sleep(60)"
    command = [sys.executable, "-m", "vswap", "run", "--ram", "96M", sys.executable, "-c", program]
    process = subprocess.Popen(command, env=CLI.environ(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline().strip() == expected()
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        told = json.loads(CLI.cli("stat", "--json", "--pid", str(process.pid)).stdout)[0]
        assert told["counters"]["ram_budget_bytes"] == 96 * MIB
        assert told["counters"]["swapped_pages"] > 0
        assert told["config"]
        assert 0 <= told["age_seconds"] < 600
        done = CLI.cli("set", "--pid", str(process.pid), "--ram", "64M")
        assert done.returncode == 0, done.stderr
        until = time.monotonic() + 5
        while time.monotonic() < until:
            told = json.loads(CLI.cli("stat", "--json", "--pid", str(process.pid)).stdout)[0]
            if told["counters"]["held_bytes"] <= 88 * MIB:
                break
            time.sleep(0.05)
        assert told["counters"]["held_bytes"] <= 88 * MIB
    finally:
        process.kill()
        process.wait()


def test_stat_shows_every_space_of_a_program_and_set_asks_for_the_program() -> None:
    program = (
        "import vswap, time\n"
        "spaces = [vswap.SwapSpace('64M', devices=[]), vswap.SwapSpace('48M', devices=[])]\n"
        "arrays = [space.ones(1 << 20) for space in spaces]\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program]
    process = subprocess.Popen(command, env=CLI.environ(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        told = json.loads(CLI.cli("stat", "--json", "--pid", str(process.pid)).stdout)
        budgets = sorted(space["counters"]["ram_budget_bytes"] for space in told)
        assert budgets == [48 * MIB, 64 * MIB]
        refused = CLI.cli("set", "--pid", str(process.pid), "--ram", "32M")
        assert refused.returncode == 1
        assert "2 spaces" in refused.stderr
    finally:
        process.kill()
        process.wait()


def test_without_a_budget_of_ones_own_the_default_is_seventy_percent(tmp_path: Path) -> None:
    from vswap.run.limits import memory_limit

    _, report = reported(tmp_path)
    share = report["ram_budget_bytes"] / memory_limit().bytes
    assert 0.69 < share <= 0.70


def test_a_tree_of_processes_is_reported_together(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    program = "import subprocess, sys; [subprocess.run([sys.executable, '-c', %r]) for _ in (1, 2)]"
    inner = "x = bytes(30 << 20)"
    words = ["run", "--ram", "64M", "--report-json", str(path), sys.executable, "-c"]
    assert CLI.cli(*words, program % inner).returncode == 0
    report = json.loads(path.read_text())
    assert report["processes"] >= 2
    assert len(report["per_process"]) == report["processes"]


def test_an_engine_of_another_build_is_refused_by_name(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from support.child import compile_engine
    from vswap._library import packaged_library

    del request
    other = compile_engine(tmp_path / "other", '-DBUILD_ID="other-build-0002"')
    program = (
        "import vswap\n"
        "try: vswap.SwapSpace('64M')\n"
        "except vswap.EngineMismatchError as error: print(error)"
    )
    told = CLI(program, LD_PRELOAD=packaged_library(), VSWAP_LIB=str(other))
    assert "other-build-0002" in told
    assert packaged_library() in told


def test_the_doctor_says_that_it_works_here() -> None:
    done = CLI.cli("doctor", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0, told
    assert told["works"]
    assert {f["name"] for f in told["findings"]} >= {"kernel", "engine", "userfaultfd", "disk"}
