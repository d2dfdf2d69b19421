"""Every event of a command's processes, read from outside while they run.

The memory and its rings are this side's; each engine of the command finds them by a path in its environment, claims a
ring and writes into it without waiting for anybody (crates/process/src/recording.rs draws the memory).  What is written
over before it was read is lost; since event numbers have no gaps, how much is known.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from vswap._trace import EVENT

if TYPE_CHECKING:
    from numpy.typing import NDArray

PATH_VARIABLE = "VSWAP_EVENTS_PATH"
RINGS = 16
RING_EVENTS = 1 << 17
"""4 MiB, as far as it is used; the process's budget pays for it."""
MOST_KEPT = 1 << 25
"""Events kept of one process: 300 MB here. Later ones count as lost."""

_MAGIC = b"VSWAPEV1"
_HEADER = struct.Struct("<8sII")
_ASKED_AT, _PIDS_AT = 16, 24
_PAGE = mmap.PAGESIZE
_CHUNK = 8192


class Events:
    """What one process noted, in the order of the numbers."""

    def __init__(self, pid: int, kinds: Any, pages: Any, took_ns: Any, lost: int) -> None:
        """Keep three arrays of one length, and how many events are missing."""
        self.pid = pid
        self.kinds: NDArray[np.uint8] = kinds
        self.pages: NDArray[np.uint32] = pages
        self.took_ns: NDArray[np.uint32] = took_ns
        self.lost = lost


class _Ring:
    """The reader of one ring."""

    def __init__(self, pid: int, places: NDArray[Any]) -> None:
        self.pid = pid
        self.lost = 0
        self._places = places
        self._next = 0
        self._kept = 0
        self._parts: list[NDArray[Any]] = []

    def read(self, *, ended: bool) -> None:
        """Take what is there; when the writer has ended, past what it never finished."""
        while self._take(ended=ended):
            pass

    def _take(self, *, ended: bool) -> bool:
        """Take the next few; whether there may be more.

        An event is whole if its number is there before and after it was copied.
        """
        at = self._next % self._places.size
        places = self._places[at : at + _CHUNK]
        wanted = np.arange(self._next + 1, self._next + 1 + places.size, dtype=np.uint64)
        before = places["number"].copy()
        copied = places.copy()
        after = places["number"].copy()
        whole = (before == wanted) & (after == wanted)
        past = whole | (before > wanted) | (after > wanted)
        if ended:
            count = int(np.flatnonzero(past)[-1]) + 1 if past.any() else 0
        else:
            count = places.size if past.all() else int(np.argmin(past))
        self._keep(copied[:count][whole[:count]], count)
        self._next += count
        return count == places.size

    def _keep(self, events: NDArray[Any], count: int) -> None:
        room = max(MOST_KEPT - self._kept, 0)
        events = events[:room]
        self.lost += count - events.size
        self._kept += events.size
        if events.size:
            kept = np.empty(events.size, [("event", "u1"), ("page", "<u4"), ("took_ns", "<u4")])
            kept["event"], kept["page"] = events["event"], events["page"]
            kept["took_ns"] = events["duration_ns"]
            self._parts.append(kept)

    def events(self) -> Events:
        """Everything taken."""
        empty = np.empty(0, [("event", "u1"), ("page", "<u4"), ("took_ns", "<u4")])
        kept = np.concatenate([empty, *self._parts])
        return Events(self.pid, kept["event"], kept["page"], kept["took_ns"], self.lost)


class EventRings:
    """The memory, and what was read of it so far."""

    def __init__(self, rings: int = RINGS, ring_events: int = RING_EVENTS) -> None:
        """Make it; nobody can make it shorter."""
        size = _PAGE + rings * ring_events * EVENT.itemsize
        self._fd = os.memfd_create("vswap-events", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._fd, size)
        self._memory = mmap.mmap(self._fd, size)
        fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        self._memory[: _HEADER.size] = _HEADER.pack(_MAGIC, rings, ring_events)
        self._most = rings
        self._ring_events = ring_events
        self._rings: list[_Ring] = []

    @property
    def path(self) -> str:
        """Where a process of the same user finds the memory while this one lives."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    @property
    def without_ring(self) -> int:
        """Engines that found no ring left, of which nothing is known."""
        (asked,) = struct.unpack_from("<I", self._memory, _ASKED_AT)
        return max(int(asked) - self._most, 0)

    def read(self, *, ended: bool = False) -> None:
        """Take what all processes have noted since the last look."""
        self._find()
        for ring in self._rings:
            ring.read(ended=ended)

    def _find(self) -> None:
        """Rings are claimed in order."""
        pids = struct.unpack_from(f"<{self._most}I", self._memory, _PIDS_AT)
        for pid in pids[len(self._rings) :]:
            if pid == 0:
                return
            start = _PAGE + len(self._rings) * self._ring_events * EVENT.itemsize
            places = np.frombuffer(self._memory, EVENT, self._ring_events, start)
            self._rings.append(_Ring(pid, places))

    def events(self) -> list[Events]:
        """What each engine noted, in the order in which they claimed their rings."""
        return [ring.events() for ring in self._rings]

    def close(self) -> None:
        """Give memory and descriptor back."""
        self._rings.clear()
        # A read that was interrupted still has the memory; it goes with it then.
        with contextlib.suppress(BufferError):
            self._memory.close()
        os.close(self._fd)
