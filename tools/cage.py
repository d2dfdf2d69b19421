"""A kernel memory cgroup with a hard limit and no swap, for as long as a `with` lasts (cgroup v1 and v2)."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")


class NoCage(Exception):
    """No memory cgroup can be made here; the text says why."""


@dataclass(frozen=True)
class Cage:
    """A cgroup that exists."""

    path: Path
    version: int

    def oom_kills(self) -> int:
        """Return how many processes the kernel has killed in it for want of memory."""
        counters = self.path / ("memory.oom_control" if self.version == 1 else "memory.events")
        for line in counters.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
        return 0

    def peak_bytes(self) -> int | None:
        """Return the most memory it ever held, page cache included."""
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        try:
            return int((self.path / name).read_text())
        except OSError:  # memory.peak is newer than v2 itself
            return None


@contextlib.contextmanager
def cage(limit_bytes: int) -> Iterator[Cage]:
    """Make a cgroup limited to `limit_bytes` without swap; take it down again at the end."""
    made = _make(f"vswap-demo-{os.getpid()}")
    try:
        _limit(made, limit_bytes)
        yield made
    finally:
        _remove(made.path)


def _make(name: str) -> Cage:
    if os.geteuid() != 0:
        raise NoCage("making a memory cgroup takes root")
    try:
        if (V1 / "memory.limit_in_bytes").exists():
            (V1 / name).mkdir()
            return Cage(V1 / name, 1)
        if "memory" not in (V2 / "cgroup.controllers").read_text().split():
            raise NoCage("this system has no memory cgroups")
        (V2 / "cgroup.subtree_control").write_text("+memory")
        (V2 / name).mkdir()
        return Cage(V2 / name, 2)
    except OSError as error:
        raise NoCage(f"no memory cgroup can be made here: {error}") from error


def _limit(made: Cage, limit_bytes: int) -> None:
    if made.version == 2:
        (made.path / "memory.max").write_text(str(limit_bytes))
        with contextlib.suppress(FileNotFoundError):  # a kernel without swap accounting
            (made.path / "memory.swap.max").write_text("0")
        return
    (made.path / "memory.limit_in_bytes").write_text(str(limit_bytes))
    with contextlib.suppress(OSError):
        (made.path / "memory.swappiness").write_text("0")
    with contextlib.suppress(OSError):  # there only with swap accounting
        (made.path / "memory.memsw.limit_in_bytes").write_text(str(limit_bytes))


def _remove(path: Path) -> None:
    for _ in range(100):  # the last process may still be on its way out
        try:
            path.rmdir()
        except OSError:
            time.sleep(0.05)
        else:
            return
