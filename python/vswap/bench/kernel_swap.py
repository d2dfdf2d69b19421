"""Kernel swap on a loop device and a cgroup that needs it, and their taking down whatever happens.

A small shell waits at the end of a pipe, as for zram: when the pipe closes, because `stop` was called or
because this process is gone, it takes the swap off, lets the loop devices go and removes what was made.
It runs in a session of its own: no Ctrl-C reaches it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vswap.bench.contender import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")
SWAPS = Path("/proc/swaps")
SECTOR = 512

# Arguments: the cgroup, then device and file of each loop device.
_GUARD = """
group="$1"; shift
cat > /dev/null
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    rmdir "$group" 2>/dev/null
    [ -d "$group" ] || break
    while read -r pid; do kill -KILL "$pid" 2>/dev/null; done < "$group/cgroup.procs"
    sleep 0.2
done
status=0
while [ $# -gt 0 ]; do
    swapoff "$1" 2>/dev/null
    losetup --detach "$1" || status=1
    rm -f "$2"
    shift 2
done
[ $status = 0 ] || echo "vswap bench: a loop device could not be let go; look at losetup --list" >&2
exit $status
"""


@dataclass(frozen=True)
class Written:
    """What a block device was given."""

    requests: int
    merged: int
    bytes: int

    def __sub__(self, other: Written) -> Written:
        return Written(
            self.requests - other.requests, self.merged - other.merged, self.bytes - other.bytes
        )


class Loops:
    """Two loop devices of one size on files of one directory, and a cgroup; until `stop`."""

    def __init__(self, directory: str, size: int, limit: int) -> None:
        """Check that all of it can be had; nothing is made yet."""
        _require()
        self._files = [Path(directory) / f"vswap-writes-{os.getpid()}-{n}" for n in range(2)]
        self._size, self._limit = size, limit
        self._version = 1 if (V1 / "memory.limit_in_bytes").exists() else 2
        self.group = (V1 if self._version == 1 else V2) / f"vswap-bench-{os.getpid()}"
        self.devices: list[str] = []
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the devices and the cgroup; on failure everything is taken down again."""
        made: list[str] = []
        try:
            for file in self._files:
                with file.open("wb") as out:
                    os.posix_fallocate(out.fileno(), 0, self._size)
                file.chmod(0o600)
                command = ("losetup", "--find", "--show", "--direct-io=on", str(file))
                made.append(_output(command).strip())
        except (OSError, subprocess.CalledProcessError) as failure:
            for device in made:
                subprocess.run(("losetup", "--detach", device), check=False)
            for file in self._files:
                file.unlink(missing_ok=True)
            message = f"no loop device could be made: {failure}"
            raise Unavailable(message) from failure
        self.devices = made
        pairs = [word for pair in zip(made, map(str, self._files), strict=True) for word in pair]
        self._guard = subprocess.Popen(
            ("/bin/sh", "-c", _GUARD, "guard", str(self.group), *pairs),
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self._make_group()
        except OSError as failure:
            self.stop()
            message = f"no memory cgroup could be made: {failure}"
            raise Unavailable(message) from failure

    def _make_group(self) -> None:
        if self._version == 2:
            (V2 / "cgroup.subtree_control").write_text("+memory")
        self.group.mkdir()
        if self._version == 2:
            (self.group / "memory.max").write_text(str(self._limit))
            return
        (self.group / "memory.limit_in_bytes").write_text(str(self._limit))
        with contextlib.suppress(OSError):
            (self.group / "memory.swappiness").write_text("60")

    def swapon(self) -> str:
        """Make the first device the kernel's only swap; the guard takes it off."""
        device = self.devices[0]
        try:
            _output(("mkswap", device))
            _output(("swapon", device))
        except subprocess.CalledProcessError as failure:
            message = f"kernel swap could not be switched on: {failure}"
            raise Unavailable(message) from failure
        return device

    def swapoff(self) -> None:
        """Take it off again."""
        _output(("swapoff", self.devices[0]))

    def enter(self) -> None:
        """Put the calling process into the cgroup: for a child before it becomes the command."""
        (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def oom_kills(self) -> int:
        """How often the kernel has killed in the cgroup for want of memory."""
        name = "memory.oom_control" if self._version == 1 else "memory.events"
        lines = (self.group / name).read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def reclaim(self, size: int) -> None:
        """Have the kernel take `size` bytes from the cgroup's processes, the swap cache among them."""
        # EAGAIN: it found less.
        with contextlib.suppress(OSError):
            if self._version == 1:
                (self.group / "memory.force_empty").write_text("0")
            else:
                (self.group / "memory.reclaim").write_text(str(size))

    def stop(self) -> None:
        """Everything goes; returns when it is gone."""
        guard, self._guard = self._guard, None
        if guard is not None and guard.stdin is not None:
            guard.stdin.close()
            guard.wait()


def written_to(device: str) -> Written:
    """What a device has been given so far."""
    fields = (Path("/sys/block") / Path(device).name / "stat").read_text().split()
    return Written(int(fields[4]), int(fields[5]), int(fields[6]) * SECTOR)


def pages_swapped_out() -> int:
    """Pages the kernel has written to swap since it started."""
    for line in Path("/proc/vmstat").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "pswpout":
            return int(value)
    raise Unavailable("this kernel does not count pages swapped out")


def _require() -> None:
    """Every reason for which kernel swap cannot be measured here, one sentence each."""
    if os.geteuid() != 0:
        raise Unavailable("needs root: it sets kernel swap up")
    for tool in ("mkswap", "swapon", "swapoff", "losetup"):
        if shutil.which(tool) is None:
            message = f"no {tool}: install util-linux"
            raise Unavailable(message)
    if len(SWAPS.read_text().splitlines()) > 1:
        raise Unavailable("another kernel swap is on, the two would mix: swapoff -a first")


def _output(command: Sequence[str]) -> str:
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ).stdout
