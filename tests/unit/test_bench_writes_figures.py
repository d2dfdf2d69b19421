"""What `vswap bench writes` makes of its counters."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import pytest

from vswap.bench import writes
from vswap.bench.contender import Unavailable
from vswap.bench.kernel_swap import Loops, Written
from vswap.bench.writes import JobFailedError, Outcome, percent_of, with_kernel


def test_bytes_are_told_for_each_page_that_left_memory() -> None:
    kernel = Outcome("kernel swap", "x", 1000, 4_096_000, 400, 600, None)
    ours = Outcome("vswap", "x", 4000, 4_096_000, 16, 0, 100.0)
    assert (kernel.bytes_per_page, ours.bytes_per_page) == (4096, 1024)
    assert ours.bytes_per_request == 256_000
    assert percent_of(kernel, ours) == pytest.approx(25.0)


def test_a_job_that_swaps_nothing_is_no_division_by_zero() -> None:
    nothing = Outcome("vswap", "", 0, 0, 0, 0, 0.0)
    assert (nothing.bytes_per_page, nothing.bytes_per_request) == (0, 0)


def test_what_a_device_was_given_is_a_difference() -> None:
    assert Written(5, 3, 4096) - Written(1, 1, 512) == Written(4, 2, 3584)


class SmallGroup:
    """Stands for the loop devices and the cgroup: the kernel kills there as often as it shall."""

    def __init__(self, folder: Path, kills: int) -> None:
        self.left = folder / "left"
        self.left.write_text("x" * kills)
        self.kills = kills
        self.swaps: list[str] = []

    def oom_kills(self) -> int:
        return self.kills - len(self.left.read_text())

    def swapon(self) -> str:
        self.swaps.append("on")
        return "none"

    def swapoff(self) -> None:
        self.swaps.append("off")

    def enter(self) -> None:
        """Nothing to enter."""

    def job(self) -> list[str]:
        code = (
            "import os, pathlib, sys; left = pathlib.Path(sys.argv[1]); text = left.read_text()\n"
            "if text: left.write_text(text[1:]); os.kill(os.getpid(), 9)\n"
            "print('done')"
        )
        return [sys.executable, "-c", code, str(self.left)]


@pytest.fixture
def _no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "written_to", lambda _device: Written(0, 0, 0))
    monkeypatch.setattr(writes, "pages_swapped_out", lambda: 0)


@pytest.mark.usefixtures("_no_device")
@pytest.mark.parametrize("kills", range(writes.TRIES))
def test_a_job_that_the_kernel_killed_runs_again_and_that_is_told(
    tmp_path: Path, kills: int
) -> None:
    group = SmallGroup(tmp_path, kills)
    outcome = with_kernel(cast("Loops", group), group.job())
    assert (outcome.output, outcome.killed) == ("done\n", kills)
    assert group.swaps == ["on", "off"] * (kills + 1)


@pytest.mark.usefixtures("_no_device")
def test_a_job_that_the_kernel_kills_each_time_is_refused_with_what_to_do(tmp_path: Path) -> None:
    group = SmallGroup(tmp_path, writes.TRIES)
    with pytest.raises(Unavailable, match="give --ram-mib more"):
        with_kernel(cast("Loops", group), group.job())


@pytest.mark.usefixtures("_no_device")
def test_a_job_that_fails_by_itself_is_not_run_again(tmp_path: Path) -> None:
    group = SmallGroup(tmp_path, 0)
    with pytest.raises(JobFailedError, match="ended with 3: so it is"):
        with_kernel(
            cast("Loops", group),
            [sys.executable, "-c", "import sys; print('so it is', file=sys.stderr); sys.exit(3)"],
        )
    assert group.swaps == ["on", "off"]
