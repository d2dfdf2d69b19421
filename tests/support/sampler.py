"""Anonymous + shared RSS of every process of a tree, looked at every 50 ms from outside.

Nothing here trusts vswap: the figures are the kernel's, from /proc/PID/status.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

PERIOD_SECONDS = 0.05
PROC = Path("/proc")
_OWN_COMMAND = (PROC / "self" / "cmdline").read_bytes()


@dataclass(frozen=True)
class Peak:
    """The most one process held, and what it was then."""

    pid: int
    name: str
    bytes: int
    touched: int = 0
    """The kernel's own high-water mark without files: also what 50 ms did not see."""


class Sampler:
    """`with Sampler(pid) as sampler: ...`, then `sampler.peaks`."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._known = {root}
        self._peaks: dict[int, Peak] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rss-sampler", daemon=True)
        self.samples = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peaks(self) -> list[Peak]:
        """Every process seen, the largest first."""
        return sorted(self._peaks.values(), key=lambda peak: -peak.bytes)

    @property
    def highest(self) -> int:
        """The most any one process held."""
        return max((peak.bytes for peak in self._peaks.values()), default=0)

    @property
    def seen(self) -> frozenset[int]:
        """Every process of the tree so far."""
        return frozenset(self._known)

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_SECONDS):
            self._look()

    def _look(self) -> None:
        """One sample; a process once seen stays in the tree also when its parent is gone."""
        self.samples += 1
        parents = _parents()
        grown = True
        while grown:
            new = {pid for pid, parent in parents.items() if parent in self._known} - self._known
            self._known |= new
            grown = bool(new)
        for pid in self._known & parents.keys():
            with suppress(OSError, ValueError, KeyError):
                self._sample(pid)

    def _sample(self, pid: int) -> None:
        if (PROC / str(pid) / "cmdline").read_bytes() == _OWN_COMMAND:
            return  # forked from this very test run and not yet exec'd: our memory, not its
        now, before = _held(pid), self._peaks.get(pid, Peak(pid, "", -1))
        touched = max(now.touched, before.touched)
        self._peaks[pid] = replace(max(now, before, key=lambda peak: peak.bytes), touched=touched)


def _parents() -> dict[int, int]:
    """Parent of every process there is."""
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                stat = (entry / "stat").read_text()
                found[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return found


def _status(folder: Path) -> dict[str, str]:
    """The lines of its status by name."""
    lines = (folder / "status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _held(pid: int) -> Peak:
    """What it holds now: RssAnon + RssShmem; the high-water mark less the files of now."""
    values = _status(PROC / str(pid))
    if "RssAnon" not in values:  # the first thread has ended, and others go on
        tasks = (PROC / str(pid) / "task").iterdir()
        values = next((v for v in map(_status, tasks) if "RssAnon" in v), values)
    kib = {key: int(values[key].split()[0]) for key in ("RssAnon", "RssShmem", "RssFile", "VmHWM")}
    touched = kib["VmHWM"] - kib["RssFile"]
    return Peak(pid, values["Name"], (kib["RssAnon"] + kib["RssShmem"]) * 1024, touched * 1024)
