"""A swap file on a disk that fills up: refused with ENOMEM, nothing lost, nothing left there."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.capability import delivery, root, tool
from support.program import Managed, run
from support.sizes import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.compile import Compiler

pytestmark = pytest.mark.privileged
DISK_MIB = 64
RAM_MIB = 64
SWAP_MIB = 40
BLOCKS = "80"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of its own on a loop device."""
    root()
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    with image.open("wb") as out:
        out.truncate(DISK_MIB * MIB)
    place.mkdir()
    subprocess.run([tool("mkfs.ext4", "e2fsprogs"), "-q", "-m", "0", image], check=True)
    subprocess.run([tool("mount"), "-o", "loop", image, place], check=True)
    try:
        yield place
    finally:
        subprocess.run([tool("umount"), "-l", place], check=True)


def free_bytes(place: Path) -> int:
    stat = os.statvfs(place)
    return stat.f_bfree * stat.f_frsize


class Filler(threading.Thread):
    """Somebody else, who fills the disk as soon as the swap file is there."""

    def __init__(self, place: Path) -> None:
        super().__init__(daemon=True)
        self._place = place
        self.filled = False

    def run(self) -> None:
        deadline = time.monotonic() + 60
        swap = self._place / "swap"
        while not (swap.exists() and swap.stat().st_blocks) and time.monotonic() < deadline:
            time.sleep(0.005)
        with (self._place / "filler").open("wb") as out:
            os.posix_fallocate(out.fileno(), 0, free_bytes(self._place) - 2 * MIB)
        self.filled = True


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_a_disk_that_somebody_else_fills_costs_no_page(
    compiled: Compiler, small_disk: Path, faults: str
) -> None:
    delivery(faults)
    filler = Filler(small_disk)
    filler.start()
    how = Managed(RAM_MIB, swap=f"{small_disk / 'swap'}:{SWAP_MIB}M", faults=faults)
    env = {"VSWAP_TEST_MANAGED": "1"}
    run([compiled("fills_up"), BLOCKS], how, env=env).succeeded().within(RAM_MIB)
    filler.join(5)
    assert filler.filled, "the disk was never filled"


def test_more_swap_than_the_disk_has_is_refused_by_a_sentence(small_disk: Path) -> None:
    done = run(["true"], Managed(RAM_MIB, swap=f"{small_disk / 'swap'}:1G"))
    assert done.status == 125, done.describe()
    assert "free" in done.err, done.describe()
    assert not (small_disk / "swap").exists()


def test_tmpfs_is_refused_because_swap_there_would_be_ram(tmp_path: Path) -> None:
    place = tmp_path / "memory"
    root()
    place.mkdir()
    subprocess.run([tool("mount"), "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        done = run(["true"], Managed(RAM_MIB, swap=str(place / "swap")))
        assert done.status == 125, done.describe()
        assert "tmpfs" in done.err, done.describe()
        assert not (place / "swap").exists()
    finally:
        subprocess.run([tool("umount"), place], check=True)
