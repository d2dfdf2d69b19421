"""`vswap bench cleaning`: how long faults take while the cleaner works, beside the same work where it has nothing to do.

In RAM and on a device without a name, each in a process of its own: memory is filled until 85 % of what the log may
take is live. Then pages are freed and made anew while others are touched, first in the order they were written, so that
segments empty themselves, then at random, so that only cleaning makes room. Every page is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from vswap.bench.machine import machine
from vswap.bench.table import BUSY

if TYPE_CHECKING:
    from collections.abc import Sequence

PLACES = ("ram", "device")
MOST_TIMES = 3.0
"""Of the p99 of a fault where nothing is cleaned, what it may be where the cleaner works."""
LIVE_PERCENT = 85.0
"""Live bytes of what the log may take, when memory is full."""
DEFAULT_MIB, DEFAULT_FAULTS = 64, 40_000
QUICK_MIB, QUICK_FAULTS = 16, 4_000
PHASE_SECONDS = 120.0
_WORKER_SECONDS = 1800
_LOOK_SECONDS = 0.2
_TITLES = {"ram": "RAM", "device": "device"}
_KINDS = {"in order": "nothing to clean", "random": "cleaning"}


def measure(places: Sequence[str], mib: int, faults: int) -> list[dict[str, Any]]:
    """Measure both orders in each place, one place after the other.

    Raises:
        RuntimeError: a worker failed, or a page came back wrong.
    """
    return [phase for place in places for phase in _measure_one(place, mib, faults)]


def _measure_one(place: str, mib: int, faults: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "vswap.bench.cleaning", "--worker-of", str(os.getpid())]
    command += ["--mib", str(mib)]
    command += ["--faults", str(faults), place]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = worker.communicate(timeout=_WORKER_SECONDS)
    finally:
        if worker.poll() is None:
            worker.terminate()
            worker.wait()
    if worker.returncode != 0:
        last = err.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeError(f"{place}: {last[0]}")
    phases: list[dict[str, Any]] = json.loads(out)
    return phases


def times_of(phases: Sequence[dict[str, Any]], place: str) -> float | None:
    """Return the p99 of a fault while the cleaner works, of what it is where it does not; None: not measured."""
    p99 = {phase["order"]: phase["fault_ns"]["p99"] for phase in phases if phase["place"] == place}
    if set(p99) != set(_KINDS):
        return None
    return float(p99["random"] / max(p99["in order"], 1))


def as_json(phases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return everything measured."""
    times = {place: times_of(phases, place) for place in PLACES}
    told = {place: ratio for place, ratio in times.items() if ratio is not None}
    return {
        "machine": machine(),
        "live_percent": LIVE_PERCENT,
        "phases": list(phases),
        "p99_times": told,
        "most_times": MOST_TIMES,
        "met": all(ratio <= MOST_TIMES for ratio in told.values()),
    }


def show(record: dict[str, Any]) -> None:
    """Print the table."""
    console = Console(width=None if Console().is_terminal else 150)
    told = record["machine"]
    console.print(
        f"vswap {told['vswap']} · Linux {told['kernel']} · {told['cpu']} · {told['cores']} cores",
        highlight=False,
    )
    if float(told["load"]) > BUSY * int(told["cores"]):
        console.print(
            f"[yellow]The machine is busy (load {told['load']}): "
            "times are those of a thread that has to wait for its CPU.[/]"
        )
    console.print(_figures(record["phases"]))
    for place, ratio in record["p99_times"].items():
        met = "[green]met[/]" if ratio <= MOST_TIMES else "[red]not met[/]"
        console.print(
            f"{_TITLES[place]}: p99 of a fault while the cleaner works is {ratio:.2f} times what it is where there is "
            f"nothing to clean; target at most {MOST_TIMES:g}: {met}",
            highlight=False,
        )
    verified = sum(phase["pages_verified"] for phase in record["phases"])
    console.print(
        f"{verified:,} pages were compared, all were right; every self-check was clean. "
        "Times are of touches, fault and all; the engine's own histogram is in --json.",
        highlight=False,
    )


def _figures(phases: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="times of faults in us, with the cleaner at work and without")
    heads = ("", "live", "copied / written", "segments cleaned", "faults", "p50", "p99", "p99.9")
    for head in (*heads, "max", "refused"):
        table.add_column(head, justify="right" if head else "left")
    for phase in phases:
        table.add_row(
            f"{_TITLES[phase['place']]}, {_KINDS[phase['order']]}",
            f"{phase['utilisation_percent']:.1f} %",
            f"{phase['copied_per_written']:.2f}",
            f"{phase['cleaned_segments']:,}",
            f"{phase['faults']:,}",
            *(f"{phase['fault_ns'][name] / 1e3:,.1f}" for name in ("p50", "p99", "p999", "max")),
            f"{phase['refused_pages']:,}",
        )
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 where a worker failed or a page was wrong."""
    parser = _parser()
    options = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _frame: sys.exit(128 + caught))
    if options.quick:
        options.mib, options.faults = QUICK_MIB, QUICK_FAULTS
    places = options.places or PLACES
    if options.mib < QUICK_MIB:
        parser.error(f"give at least {QUICK_MIB} MiB")
    if options.worker_of:
        from vswap.bench.cleaning_job import work

        threading.Thread(target=_end_with, args=(options.worker_of,), daemon=True).start()
        phases = work(places[0], options.mib, LIVE_PERCENT, options.faults, PHASE_SECONDS)
        print(json.dumps(phases))
        return 0
    try:
        phases = measure(places, options.mib, options.faults)
    except RuntimeError as reason:
        print(f"vswap bench cleaning: {reason}", file=sys.stderr)
        return 1
    record = as_json(phases)
    if options.json:
        json.dump(record, sys.stdout, indent=1)
        print()
    else:
        show(record)
    return 0


def _end_with(bench: int) -> None:
    """End this worker once the bench is gone, however it went: it may not have known yet whom to end."""
    while os.getppid() == bench:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vswap bench cleaning",
        description="Times of faults while the cleaner gathers what lives out of half-dead segments, in RAM and on a "
        "device, beside the same work in an order that leaves it nothing to do; contents verified.",
    )
    parser.add_argument(
        "--mib",
        type=int,
        default=DEFAULT_MIB,
        help="MiB of compressed pages there is room for (default %(default)s)",
    )
    parser.add_argument(
        "--faults",
        type=int,
        default=DEFAULT_FAULTS,
        help="faults that are timed in each phase (default %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="little memory, few faults: a look")
    parser.add_argument("--worker-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument(
        "places",
        nargs="*",
        choices=(*PLACES, []),
        metavar="PLACE",
        help=f"some of: {', '.join(PLACES)}",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
