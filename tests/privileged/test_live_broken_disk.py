"""Block devices that break under stress-ng, which verifies its memory: a write that fails, a device that is gone."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.capability import delivery, root, tool
from support.live import stress
from support.sizes import MIB

pytestmark = pytest.mark.privileged
MODES = ["thread", "signal"]
DEVICE_MIB = 200


@pytest.fixture
def loop(disk: Path) -> Iterator[tuple[str, Path]]:
    """A loop device, and the file behind it."""
    root()
    image = disk / "image"
    with image.open("wb") as out:
        out.truncate(DEVICE_MIB * MIB)
    attach = [tool("losetup", "mount"), "--find", "--show", str(image)]
    device = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield device, image
    finally:
        subprocess.run([tool("blockdev", "util-linux"), "--setrw", device], check=True)
        subprocess.run([tool("losetup", "mount"), "--detach", device], check=True)


def writable(device: str, how: str) -> None:
    """Have the kernel refuse writes to a device (`ro`), or not (`rw`)."""
    subprocess.run([tool("blockdev", "util-linux"), f"--set{how}", device], check=True)


@pytest.mark.parametrize("faults", MODES)
def test_a_device_that_refuses_a_write_is_closed_for_good_and_the_next_takes_over(
    disk: Path, loop: tuple[str, Path], faults: str
) -> None:
    delivery(faults)
    broken, second = loop[0], f"{disk}/second"
    options = ("--ram", "40M", "--faults", faults, "--swap", broken)
    with stress(disk, *options, method="rand-set") as program:
        program.until(lambda now: now["device_bytes"] > 4 * MIB)
        writable(broken, "ro")
        program.until(lambda now: now["device_errors"] > 0)
        closed = program.devices()[broken]
        assert (closed["state"], closed["error"]) == ("failed", errno.EPERM), closed
        writable(broken, "rw")
        program.told("swapon", f"{second}:256M")
        more = closed["written_bytes"] + 16 * MIB
        program.until(lambda now: now["device_written_bytes"] > more)
        # It would take writes again, and gets none.
        now = program.devices()[broken]
        assert (now["state"], now["written_bytes"]) == ("failed", closed["written_bytes"])
        program.told("swapoff", broken)
        assert list(program.devices()) == [second]
        assert program.counters()["poisoned_pages"] == 0
        assert program.is_lawful()
        program.verified()


@pytest.mark.parametrize("faults", MODES)
def test_a_device_that_is_gone_costs_the_pages_on_it_and_no_byte_is_wrong(
    disk: Path, loop: tuple[str, Path], faults: str
) -> None:
    delivery(faults)
    device, image = loop
    options = ("--ram", "40M", "--faults", faults, "--swap", device)
    with stress(disk, *options, method="rand-set") as program:
        program.until(lambda now: now["device_bytes"] > 8 * MIB)
        os.truncate(image, 4096)
        subprocess.run([tool("losetup", "mount"), "--set-capacity", device], check=True)
        said = program.lost()
        assert "cannot be read back correctly: it is poisoned" in said
        assert "detected" not in said
