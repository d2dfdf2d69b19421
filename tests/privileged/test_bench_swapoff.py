"""`vswap bench swapoff` as root: every way is measured with every byte right, and nothing is left behind."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from support.left_behind import kernel_swap, left_behind
from support.program import vswap_command

pytestmark = pytest.mark.privileged
PAGES = 192 * 256


@pytest.fixture(autouse=True)
def _kernel_swap(tmp_path: Path) -> None:
    kernel_swap(tmp_path)


def test_devices_are_taken_off_every_way_and_nothing_is_left(tmp_path: Path) -> None:
    command = [*vswap_command(), "bench", "swapoff", "--mib", "192", "--json"]
    done = subprocess.run(
        [*command, "--dir", str(tmp_path)], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(done.stdout)
    kernel, segments, slots = record["outcomes"]
    assert [one["way"] for one in record["outcomes"]] == ["kernel", "segments", "slots"]
    assert all(one["right"] for one in record["outcomes"])
    assert kernel["pages"] > 0.9 * PAGES
    assert slots["pages"] > 0.5 * PAGES
    assert 0 < segments["device_bytes"] < kernel["device_bytes"] / 2
    assert left_behind(tmp_path) == []


def test_a_way_that_does_not_exist_is_refused_with_those_that_do() -> None:
    command = [*vswap_command(), "bench", "swapoff", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "slots" in done.stderr
