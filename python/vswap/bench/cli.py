"""`vswap bench`: all contenders, turn by turn.

A machine that others share changes its speed from one minute to the next, so each turn measures every
contender once, in a process of its own, and what is compared is what stood side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from vswap.bench.data import PAGE_SIZE, write_pages
from vswap.bench.machine import machine
from vswap.bench.record import Record, Said, joined, results_of
from vswap.bench.table import show
from vswap.bench.worker import CONTENDERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT_MIB = 256
QUICK_MIB, QUICK_REPEATS = 32, 2
WORKER_SECONDS = 600
OTHERS = ("cleaning", "dedup", "layers", "metadata", "swapoff", "writes")
"""Benches of one thing each: modules of these names, imported when asked for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; 0 when every contender ran or was skipped for a reason, 1 when one failed."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] and words[0] in OTHERS:
        bench: Callable[[Sequence[str]], int] = import_module(f"vswap.bench.{words[0]}").main
        return bench(words[1:])
    parser = _parser()
    options = parser.parse_args(words)
    unknown = set(options.contenders) - set(CONTENDERS)
    if unknown:
        parser.error(f"no such contender: {', '.join(sorted(unknown))}")
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    if options.quick:
        options.mib, options.repeats = QUICK_MIB, QUICK_REPEATS
    pages = (options.mib << 20) // PAGE_SIZE
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _frame: sys.exit(128 + caught))
    cpu = options.cpu if options.cpu is not None else max(os.sched_getaffinity(0))
    described = machine()
    with tempfile.TemporaryDirectory(prefix="vswap-bench-", dir=options.dir) as folder:
        data = Path(folder) / "pages.bin"
        write_pages(data, pages)
        raw = _turn_by_turn(options, pages, data, cpu)
    record = Record(described, pages, options.repeats, cpu, results_of(raw))
    if options.json:
        json.dump(record.as_json(), sys.stdout, indent=1)
        print()
    else:
        show(record)
    return 1 if any(result.status == "failed" for result in record.results) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vswap bench",
        description="vswap beside kernel zram swap and numpy.memmap: same data, same orders, "
        "contents verified. As root it sets /dev/zram0 up as swap for a while and takes it down. "
        "`vswap bench metadata` compares what bookkeeping takes with the kernel's vswap patches, "
        "`vswap bench layers` says what the virtual swap layer costs, `vswap bench writes` what is "
        "written to devices beside kernel swap, `vswap bench swapoff` how long a device takes to leave, "
        "`vswap bench dedup` what sharing equal pages saves and costs, `vswap bench cleaning` how long faults take "
        "while the log is cleaned.",
    )
    parser.add_argument(
        "--mib", type=int, default=DEFAULT_MIB, help="MiB of data (default %(default)s)"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=5,
        help="turns, each of which measures every contender (default %(default)s)",
    )
    parser.add_argument(
        "--cpu", type=int, help="the CPU the measuring thread is pinned to (default: the last)"
    )
    parser.add_argument(
        "--dir", default="/var/tmp", help="where data files go (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="the record as JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="little data, few repeats: a look")
    parser.add_argument(
        "contenders",
        nargs="*",
        metavar="CONTENDER",
        default=CONTENDERS,
        help=f"some of: {', '.join(CONTENDERS)}",
    )
    return parser


def _turn_by_turn(options: argparse.Namespace, pages: int, data: Path, cpu: int) -> dict[str, Said]:
    """What each contender said in all turns; one that cannot or does not go on is not asked again."""
    turns: dict[str, list[Said]] = {name: [] for name in options.contenders}
    for turn in range(options.repeats):
        for name, said in turns.items():
            if said and said[-1]["status"] != "ok":
                continue
            if not options.json:
                print(
                    f"turn {turn + 1} of {options.repeats}: {name} ...", file=sys.stderr, flush=True
                )
            said.append(_run_worker(name, pages, data, cpu))
    return {name: joined(said) for name, said in turns.items()}


def _run_worker(name: str, pages: int, data: Path, cpu: int) -> Said:
    command = [
        sys.executable,
        "-m",
        "vswap.bench.worker",
        "--contender",
        name,
        "--pages",
        str(pages),
    ]
    command += ["--repeats", "1", "--data", str(data), "--cpu", str(cpu)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = worker.communicate(timeout=WORKER_SECONDS)
    except subprocess.TimeoutExpired:
        return {"status": "failed", "reason": f"did not end in {WORKER_SECONDS} s"}
    finally:
        if worker.poll() is None:
            worker.terminate()
            worker.wait()
    if worker.returncode != 0:
        last = err.strip().splitlines()[-1] if err.strip() else "no message"
        return {"status": "failed", "reason": f"ended with {worker.returncode}: {last}"}
    said: Said = json.loads(out.splitlines()[-1])
    return said


if __name__ == "__main__":
    raise SystemExit(main())
