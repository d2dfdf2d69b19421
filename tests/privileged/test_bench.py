"""`vswap bench` as root: every contender runs, and kernel swap is off again afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.capability import lacking, root
from support.program import run, vswap_command

pytestmark = pytest.mark.privileged
ZRAM = Path("/sys/block/zram0")


def no_kernel_swap() -> bool:
    swaps = Path("/proc/swaps").read_text().splitlines()
    return len(swaps) == 1 and (ZRAM / "initstate").read_text().strip() == "0"


@pytest.fixture(autouse=True)
def _zram() -> None:
    root()
    if not ZRAM.exists():
        lacking("/dev/zram0 (modprobe zram)")
    if not no_kernel_swap():
        pytest.skip("kernel swap is on already; the bench would refuse zram")


def test_every_contender_is_measured_and_verified() -> None:
    done = run([*vswap_command(), "bench", "--quick", "--json"], timeout=170).succeeded()
    record = json.loads(done.out)
    states = {result["contender"]: result["status"] for result in record["results"]}
    assert states == dict.fromkeys(states, "ok"), json.dumps(record["results"])[:2000]
    assert {"vswap-thread", "vswap-signal", "zram-lz4", "zram-lzo-rle", "memmap"} == set(states)
    for result in record["results"]:
        assert {"swap_in_random", "swap_in_sequential", "swap_out"} <= set(result["figures"])
    assert no_kernel_swap()


def test_the_table_names_the_machine_the_peers_and_the_targets() -> None:
    done = run([*vswap_command(), "bench", "--quick", "memmap"], timeout=60).succeeded()
    text = " ".join(done.out.decode().split())  # the table wraps where the terminal ends
    assert "contents verified" in text
    assert "memmap" in text
    assert "target" in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_kernel_swap_is_off_again_when_the_bench_is_killed(number: int) -> None:
    command = [sys.executable, "-m", "vswap.bench.worker", "--contender", "zram-lz4"]
    data = Path("/proc/self/exe").resolve()  # any file: the worker is killed long before it reads
    command += ["--pages", "4096", "--repeats", "1000", "--data", str(data), "--cpu", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(Path("/proc/swaps").read_text().splitlines()) > 1, "swap on")
        os.kill(process.pid, number)
        process.wait(30)
        wait_for(no_kernel_swap, "swap off and the device reset")
    finally:
        process.kill()
        process.wait()


def wait_for(condition: object, what: str) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"no {what} in 20 s"
        time.sleep(0.02)
