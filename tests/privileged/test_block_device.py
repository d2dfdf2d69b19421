"""Raw block devices as swap, on a loop device."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from support.capability import tool
from support.child import Child
from support.soon import SOON

pytestmark = pytest.mark.privileged

PRELUDE = (
    SOON
    + """
import os, subprocess
import numpy as np
import vswap
def content(row):
    return np.random.default_rng(row).integers(0, 60000, 1 << 17)
def refused(word, space, path):
    try:
        space.swapon(path)
    except vswap.ConfigError as error:
        assert word in str(error), error
    else:
        raise AssertionError("not refused")
"""
)


@pytest.fixture
def loop() -> Iterator[tuple[str, Path]]:
    """A loop device of 200 MiB, and the file behind it."""
    with tempfile.TemporaryDirectory(prefix="vswap-loop-", dir="/var/tmp") as folder:
        image = Path(folder) / "image"
        image.touch()
        with image.open("r+b") as file:
            file.truncate(200 << 20)
        attach = [tool("losetup", "mount"), "--find", "--show", str(image)]
        device = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
        yield device, image
        subprocess.run([tool("losetup", "mount"), "--detach", device], check=True)


def run(body: str, loop: tuple[str, Path]) -> None:
    device, image = loop
    head = f"DEVICE, IMAGE = {device!r}, {str(image)!r}\n"
    Child(None)(PRELUDE + head + dedent(body), timeout=120)


def test_a_block_device_comes_and_goes_and_gets_discards(loop: tuple[str, Path]) -> None:
    run(
        """
        space = vswap.SwapSpace("48M", devices=[])
        device = space.swapon(DEVICE)
        assert (device.kind, device.state) == ("block", "on"), device
        assert 190 << 20 < device.capacity_bytes < 200 << 20
        refused("in use", vswap.SwapSpace("32M", devices=[]), DEVICE)
        a = space.zeros((80, 1 << 17), "i8")
        for row in range(80):
            a[row] = content(row)
        soon(lambda: space.devices()[0].used_bytes > 10 << 20)
        assert os.stat(IMAGE).st_blocks * 512 > 8 << 20
        for row in range(80):
            assert np.array_equal(a[row], content(row)), row
        space.swapon(IMAGE + ".file", size="300M")
        space.swapoff(DEVICE)
        # Only the header is left: the rest was discarded.
        assert os.stat(IMAGE).st_blocks * 512 < 1 << 20
        for row in range(80):
            assert np.array_equal(a[row], content(row)), row
        assert space.check() == ()
        space.swapon(DEVICE, priority=3)
        """,
        loop,
    )


def test_slots_on_a_block_device_come_and_go_and_are_discarded(loop: tuple[str, Path]) -> None:
    run(
        """
        def noise(row):
            return np.random.default_rng(row).integers(0, 1 << 63, 1 << 17)
        space = vswap.SwapSpace("48M", devices=[])
        device = space.swapon(DEVICE, kind="slots")
        assert (device.kind, device.state, device.path) == ("slots", "on", DEVICE), device
        assert 190 << 20 < device.capacity_bytes < 200 << 20
        a = space.zeros((80, 1 << 17), "i8")
        for row in range(80):
            a[row] = noise(row)
        soon(lambda: space.devices()[0].used_bytes > 20 << 20)
        assert os.stat(IMAGE).st_blocks * 512 > 20 << 20
        space.swapon(IMAGE + ".file", size="300M")
        space.swapoff(DEVICE)
        # The place of the header's slot and nothing else is left.
        assert os.stat(IMAGE).st_blocks * 512 < 1 << 20
        for row in range(80):
            assert np.array_equal(a[row], noise(row)), row
        assert space.check() == ()
        assert space.swapon(DEVICE, priority=3).kind == "block"
        """,
        loop,
    )


def test_somebodys_block_device_is_left_alone(loop: tuple[str, Path]) -> None:
    subprocess.run([tool("mkfs.ext4", "e2fsprogs"), "-q", "-F", loop[0]], check=True)
    run(
        """
        space = vswap.SwapSpace("32M", devices=[])
        refused("holds data", space, DEVICE)
        os.mkdir(IMAGE + ".mnt")
        subprocess.run(["mount", DEVICE, IMAGE + ".mnt"], check=True)
        try:
            refused("in use", space, DEVICE)
        finally:
            subprocess.run(["umount", IMAGE + ".mnt"], check=True)
        assert space.devices() == ()
        """,
        loop,
    )
