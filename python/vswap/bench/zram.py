"""/dev/zram0 as swap for a while: set up, and taken down again whatever happens to this process.

A small shell waits at the end of a pipe.  When the pipe closes, because `stop` was called or
because the process that wanted the device is gone (an exception, a signal, even SIGKILL), it takes
the swap off and resets the device.  It runs in a session of its own: no Ctrl-C reaches it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from vswap.bench.contender import Unavailable

DEVICE = Path("/dev/zram0")
CONTROL = Path("/sys/block/zram0")
SWAPS = Path("/proc/swaps")
SWAP_PRIORITY = "100"

_GUARD = """
cat > /dev/null
swapoff /dev/zram0 2>/dev/null
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    echo 1 > /sys/block/zram0/reset 2>/dev/null && exit 0
    sleep 0.2
done
echo "vswap bench: could not reset it; echo 1 > /sys/block/zram0/reset" >&2
exit 1
"""


@dataclass(frozen=True)
class MemoryStat:
    """The first three figures of mm_stat."""

    original_bytes: int
    compressed_bytes: int
    used_bytes: int


class ZramSwap:
    """/dev/zram0 with one algorithm, between `start` and `stop`."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self, size: int) -> None:
        """Set the device up and swap on it; raises `Unavailable` with the reason."""
        _require(self._algorithm)
        self._guard = subprocess.Popen(
            _GUARD, shell=True, stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            (CONTROL / "comp_algorithm").write_text(self._algorithm)
            (CONTROL / "disksize").write_text(str(size))
            _run("mkswap", str(DEVICE))
            _run("swapon", "-p", SWAP_PRIORITY, str(DEVICE))
        except (OSError, subprocess.CalledProcessError) as failure:
            self.stop()
            message = f"/dev/zram0 could not be set up: {failure}"
            raise Unavailable(message) from failure

    def mm_stat(self) -> MemoryStat:
        """What the device holds now."""
        fields = (CONTROL / "mm_stat").read_text().split()
        return MemoryStat(int(fields[0]), int(fields[1]), int(fields[2]))

    def stop(self) -> None:
        """Swap off and reset; returns when it is done."""
        guard, self._guard = self._guard, None
        if guard is not None and guard.stdin is not None:
            guard.stdin.close()
            guard.wait()


def _require(algorithm: str) -> None:
    """Every reason for which the kernel's zram cannot be measured here, one sentence each."""
    if os.geteuid() != 0:
        raise Unavailable("needs root: it sets a kernel swap device up")
    if not DEVICE.exists() or not CONTROL.exists():
        raise Unavailable("no /dev/zram0: modprobe zram")
    for tool in ("mkswap", "swapon", "swapoff"):
        if shutil.which(tool) is None:
            message = f"no {tool}: install util-linux"
            raise Unavailable(message)
    offered = (CONTROL / "comp_algorithm").read_text().replace("[", "").replace("]", "").split()
    if algorithm not in offered:
        message = f"this kernel's zram offers {', '.join(offered)}, not {algorithm}"
        raise Unavailable(message)
    if (CONTROL / "initstate").read_text().strip() != "0":
        raise Unavailable("/dev/zram0 is in use by somebody else")
    if len(SWAPS.read_text().splitlines()) > 1:
        raise Unavailable("another kernel swap is on, the two would mix: swapoff -a first")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
