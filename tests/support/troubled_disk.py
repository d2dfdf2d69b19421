"""A block device that can be slow, and can refuse reads or writes on request: a loop device over nbdkit, by way of FUSE."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.capability import root, tool
from support.program import TIME_FACTOR
from support.sizes import MIB

_PATIENCE_SECONDS = 20 * TIME_FACTOR


class TroubledDisk:
    """The device's path, and its troubles."""

    def __init__(self, path: str, folder: Path) -> None:
        self.path = path
        self._folder = folder

    def refuse(self, what: str) -> None:
        """From now on each `pread` or `pwrite` is an I/O error (EIO)."""
        (self._folder / f"refuse-{what}").touch()

    def allow(self, what: str) -> None:
        """The trouble is over."""
        (self._folder / f"refuse-{what}").unlink()


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not path.exists():
        assert process.poll() is None, f"{process.args!r} ended"
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


@contextmanager
def _served(folder: Path, mib: int, delay_ms: int) -> Iterator[Path]:
    """An NBD server's socket."""
    socket = folder / "socket"
    words = [tool("nbdkit", "nbdkit"), "--foreground", "--unix", str(socket), "--filter=delay"]
    words += ["--filter=error", "memory", f"{mib * MIB}"]
    words += [f"delay-read={delay_ms}ms", f"delay-write={delay_ms}ms"]
    for what in ("pread", "pwrite"):
        words += [f"error-{what}-rate=100%", f"error-{what}-file={folder}/refuse-{what}"]
    server = subprocess.Popen(words, stderr=subprocess.DEVNULL)  # it tells of each error
    try:
        _wait_for(socket, server)
        yield socket
    finally:
        server.kill()  # its clients may be many, and nothing of it is kept
        server.wait()


def _unmount(place: Path) -> None:
    """As soon as the loop device lets go: who used it may still be dying."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    umount = tool("umount", "mount")
    while subprocess.run([umount, str(place)], stderr=subprocess.DEVNULL, check=False).returncode:
        if time.monotonic() > deadline:
            subprocess.run([umount, "--lazy", str(place)], check=True)
            raise AssertionError(f"{place} is still in use")
        time.sleep(0.05)


@contextmanager
def _mounted(folder: Path, socket: Path) -> Iterator[Path]:
    """What the server has, as a file."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("needs /dev/fuse")
    place = folder / "mounted"
    place.mkdir()
    disk = place / "disk"
    words = [tool("nbdfuse", "libnbd-bin"), str(disk), f"nbd+unix:///?socket={socket}"]
    mounting = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        _wait_for(disk, mounting)
        yield disk
    finally:
        _unmount(place)
        mounting.wait()


@contextmanager
def troubled_disk(folder: Path, mib: int, delay_ms: int = 0) -> Iterator[TroubledDisk]:
    """A device of so many MiB; each read and write takes that much longer."""
    root()
    losetup = tool("losetup", "mount")
    with _served(folder, mib, delay_ms) as socket, _mounted(folder, socket) as disk:
        # Direct: what the page cache has, the device is not asked for.
        attach = [losetup, "--find", "--show", "--direct-io=on", str(disk)]
        device = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
        try:
            yield TroubledDisk(device, folder)
        finally:
            subprocess.run([losetup, "--detach", device], check=True)
