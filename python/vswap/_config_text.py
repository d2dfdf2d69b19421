"""The engine's configuration text: one ``key=value`` on a line."""

from __future__ import annotations

from vswap.errors import ConfigError
from vswap.sizes import check_floor, parse_budget, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FAULT_MODES = ("auto", "thread", "signal")
DEDUP_SCOPES = ("off", "group", "space")
DEFAULT_MIN_ALLOC = 64 << 10
"""Smallest allocation the engine takes: 98 % of a pandas job's memory is above it."""

_ZSTD_LEVELS = range(1, 20)


def check_codec(codec: str) -> str:
    """Return ``lz4``, ``zstd``, ``zstd:LEVEL`` or ``raw``, or raise ConfigError."""
    name, colon, level = codec.partition(":")
    if name in ("lz4", "raw") and not colon:
        return codec
    if name == "zstd":
        if not colon:
            return codec
        if level.isdigit() and int(level) in _ZSTD_LEVELS:
            return codec
        raise ConfigError(f"zstd's level is 1 to {_ZSTD_LEVELS[-1]}, not {level!r}")
    raise ConfigError(f"unknown codec {codec!r}; use lz4, zstd, zstd:LEVEL or raw")


def check_faults(faults: str) -> str:
    """Return the way of fault delivery, or raise ConfigError."""
    if faults in FAULT_MODES:
        return faults
    raise ConfigError(f"unknown way of fault delivery {faults!r}; use auto, thread or signal")


def check_dedup(scope: str) -> str:
    """Return who may share equal pages, or raise ConfigError."""
    if scope in DEDUP_SCOPES:
        return scope
    raise ConfigError(f"unknown scope of deduplication {scope!r}; use off, group or space")


def check_min_alloc(size: str | int) -> int:
    """Return the threshold of managed allocations in bytes."""
    value = parse_size(size)
    if value < 4096:
        raise ConfigError("min_alloc is at least 4096 bytes: smaller blocks share their pages")
    return value


def space_config(
    *,
    scope: str,
    ram: str | int,
    total: int,
    devices: Iterable[str],
    codec: str,
    faults: str,
    dedup: str,
    min_alloc: int,
    policy: str,
    read_ahead: bool,
    virtual: bool = True,
) -> str:
    """Return the text for one space, everything in it checked."""
    lines = [
        f"ram={check_floor(parse_budget(ram, total))}",
        f"scope={scope}",
        *(f"swap={device}" for device in devices),
        f"codec={check_codec(codec)}",
        f"faults={check_faults(faults)}",
        f"dedup={check_dedup(dedup)}",
        f"min_alloc={min_alloc}",
        f"policy={policy}",
        f"read_ahead={'yes' if read_ahead else 'no'}",
        f"virtual={'yes' if virtual else 'no'}",
    ]
    for line in lines:
        if "\n" in line:
            raise ConfigError(f"a value may not contain a line break: {line!r}")
    return "\n".join(lines) + "\n"
