"""``vswap check``: does everything still add up in a running program?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from vswap.monitor.control import Control
from vswap.monitor.sockets import Endpoint, endpoints


def main(words: Sequence[str]) -> int:
    """Run the sub-command; status 1 where a law is broken."""
    parser = argparse.ArgumentParser(
        prog="vswap check",
        description="Check the engine's conservation laws in a running program, which stands still "
        "meanwhile: no page is lost, and what is told adds up.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--pid", metavar="PID[/SPACE]", help="which; may be left out where there is one"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(list(words))
    told = [_check(target) for target in endpoints(given.pid)]
    if given.json:
        print(json.dumps(told, indent=2))
    else:
        for one in told:
            _print(one)
    return 1 if any(one["broken_count"] for one in told) else 0


def _check(target: Endpoint) -> dict[str, Any]:
    """Ask one engine."""
    with Control(target) as control:
        answer = control.ask("check")
    return {"pid": target.pid, "space": target.space, "command": target.command, **answer}


def _print(one: dict[str, Any]) -> None:
    """Print what one engine said."""
    name = f"{one['pid']}/{one['space']}" if one["space"] else str(one["pid"])
    count = one["broken_count"]
    if not count:
        print(f"{name} ({one['command']}): every law holds")
        return
    print(f"{name} ({one['command']}): {count} {'law is' if count == 1 else 'laws are'} broken")
    for sentence in one["broken"]:
        print(f"  {sentence}")
    if count > len(one["broken"]):
        print(f"  and {count - len(one['broken'])} more")
