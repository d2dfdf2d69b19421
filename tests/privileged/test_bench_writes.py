"""`vswap bench writes` as root: it measures, and leaves no swap, loop device or cgroup behind."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.left_behind import kernel_swap, left_behind
from support.program import vswap_command

pytestmark = pytest.mark.privileged


@pytest.fixture(autouse=True)
def _kernel_swap(tmp_path: Path) -> None:
    kernel_swap(tmp_path)


def test_vswap_and_kernel_swap_are_measured_and_taken_down(tmp_path: Path) -> None:
    command = [*vswap_command(), "bench", "writes", "--mib", "96", "--ram-mib", "48", "--json"]
    done = subprocess.run(
        [*command, "--dir", str(tmp_path)], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    kernel, ours = record["outcomes"]
    assert kernel["output"] == ours["output"]
    assert kernel["evicted_pages"] > 5000
    assert ours["evicted_pages"] > 5000
    assert kernel["device_bytes"] >= 4096 * kernel["evicted_pages"]
    assert left_behind(tmp_path) == []


def test_a_bench_that_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [*vswap_command(), "bench", "writes", "--mib", "96", "--ram-mib", "48"]
    bench = subprocess.Popen([*command, "--dir", str(tmp_path)], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while "/loop" not in Path("/proc/swaps").read_text() and time.monotonic() < until:
        assert bench.poll() is None, bench.stderr and bench.stderr.read()
        time.sleep(0.05)
    bench.send_signal(signal.SIGKILL)
    bench.wait()
    until = time.monotonic() + 60
    while time.monotonic() < until and any("/loop" in left for left in left_behind(tmp_path)):
        time.sleep(0.1)
    left = [one for one in left_behind(tmp_path) if not one.endswith("pages.bin")]
    assert left == []
