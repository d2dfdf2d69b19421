"""``vswap set``: change the RAM budget of a running program, or the limits of its groups, or drain one."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from vswap.cli.groups import drain, limit
from vswap.errors import VswapError
from vswap.monitor.discover import Program, program
from vswap.monitor.memory import read_stats, write_ram
from vswap.run.limits import memory_limit
from vswap.sizes import check_floor, format_size, parse_budget

_WAIT_SECONDS = 2.0
"""The engine looks at its control every tick, many times in this."""


def main(words: Sequence[str]) -> int:
    """Run the sub-command."""
    parser = argparse.ArgumentParser(
        prog="vswap set", description="Change a running vswap program.", allow_abbrev=False
    )
    parser.add_argument("--pid", type=int, help="which; may be left out where there is one")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--ram", metavar="SIZE|PERCENT", help="the new RAM budget")
    what.add_argument(
        "--drain",
        metavar="[GROUP=]SIZE",
        help="move that much of a group's compressed pages, or of all, to a device, and say how "
        "much was moved",
    )
    what.add_argument(
        "--limit",
        metavar="GROUP:SETTING=VALUE,...",
        help="change limits of a group: ram_max, zswap_max, swap_max (a size, or none), writeback "
        "(on or off), device (a path, may be repeated; devices=all for all)",
    )
    given = parser.parse_args(list(words))
    if given.drain is not None:
        return drain(given.pid, given.drain)
    if given.limit is not None:
        return limit(given.pid, given.limit)
    return _set_ram(given)


def _set_ram(given: argparse.Namespace) -> int:
    """Change the budget."""
    total = memory_limit().bytes if "%" in given.ram else 0
    ram = check_floor(parse_budget(given.ram, total))
    target = program(given.pid)
    before = _budget(target)
    if target.control_path is None:
        raise VswapError(f"process {target.pid} cannot be changed: it offers no control")
    write_ram(target.control_path, ram)
    _wait_for(target, ram)
    print(f"{target.pid}: ram {format_size(before)} -> {format_size(ram)}")
    return 0


def _budget(target: Program) -> int:
    """Return the budget in force."""
    return read_stats(target.stats_path).values["ram_budget_bytes"]


def _wait_for(target: Program, ram: int) -> None:
    """Return when the engine has taken the budget over; VswapError if it does not."""
    until = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < until:
        if _budget(target) == ram:
            return
        time.sleep(0.01)
    raise VswapError(
        f"process {target.pid} did not take the new budget within {_WAIT_SECONDS:.0f} s "
        f"(is it stopped?); it will when it runs"
    )
