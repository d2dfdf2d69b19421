"""`vswap bench layers` on the real engine: what it says is complete and counted, whatever the times are."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from support.program import vswap_command

if TYPE_CHECKING:
    from pathlib import Path

LAYER = ("entry_lookups", "entry_pins", "descriptor_changes", "cluster_locks")

LARGER_THAN_RAM = """
import os
import numpy as np
a = np.arange(12 << 20)
child = os.fork()
for turn in range(2):
    assert np.array_equal(a, np.arange(12 << 20)), turn
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("all there")
"""


def _bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*vswap_command(), "bench", "layers", "--quick", *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _record(*words: str) -> tuple[dict[str, Any], str]:
    done = _bench("--json", *words)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record, done.stderr


def _assert_only_one_mode_crosses_the_layer(record: dict[str, Any], least_pages: int) -> None:
    direct, virtual = (record["modes"][name]["operations"] for name in ("direct", "virtual"))
    for operation in ("swap-out", "swap-in", "free"):
        assert direct[operation]["pages"] == virtual[operation]["pages"], operation
        assert direct[operation]["pages"] > least_pages, operation
        crossed = direct[operation]["crossings_per_page"]
        for name in LAYER:
            assert crossed[name] == 0, (operation, name)
            assert virtual[operation]["crossings_per_page"][name] > 0, (operation, name)


def test_the_same_pages_go_out_and_come_back_in_both_modes_and_only_one_crosses_the_layer() -> None:
    record, _ = _record()
    _assert_only_one_mode_crosses_the_layer(record, 3000)
    modes = record["modes"]
    direct, virtual = modes["direct"]["operations"], modes["virtual"]["operations"]
    for operations in (direct, virtual):
        assert 1 / 16 <= operations["swap-out"]["crossings_per_page"]["device_write_calls"] < 0.2
        assert operations["swap-in"]["crossings_per_page"]["device_read_calls"] == 1
        assert operations["swap-out"]["crossings_per_page"]["log_appends"] == 0
    compressed = modes["compressed in RAM"]["operations"]
    assert compressed["swap-out"]["crossings_per_page"]["log_appends"] > 0.5
    assert isinstance(record["met"], bool)


def test_a_command_is_recorded_from_outside_with_its_children_and_replayed_both_ways() -> None:
    command = [sys.executable, "-c", LARGER_THAN_RAM]
    record, told = _record("--ram", "64M", "--", *command)
    assert told.splitlines()[-1] == "all there", told
    assert record["command"] == command
    assert record["processes_without_ring"] == 0
    assert len({process["pid"] for process in record["processes"]}) == 2
    for process in record["processes"]:
        assert process["swap_out_pages"] > 1000, process
        assert process["swap_in_pages"] > 1000, process
        assert all(process["crossings"][name] > 1000 for name in LAYER[:3]), process
        times = process["times"]
        noted = sum(event["events"] for event in times.values())
        assert noted == process["events"]
        if process["lost_events"] == 0:
            for name in ("swap-out", "swap-in", "free"):
                assert times[name]["pages"] >= times[name]["events"] > 0, (name, process)
                assert 0 < times[name]["p50_ns"] <= times[name]["p99_ns"] <= times[name]["most_ns"]
    assert record["rounds"] > 1
    assert 0 < record["replayed_mib"] <= record["recorded_mib"]
    _assert_only_one_mode_crosses_the_layer(record, 1000)


def test_a_command_that_fails_is_named_and_nothing_is_said_of_it() -> None:
    done = _bench("--ram", "64M", "--", sys.executable, "-c", "raise SystemExit(7)")
    assert (done.returncode, done.stdout) == (7, "")
    assert "the command ended with status 7" in done.stderr
    killed = _bench(
        "--ram", "64M", "--", sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"
    )
    assert (killed.returncode, killed.stdout) == (128 + 9, "")
    assert "killed by signal 9" in killed.stderr


def test_what_cannot_be_run_or_recorded_ends_with_the_status_of_vswap_run(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    cases = (
        (["--ram", "64M", "--", str(tmp_path / "missing")], 127, "missing"),
        (["--ram", "64M", "--", str(plain)], 126, "plain"),
        (["--ram", "1M", "--", "true"], 125, "16.0 MiB"),
        (["--ram", "64M", "--", "true"], 125, "nothing to replay"),
    )
    for words, status, said in cases:
        done = _bench(*words)
        assert (done.returncode, done.stdout) == (status, ""), (words, done.stderr)
        assert said in done.stderr, (words, done.stderr)


@pytest.mark.parametrize("words", [["python3"], ["--ram", "64M"], ["--direct", "--", "true"]])
def test_options_that_make_no_sense_are_refused_before_anything_runs(words: list[str]) -> None:
    done = _bench(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "vswap bench layers" in done.stderr
