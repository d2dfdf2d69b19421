"""``vswap stat``: the counters of running vswap programs."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

from vswap.cli.groups import groups_of, print_groups
from vswap.cli.tables import print_table
from vswap.errors import VswapError
from vswap.histogram import quantile
from vswap.monitor.discover import Program, programs, programs_of
from vswap.monitor.memory import Snapshot, read_stats
from vswap.sizes import PAGE_SIZE, format_count, format_duration, format_size

_TITLES = ("PID", "RAM", "HELD", "UNMANAGED", "SWAPPED", "RATIO", "DEVICES", "FAULTS", "P50", "P99",
           "WAITED", "COMMAND")  # fmt: skip
_RIGHT = "rrrrrrrrrrr"


def main(words: Sequence[str]) -> int:
    """Run the sub-command."""
    given = _parser().parse_args(list(words))
    try:
        while True:
            _show(given)
            if not given.watch:
                return 0
            time.sleep(given.interval)
    except KeyboardInterrupt:
        return 0


def _parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        prog="vswap stat",
        description="Show the counters of your running vswap programs.",
        allow_abbrev=False,
    )
    parser.add_argument("--pid", type=int, help="this program only")
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    parser.add_argument("--watch", action="store_true", help="again and again, until interrupted")
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS",
                        help="how long --watch waits (default 1)")  # fmt: skip
    parser.add_argument("--explain", action="store_true", help="every counter, and what it means")
    parser.add_argument("--config", action="store_true", help="the configuration in force")
    return parser


def _show(given: argparse.Namespace) -> None:
    """Print once what was asked for."""
    chosen = programs_of(given.pid) if given.pid is not None else programs()
    read = [(target, snapshot) for target in chosen if (snapshot := _read(target, given.pid))]
    if given.watch and not given.json:
        print("\033[H\033[2J", end="")
    if given.json:
        asked = {pid: groups_of(pid) for pid in _with_groups(read)}
        found = [{**as_json(t, s), "groups": asked.get(t.pid, [])} for t, s in read]
        print(json.dumps(found), flush=True)
    elif not read:
        print("no vswap program of yours is running")
    elif given.config:
        _print_configs(read)
    elif given.explain:
        _explain(read)
    else:
        print_table(_TITLES, [_row(t, s) for t, s in read], _RIGHT)
        for pid in _with_groups(read):
            if told := groups_of(pid):
                print_groups(pid, told)


def _with_groups(read: Sequence[tuple[Program, Snapshot]]) -> list[int]:
    """Return the processes that have groups: only those are asked."""
    return list(dict.fromkeys(t.pid for t, s in read if s.values.get("groups")))


def _read(target: Program, pid: int | None) -> Snapshot | None:
    """Read one program; one that has ended meanwhile is left out unless it was named."""
    try:
        return read_stats(target.stats_path)
    except VswapError:
        if pid is not None:
            raise
        return None


def as_json(target: Program, snapshot: Snapshot) -> dict[str, Any]:
    """Return one program for other programs to read."""
    return {
        "pid": target.pid,
        "command": target.command,
        "age_seconds": (snapshot.taken_ns - snapshot.start_ns) / 1e9,
        "counters": snapshot.values,
        "fault_p50_ns": quantile(snapshot.latencies, 0.50),
        "fault_p99_ns": quantile(snapshot.latencies, 0.99),
        "config": snapshot.config,
    }


def _row(target: Program, snapshot: Snapshot) -> list[str]:
    """Return one line of the table."""
    v = snapshot.values
    stored = v["stored_bytes"]
    ratio = f"{v['stored_pages'] * PAGE_SIZE / stored:.2f}" if stored else "-"
    return [
        str(target.pid),
        format_size(v["ram_budget_bytes"]),
        format_size(v["held_bytes"]),
        format_size(v["unmanaged_bytes"]),
        format_size(v["swapped_pages"] * PAGE_SIZE),
        ratio,
        format_size(v["device_bytes"]),
        format_count(v["faults"]),
        format_duration(quantile(snapshot.latencies, 0.50)),
        format_duration(quantile(snapshot.latencies, 0.99)),
        format_duration(v["waited_ns"]),
        target.command,
    ]


def _explain(read: Sequence[tuple[Program, Snapshot]]) -> None:
    """Print every counter with its line of help."""
    for target, snapshot in read:
        print(f"{target.pid}  {target.command}")
        rows = [
            (name, readable(name, value), snapshot.kinds[name], snapshot.helps[name])
            for name, value in snapshot.values.items()
        ]
        print_table(("COUNTER", "VALUE", "KIND", "MEANING"), rows, " r")


def readable(name: str, value: int) -> str:
    """Return a counter in the unit its name ends in."""
    if name.endswith("_bytes"):
        return format_size(value)
    if name.endswith("_ns"):
        return format_duration(value)
    return format_count(value)


def _print_configs(read: Sequence[tuple[Program, Snapshot]]) -> None:
    """Print the configurations."""
    for target, snapshot in read:
        print(f"{target.pid}  {target.command}")
        for key, value in snapshot.config.items():
            shown = ", ".join(value) if isinstance(value, list) else value
            print(f"  {key} = {shown}")
