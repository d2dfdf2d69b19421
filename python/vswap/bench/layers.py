"""`vswap bench layers`: what the virtual layer costs, on one page sequence in one run.

The sequence is recorded by the event ring, from a NumPy job or from any command, then replayed step by step, side by
side, on the same process memory with the layer (plain slots, no compression, so that only the indirection differs) and
without it, on files of the same directory.  Ordinary compressed swapping is replayed too, for scale.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from vswap.bench.data import PAGE_SIZE
from vswap.bench.layers_replay import OPERATIONS, overhead_percent, replay
from vswap.bench.layers_table import MOST_OVERHEAD_PERCENT, show
from vswap.bench.machine import machine
from vswap.bench.recorded_run import RunFailed, record_command
from vswap.bench.sequence import MIB, sequence_of_events, sequence_of_job

if TYPE_CHECKING:
    from collections.abc import Sequence as SequenceOf

    from vswap.bench.layers_replay import Mode
    from vswap.bench.recorded_run import RecordedRun
    from vswap.bench.sequence import Sequence

RUN_OPTIONS = ("ram", "swap", "codec", "dedup", "faults", "min-alloc")
"""What `vswap run` is told about the command."""
MOST_MOVES = 200_000
"""Pages that go out or come in, in one replay of a command."""


def main(argv: SequenceOf[str] | None = None) -> int:
    """Measure and print; 0 whether or not the target is met: the table says so."""
    words = sys.argv[1:] if argv is None else list(argv)
    at = words.index("--") if "--" in words else len(words)
    words, command = words[:at], words[at + 1 :]
    parser = _parser()
    options = parser.parse_args(words)
    mib, repeats = (24, 3) if options.quick else (options.mib, options.repeats)
    if mib < 1 or repeats < 1:
        parser.error("--mib and --repeats are at least 1")
    run_options = _run_options(options)
    if run_options and not command:
        parser.error(f"{run_options[0]} is for a command; write it behind --")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _frame: sys.exit(128 + caught))
    try:
        run = record_command(command, run_options) if command else None
    except RunFailed as failed:
        if str(failed):
            print(f"vswap bench layers: {failed}", file=sys.stderr)
        return failed.status
    sequence = _sequence(run, mib * MIB // PAGE_SIZE, options.dir)
    modes = replay(sequence, repeats, options.dir)
    if options.json:
        json.dump(as_json(sequence, modes, run), sys.stdout, indent=1)
        print()
    else:
        show(sequence, modes, run)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vswap bench layers",
        usage="vswap bench layers [options] [-- COMMAND [ARG...]]",
        description="What the virtual swap layer costs: one recorded page sequence, replayed with it "
        "and without it side by side, contents verified. The sequence is a NumPy job's, or that of a command, which "
        "runs under `vswap run` while its events are recorded from outside.",
        epilog="Exit status: 0; of a command: its own where it failed, 125 where vswap failed or there was nothing to "
        "record, 126 where it cannot be executed, 127 where it is not found. What it prints goes to stderr.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--mib",
        type=int,
        default=48,
        help="MiB of data, at most for a command (default %(default)s)",
    )
    parser.add_argument("--repeats", type=int, default=31, help="replays (default %(default)s)")
    parser.add_argument(
        "--dir", default="/var/tmp", help="where the slots' files go (default %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="little data, few repeats: a look")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    of_run = parser.add_argument_group("for the command, as of `vswap run`")
    for name in RUN_OPTIONS:
        of_run.add_argument(f"--{name}", action="append", default=[], metavar=name.upper())
    return parser


def _run_options(options: argparse.Namespace) -> list[str]:
    """Those for `vswap run`, as words."""
    values = {name: getattr(options, name.replace("-", "_")) for name in RUN_OPTIONS}
    return [word for name in RUN_OPTIONS for value in values[name] for word in (f"--{name}", value)]


def _sequence(run: RecordedRun | None, pages: int, directory: str) -> Sequence:
    """What is replayed."""
    if run is not None:
        noted = run.processes[0].events
        return sequence_of_events(noted.kinds, noted.pages, pages, MOST_MOVES)
    with tempfile.TemporaryDirectory(prefix="vswap-layers-", dir=directory) as scratch:
        return sequence_of_job(scratch, pages)


def as_json(sequence: Sequence, modes: SequenceOf[Mode], run: RecordedRun | None) -> dict[str, Any]:
    """Return everything measured."""
    direct, virtual = modes[0], modes[1]
    overheads = {op: overhead_percent(direct.spent[op], virtual.spent[op]) for op in OPERATIONS}
    told: dict[str, Any] = {
        "machine": machine(),
        "mib": sequence.pages * PAGE_SIZE / MIB,
        "recorded_touches": sequence.touches,
        "rounds": len(sequence.rounds),
        "replayed_mib": sequence.kept_mib,
        "recorded_mib": sequence.recorded_mib,
        "modes": {
            mode.name: {
                "operations": {op: mode.spent[op].as_json() for op in OPERATIONS},
                "table_bytes_per_page": mode.table_bytes_per_page,
            }
            for mode in modes
        },
        "overhead_percent": overheads,
        "target_percent": MOST_OVERHEAD_PERCENT,
        "met": all(overheads[op] <= MOST_OVERHEAD_PERCENT for op in ("swap-out", "swap-in")),
    }
    if run is not None:
        told["command"] = run.command
        told["wall_seconds"] = run.wall_seconds
        told["processes"] = [process.as_json() for process in run.processes]
        told["processes_without_ring"] = run.unknown_processes
    return told
