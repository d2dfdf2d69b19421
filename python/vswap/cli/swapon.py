"""``vswap swapon``: give a running program another swap device, or show what it has."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from vswap.cli.tables import print_table
from vswap.errors import ConfigError, VswapError
from vswap.monitor.control import Control
from vswap.monitor.discover import programs
from vswap.monitor.sockets import Endpoint, endpoint, endpoints, endpoints_of
from vswap.run.swapspec import device_name, split_priority, split_spec
from vswap.sizes import format_count, format_size

_TITLES = ("PID", "DEVICE", "KIND", "PRIORITY", "SIZE", "USED", "WRITTEN", "READ", "ERRORS",
           "STATE", "COMMAND")  # fmt: skip
_RIGHT = "r  rrrrrr"
KINDS = ("file", "block", "slots")


def main(words: Sequence[str]) -> int:
    """Run the sub-command."""
    parser = _parser()
    given = parser.parse_args(list(words))
    if given.show:
        if given.device is not None or given.priority is not None or given.kind is not None:
            parser.error("--show changes nothing: it goes with --pid and --json alone")
        _show(given)
        return 0
    if given.device is None:
        parser.error("name a file or block device, or ask with --show")
    request = request_of(given.device, given.priority, given.kind)
    target = endpoint(given.pid)
    with Control(target) as control:
        (device,) = control.ask(*request)["devices"]
    if given.json:
        print(json.dumps(_as_json(target, device), indent=2))
    else:
        size, priority = format_size(device["capacity_bytes"]), device["priority"]
        print(f"{target}: {device['path']} is on ({device['kind']}, {size}, priority {priority})")
    return 0


def _parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        prog="vswap swapon",
        description="Give a running vswap program another swap device, or show what each has.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "device",
        nargs="?",
        metavar="PATH[:SIZE]",
        help="a file (made if missing), a block device, or auto: a file without a name",
    )
    parser.add_argument(
        "--pid", metavar="PID[/SPACE]", help="which program; may be left out where there is one"
    )
    parser.add_argument("--priority", type=int, metavar="N",
                        help="0 to 32767; higher ones are filled first (default: below all others)")  # fmt: skip
    parser.add_argument("--kind", choices=KINDS, help="default: what is found at the path")
    parser.add_argument("--show", action="store_true", help="the devices of running programs")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


def request_of(device: str, priority: int | None, kind: str | None) -> list[str]:
    """Return the request for a device; ConfigError for what can be seen to be wrong."""
    rest, behind = split_priority(device)
    path, size = split_spec(rest)
    if not path:
        raise ConfigError("a swap path is missing; give PATH or PATH:SIZE")
    if behind is not None and priority is not None:
        raise ConfigError("the priority is given twice; leave out @N or --priority N")
    priority = behind if priority is None else priority
    if priority is not None and not 0 <= priority <= 32767:
        raise ConfigError(f"a priority is a number from 0 to 32767, not {priority}")
    request = ["swapon", device_name(path)]
    request += [f"size={size}"] if size is not None else []
    request += [f"priority={priority}"] if priority is not None else []
    request += [f"kind={kind}"] if kind is not None else []
    return request


def _show(given: argparse.Namespace) -> None:
    """Print the devices of one program, or of all of this user."""
    targets = endpoints(given.pid) if given.pid is not None else _all_endpoints()
    told = [
        (target, device) for target in targets for device in _devices(target, given.pid is not None)
    ]
    if given.json:
        print(json.dumps([_as_json(*row) for row in told], indent=2))
    elif told:
        print_table(_TITLES, [_row(*row) for row in told], _RIGHT)
    else:
        print("no swap device is on" if targets else "no vswap program of yours is running")


def _all_endpoints() -> list[Endpoint]:
    """Return every engine of this user."""
    pids = dict.fromkeys(found.pid for found in programs())
    return [one for pid in pids for one in endpoints_of(pid)]


def _devices(target: Endpoint, named: bool) -> list[dict[str, Any]]:
    """Ask one engine; one that has ended meanwhile has none, unless it was named."""
    try:
        with Control(target) as control:
            devices: list[dict[str, Any]] = control.ask("devices")["devices"]
            return devices
    except VswapError:
        if named:
            raise
        return []


def _as_json(target: Endpoint, device: dict[str, Any]) -> dict[str, Any]:
    """Return a device with whose it is."""
    return {"pid": target.pid, "space": target.space, "command": target.command, **device}


def _row(target: Endpoint, device: dict[str, Any]) -> list[str]:
    """Return one line of the table."""
    return [
        str(target),
        device["path"],
        device["kind"],
        str(device["priority"]),
        format_size(device["capacity_bytes"]),
        format_size(device["used_bytes"]),
        format_size(device["written_bytes"]),
        format_size(device["read_bytes"]),
        format_count(device["errors"]),
        device["state"],
        target.command,
    ]
