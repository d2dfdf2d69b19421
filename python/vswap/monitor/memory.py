"""Read the counters in a stats memfd, and write the budget in a control memfd.

    stats    magic "VSWAPST1" | u32 abi | u32 counters | u64 pid | u64 start ns |
             u64 schema offset, length | u64 values offset |
             u64 histogram offset, buckets | u64 config offset, length
    control  magic "VSWAPCT1" | u64 generation | u64 ram bytes

The schema travels with the values, so a newer or older program can be read.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import time
from typing import Any, NamedTuple

from vswap.errors import VswapError

STATS_MAGIC = b"VSWAPST1"
CONTROL_MAGIC = b"VSWAPCT1"
STATS_HEADER = struct.Struct("<8sII9Q")
CONTROL = struct.Struct("<8sQQ")
_MOST_COUNTERS = 4096


class Snapshot(NamedTuple):
    """The counters of a program at one moment."""

    pid: int
    abi: int
    start_ns: int
    taken_ns: int
    values: dict[str, int]
    kinds: dict[str, str]
    helps: dict[str, str]
    latencies: tuple[int, ...]
    config: dict[str, Any]


def read_stats(path: str) -> Snapshot:
    """Return a snapshot, or VswapError where there is nothing readable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise VswapError(f"the program's counters cannot be opened: {error.strerror}") from error
    try:
        size = os.fstat(descriptor).st_size
        with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as memory:
            return parse_stats(memory)
    except (OSError, ValueError, struct.error) as error:
        raise VswapError(f"the program's counters cannot be read: {error}") from error
    finally:
        os.close(descriptor)


def parse_stats(memory: bytes | mmap.mmap) -> Snapshot:
    """Return the snapshot in ``memory``; ValueError where it is not stats memory."""
    fields = STATS_HEADER.unpack_from(memory, 0)
    magic, abi, count, pid, start_ns = fields[:5]
    schema_at, schema_len, values_at, hist_at, buckets, config_at, config_len = fields[5:]
    if magic != STATS_MAGIC:
        raise ValueError("not a vswap stats memory")
    offsets = (schema_at, schema_len, values_at, hist_at, config_at, config_len)
    if max(count, buckets) > _MOST_COUNTERS or max(offsets) > len(memory):
        raise ValueError("the header of the stats memory is damaged")
    schema = json.loads(bytes(memory[schema_at : schema_at + schema_len]))
    values = struct.unpack_from(f"<{count}Q", memory, values_at)
    names = [row["name"] for row in schema]
    return Snapshot(
        pid=pid,
        abi=abi,
        start_ns=start_ns,
        taken_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        values=dict(zip(names, values, strict=True)),
        kinds={row["name"]: row["kind"] for row in schema},
        helps={row["name"]: row["help"] for row in schema},
        latencies=struct.unpack_from(f"<{buckets}Q", memory, hist_at),
        config=parse_config(bytes(memory[config_at : config_at + config_len])),
    )


def parse_config(text: bytes) -> dict[str, Any]:
    """Return the configuration: JSON, or ``key=value`` lines with repeated keys as lists."""
    plain = text.rstrip(b"\0").decode(errors="replace").strip()
    if plain.startswith("{"):
        parsed: dict[str, Any] = json.loads(plain)
        return parsed
    config: dict[str, Any] = {}
    for line in plain.splitlines():
        key, _, value = line.partition("=")
        if key in config:
            before = config[key]
            config[key] = [*(before if isinstance(before, list) else [before]), value]
        elif key:
            config[key] = value
    return config


def write_ram(path: str, ram_bytes: int) -> None:
    """Ask a running program to keep itself within ``ram_bytes`` from now on."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise VswapError(f"the program's control cannot be opened: {error.strerror}") from error
    try:
        with mmap.mmap(descriptor, 4096) as memory:
            _write(memory, ram_bytes)
    except (OSError, ValueError) as error:
        raise VswapError(f"the program's control cannot be written: {error}") from error
    finally:
        os.close(descriptor)


def _write(memory: mmap.mmap, ram_bytes: int) -> None:
    """Write the budget first and the generation after it: the engine looks at the latter."""
    magic, generation, _ = CONTROL.unpack_from(memory, 0)
    if magic != CONTROL_MAGIC:
        raise ValueError("not a vswap control memory")
    struct.pack_into("<Q", memory, 16, ram_bytes)
    struct.pack_into("<Q", memory, 8, generation + 1)
