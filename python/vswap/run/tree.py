"""The shared memory of a process tree: counters that outlive their processes.

The waiting parent makes it, every engine claims a slot and counts *there*, so
the parent can read them after a process was killed.

    page 0      magic "VSWAPTR1" | u32 slots | u32 bytes of a slot | u8 loaded | zeros
    page 1 + i  u32 pid (0 free) | u32 flags | u64 start ns | exe[64] | ...
                at +128 the counters, u64 each, then the fault latencies
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct

from vswap.counters import NAMES
from vswap.histogram import BUCKETS

MAGIC = b"VSWAPTR1"
HEADER_BYTES = 4096
SLOT_COUNT = 256
SLOT_BYTES = 8192
COUNTERS_AT = 128
LOADED_AT = 16

_HEADER = struct.Struct("<8sII")
_SLOT = struct.Struct("<IIQ64s")
_VALUES = struct.Struct(f"<{len(NAMES)}Q")
_BUCKETS = struct.Struct(f"<{BUCKETS}Q")

_HIGH_DESCRIPTOR = 200
"""The command inherits the descriptor: keep clear of numbers programs use by name."""


class ProcessRecord:
    """What one process of the tree counted."""

    def __init__(
        self,
        *,
        pid: int,
        flags: int,
        start_ns: int,
        exe: str,
        counters: dict[str, int],
        latencies: tuple[int, ...],
    ) -> None:
        """Keep the fields of a slot."""
        self.pid = pid
        self.flags = flags
        self.start_ns = start_ns
        self.exe = exe
        self.counters = counters
        self.latencies = latencies


class TreeMemory:
    """The memory itself, from the parent's side."""

    def __init__(self) -> None:
        """Make the memory with every slot free."""
        low = os.memfd_create("vswap-tree", os.MFD_CLOEXEC)
        try:
            os.ftruncate(low, HEADER_BYTES + SLOT_COUNT * SLOT_BYTES)
            self._memory = mmap.mmap(low, HEADER_BYTES + SLOT_COUNT * SLOT_BYTES)
            self.fd = _high_copy(low)
        finally:
            os.close(low)
        self._memory[: _HEADER.size] = _HEADER.pack(MAGIC, SLOT_COUNT, SLOT_BYTES)

    def records(self) -> list[ProcessRecord]:
        """Return what every engine that claimed a slot has counted."""
        return parse_tree(self._memory)

    @property
    def loaded(self) -> bool:
        """Whether the engine's library was loaded in any process of the tree.

        A small program never starts an engine; without this it could not be
        told from one in which the preload was dropped.
        """
        return self._memory[LOADED_AT] != 0

    def close(self) -> None:
        """Give descriptor and mapping back."""
        self._memory.close()
        os.close(self.fd)


def _high_copy(low: int) -> int:
    """Return a copy of a descriptor with a high number that exec keeps open."""
    try:
        high = fcntl.fcntl(low, fcntl.F_DUPFD, _HIGH_DESCRIPTOR)
    except OSError:  # a small RLIMIT_NOFILE
        high = os.dup(low)
    os.set_inheritable(high, True)
    return high


def parse_tree(memory: bytes | mmap.mmap) -> list[ProcessRecord]:
    """Return the records of the claimed slots; ValueError where it is not such memory."""
    magic, count, size = _HEADER.unpack_from(memory, 0)
    if magic != MAGIC or size < COUNTERS_AT + _VALUES.size:
        raise ValueError("not a vswap tree memory")
    starts = (HEADER_BYTES + index * size for index in range(count))
    return [_record(memory, at) for at in starts if struct.unpack_from("<I", memory, at)[0] != 0]


def _record(memory: bytes | mmap.mmap, at: int) -> ProcessRecord:
    """Return the record of the slot at an offset."""
    pid, flags, start_ns, exe = _SLOT.unpack_from(memory, at)
    values = _VALUES.unpack_from(memory, at + COUNTERS_AT)
    latencies = _BUCKETS.unpack_from(memory, at + COUNTERS_AT + _VALUES.size)
    return ProcessRecord(
        pid=pid,
        flags=flags,
        start_ns=start_ns,
        exe=exe.split(b"\0")[0].decode(errors="replace"),
        counters=dict(zip(NAMES, values, strict=True)),
        latencies=latencies,
    )
