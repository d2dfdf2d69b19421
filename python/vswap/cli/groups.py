"""Groups on the command line: the tree in ``vswap stat``, ``vswap set --drain`` and ``--limit``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vswap.cli.tables import print_table
from vswap.errors import ConfigError, VswapError
from vswap.monitor.control import Control, RefusedError
from vswap.monitor.sockets import Endpoint, endpoints
from vswap.run.groupspec import split_group
from vswap.sizes import format_count, format_size, parse_size

_TITLES = ("GROUP", "RAM", "MAX", "COMPRESSED", "MAX", "DEVICES", "MAX", "WRITEBACK", "LIMIT HITS",
           "FAILS")  # fmt: skip
_RIGHT = " rrrrrr rr"
_PATIENCE_SECONDS = 2.0
_WHOLE = "/"
"""The path of what everything belongs to."""


def drain(pid: int | None, wanted: str) -> int:
    """Drain ``GROUP=SIZE``, or ``SIZE`` of all, in the one program that is meant; print how much was moved."""
    path, equals, size = wanted.rpartition("=")
    if (equals and not path) or not (equals or wanted[:1].isdigit()):
        raise ConfigError(f"not GROUP=SIZE or SIZE: {wanted!r} (write it like web=10M, or 10M)")
    count = parse_size(size)
    target, answer = _ask(pid, "drain", path or _WHOLE, str(count))
    name = f"{path}: " if path else ""
    print(f"{target.pid}: {name}{format_size(answer['moved_bytes'])} moved")
    return 0


def limit(pid: int | None, wanted: str) -> int:
    """Change limits of a group, ``GROUP:SETTING=VALUE,...``, in the one program that is meant."""
    path, settings = split_group(wanted)
    if not settings:
        raise ConfigError(f"nothing to change: {wanted!r} (write it like web:zswap_max=10M)")
    target, _ = _ask(pid, "limit", path, "\n".join(settings))
    print(f"{target.pid}: {path}: {', '.join(settings)}")
    return 0


def _ask(pid: int | None, *request: str) -> tuple[Endpoint, dict[str, Any]]:
    """Ask the one space of a process that has the group; return whose answer it is, and the answer."""
    refusal: RefusedError | None = None
    for target in endpoints(None if pid is None else str(pid)):
        with Control(target) as control:
            try:
                return target, control.ask(*request)
            except RefusedError as error:
                # Another space of the process may have the group.
                refusal = error
    raise refusal or VswapError("no vswap program of yours is running")


def groups_of(pid: int) -> list[dict[str, Any]]:
    """Return what every space of a process tells about its groups; empty if it has none."""
    told = []
    try:
        for target in endpoints(str(pid)):
            with Control(target, patience=_PATIENCE_SECONDS) as control:
                answer = control.ask("groups", patience=_PATIENCE_SECONDS)
            if len(answer["groups"]) > 1:
                told += [{"space": target.space, **group} for group in answer["groups"]]
    except VswapError:
        # Its counters were read without its help; that it cannot be asked is no failure.
        return []
    return told


def print_groups(pid: int, told: Sequence[dict[str, Any]]) -> None:
    """Print the tree of groups of one process."""
    print(f"\ngroups of {pid}")
    print_table(_TITLES, [_row(group) for group in told], _RIGHT)


def _row(group: dict[str, Any]) -> list[str]:
    """Return one line of the tree; children are indented below the group above them."""
    path = group["path"]
    name = "  " * (path.count("/") + 1) + group["name"] if path else f"space {group['space']}"
    hits = sum(group.get(f"{limit}_events", 0) for limit in ("ram_max", "zswap_max", "swap_max"))
    fails = group.get("ram_fail_events", 0) + group.get("zswap_fail_events", 0)
    return [
        name,
        format_size(group["ram_bytes"]),
        _limit(group, "ram_max_bytes"),
        format_size(group["compressed_bytes"]),
        _limit(group, "zswap_max_bytes"),
        format_size(group["device_bytes"]),
        _limit(group, "swap_max_bytes"),
        "yes" if group.get("writeback", True) else "no",
        format_count(hits),
        format_count(fails),
    ]


def _limit(group: dict[str, Any], name: str) -> str:
    """Return a limit, or a dash where there is none."""
    return format_size(group[name]) if name in group else "-"
