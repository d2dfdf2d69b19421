"""``vswap swapoff``: take a swap device off a running program, which keeps every page."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

from vswap.cli.progress import bytes_bar, no_bar
from vswap.errors import ConfigError
from vswap.monitor.control import CancelledError, Control
from vswap.monitor.sockets import Endpoint, endpoint
from vswap.run.swapspec import device_name
from vswap.sizes import format_size

INTERRUPTED = 130
"""Exit status where somebody ended it with Ctrl-C."""

Bar = Callable[[int, int], None]


def main(words: Sequence[str]) -> int:
    """Run the sub-command."""
    parser = argparse.ArgumentParser(
        prog="vswap swapoff",
        description="Take a swap device off a running vswap program. What is on it goes to its "
        "other devices and to RAM; where it does not fit nothing is changed.  Ctrl-C ends it, "
        "and nothing is lost.",
        allow_abbrev=False,
    )
    parser.add_argument("device", metavar="PATH", help="as 'vswap swapon --show' names it")
    parser.add_argument(
        "--pid", metavar="PID[/SPACE]", help="which program; may be left out where there is one"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(list(words))
    if not given.device:
        raise ConfigError("a swap path is missing")
    path = device_name(given.device)
    target = endpoint(given.pid)
    try:
        moved = swapoff(target, path, _bar(path))
    except CancelledError as ended:
        print(f"vswap: {ended}", file=sys.stderr)
        return INTERRUPTED
    if given.json:
        print(json.dumps({"pid": target.pid, "space": target.space, "path": path, **moved}))
    else:
        print(f"{target}: {path} is off ({format_size(moved['moved_bytes'])} moved)")
    return 0


def _bar(path: str) -> AbstractContextManager[Bar]:
    """Return a progress bar where somebody looks."""
    return bytes_bar(f"swapoff {path}") if sys.stderr.isatty() else no_bar()


def swapoff(target: Endpoint, path: str, bar: AbstractContextManager[Bar]) -> dict[str, Any]:
    """Take a device off; CancelledError where an interrupt ended it first."""
    with Control(target) as control, bar as show, _interrupts_end(control):
        return control.ask("swapoff", path, on_progress=show)


@contextmanager
def _interrupts_end(control: Control) -> Iterator[None]:
    """Have the first Ctrl-C end it in order, and the second end us: the engine sees us hang up."""

    def end(number: int, frame: FrameType | None) -> None:
        control.cancel()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
