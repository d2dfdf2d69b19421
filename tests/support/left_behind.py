"""What a bench with kernel swap needs, and what it should have taken down."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.capability import lacking, root
from vswap.bench.contender import Unavailable
from vswap.bench.kernel_swap import Loops
from vswap.sizes import MIB


def kernel_swap(directory: Path) -> None:
    """Skip where loop devices, kernel swap or a memory cgroup cannot be had; whatever a bench fails of then is a failure."""
    root()
    try:
        loops = Loops(str(directory), 16 * MIB, 64 * MIB)
        loops.start()
        try:
            loops.swapon()
        finally:
            loops.stop()
    except Unavailable as reason:
        lacking(str(reason))


def left_behind(directory: Path) -> list[str]:
    """Return the loop devices and files of `directory`, swap on loop devices, and cgroups of benches."""
    loops = subprocess.run(
        ("losetup", "--list", "--noheadings"), capture_output=True, text=True, check=True
    )
    left = [line for line in loops.stdout.splitlines() if str(directory) in line]
    left += [line for line in Path("/proc/swaps").read_text().splitlines()[1:] if "/loop" in line]
    for top in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        left += [str(group) for group in top.glob("vswap-bench-*")]
    return left + [str(file) for file in directory.rglob("*") if file.is_file()]
