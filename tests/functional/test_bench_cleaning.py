"""The cleaning bench: both orders do the same work, only one needs the cleaner, and every page is compared."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from support.program import run, vswap_command

WORDS = ("bench", "cleaning", "--mib", "16", "--faults", "1500", "--json")


def _child_of(pid: int) -> int:
    """The process it has started, once there is one."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (started := children.read_text().split()):
        time.sleep(0.01)
    return int(started[0])


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """One run in both places."""
    done = run([*vswap_command(), *WORDS], timeout=240).succeeded()
    told: dict[str, Any] = json.loads(done.out)
    return told


def test_the_cleaner_works_at_random_and_has_nothing_to_do_in_order(record: dict[str, Any]) -> None:
    phases = {(phase["place"], phase["order"]): phase for phase in record["phases"]}
    assert set(phases) == {(p, o) for p in ("ram", "device") for o in ("in order", "random")}
    for place in ("ram", "device"):
        calm, busy = phases[place, "in order"], phases[place, "random"]
        assert calm["cleaned_bytes"] * 20 < calm["swap_out_bytes"], calm
        assert busy["cleaned_bytes"] > busy["swap_out_bytes"] / 4, busy
        assert busy["cleaned_segments"] > 8, busy
        assert calm["faults"] >= 1500 and busy["faults"] >= 1500
    assert phases["device", "random"]["device_read_bytes"] > 0


def test_every_page_is_compared_and_times_are_in_order(record: dict[str, Any]) -> None:
    for phase in record["phases"]:
        live = phase["capacity_bytes"] * record["live_percent"] / 100
        # At least all there are once, and each page that was touched.
        assert phase["pages_verified"] > live / 1500 + phase["faults"] / 2, phase
        assert 60 < phase["utilisation_percent"] <= 100, phase
        times = [phase["fault_ns"][name] for name in ("p50", "p99", "p999", "max")]
        assert times == sorted(times) and times[0] > 0, times
        assert phase["engine_fault_ns"]["p99"] >= phase["engine_fault_ns"]["p50"] > 0
    assert set(record["p99_times"]) == {"ram", "device"}


def test_the_table_says_what_was_found_in_one_place() -> None:
    words = ("bench", "cleaning", "--mib", "16", "--faults", "500", "ram")
    told = run([*vswap_command(), *words], timeout=240).succeeded().out.decode()
    assert "RAM, nothing to clean" in told and "RAM, cleaning" in told
    assert "all were right" in told and "device" not in told


def test_the_bench_takes_its_worker_with_it_when_it_is_told_to_end() -> None:
    words = ("bench", "cleaning", "--mib", "16", "--faults", "100000000", "ram")
    bench = subprocess.Popen([*vswap_command(), *words], stdout=subprocess.PIPE)
    try:
        worker = _child_of(bench.pid)
        bench.send_signal(signal.SIGTERM)
        assert bench.wait(timeout=60) == 128 + signal.SIGTERM
        while Path(f"/proc/{worker}").exists():
            time.sleep(0.01)
    finally:
        bench.kill()
        bench.wait()
