"""`vswap bench writes`: what swapping writes to a device, vswap beside kernel swap, on one job.

Both swap to a loop device of their own on files of one directory, so that the same counters of the same kind
of device say what each was given: its bytes, requests, and how large those were.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from vswap.bench.contender import Unavailable
from vswap.bench.data import PAGE_SIZE, write_pages
from vswap.bench.kernel_swap import Loops, Written, pages_swapped_out, written_to
from vswap.bench.machine import machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MIB = 1 << 20
MOST_PERCENT = 40.0
"""Of the bytes that kernel swap writes a page that is evicted, what vswap may write."""
JOB_SECONDS = 900
TRIES = 3
"""For the kernel: in a small cgroup it now and then finds no page to put out although there is swap, and kills the job."""
DEVICE_PER_DATA = 3


class JobFailedError(RuntimeError):
    """The job did not end well: with kernel swap it may have been killed."""


@dataclass(frozen=True)
class Outcome:
    """What one way of swapping did for the job."""

    name: str
    output: str
    evicted_pages: int
    device_bytes: int
    requests: int
    merged: int
    whole_percent: float | None
    """Bytes written in whole segments, of all; None: it has no segments."""
    killed: int = 0
    """How often the job was killed for want of memory before it ended."""

    @property
    def bytes_per_page(self) -> float:
        """Bytes the device was given for a page that left memory."""
        return self.device_bytes / max(self.evicted_pages, 1)

    @property
    def bytes_per_request(self) -> float:
        """How large the device's requests were."""
        return self.device_bytes / max(self.requests, 1)


def with_kernel(loops: Loops, command: Sequence[str]) -> Outcome:
    """Run the job in the cgroup, with kernel swap; again where the kernel killed it for want of memory."""
    for killed in range(TRIES):
        before = loops.oom_kills()
        try:
            return _once_with_kernel(loops, command, killed)
        except JobFailedError:
            if loops.oom_kills() == before:
                raise
        print("kernel swap: the kernel killed the job for want of memory", file=sys.stderr)
    message = f"kernel swap cannot keep the job in so little memory ({TRIES} times killed): give --ram-mib more"
    raise Unavailable(message)


def _once_with_kernel(loops: Loops, command: Sequence[str], killed: int) -> Outcome:
    device = loops.swapon()
    try:
        before, pages = written_to(device), pages_swapped_out()
        output = _run(command, loops.enter)
        spent, pages = written_to(device) - before, pages_swapped_out() - pages
    finally:
        loops.swapoff()
    return replace(_outcome("kernel swap", output, pages, spent, None), killed=killed)


def with_vswap(loops: Loops, ram: int, command: Sequence[str]) -> Outcome:
    """Run the job in the same RAM, with vswap and its defaults."""
    device = loops.devices[1]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        run = [sys.executable, "-m", "vswap", "run", "--ram", str(ram), "--swap", device]
        before = written_to(device)
        output = _run([*run, "--report-json", str(report), "--", *command], None)
        spent = written_to(device) - before
        processes = json.loads(report.read_text())["per_process"]
    pages = sum(process["counters"]["swap_out_pages"] for process in processes)
    # Segments are written whole; what else the device got, its header, was not.
    segments = sum(process["counters"]["device_written_bytes"] for process in processes)
    whole = 100.0 * min(segments, spent.bytes) / max(spent.bytes, 1)
    return _outcome("vswap", output, pages, spent, whole)


def _outcome(name: str, output: str, pages: int, spent: Written, whole: float | None) -> Outcome:
    return Outcome(name, output, pages, spent.bytes, spent.requests, spent.merged, whole)


def _run(command: Sequence[str], before: Callable[[], None] | None) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=JOB_SECONDS,
        preexec_fn=before,
        check=False,
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise JobFailedError(f"the job ended with {done.returncode}: {last[0]}")
    return done.stdout


def measure(mib: int, ram: int, directory: str, command: Sequence[str]) -> list[Outcome]:
    """Run the job both ways; its output must be the same."""
    with tempfile.TemporaryDirectory(prefix="vswap-writes-", dir=directory) as scratch:
        if not command:
            data = Path(scratch) / "pages.bin"
            pages = mib * MIB // PAGE_SIZE
            write_pages(data, pages)
            command = [sys.executable, "-m", "vswap.bench.writes_job", str(data), str(pages)]
        loops = Loops(scratch, DEVICE_PER_DATA * mib * MIB, ram)
        loops.start()
        try:
            outcomes = [with_kernel(loops, command), with_vswap(loops, ram, command)]
        finally:
            loops.stop()
    if outcomes[0].output != outcomes[1].output:
        raise RuntimeError("the job said different things with vswap and with kernel swap")
    return outcomes


def percent_of(kernel: Outcome, ours: Outcome) -> float:
    """What vswap writes a page that is evicted, of what kernel swap writes."""
    return 100.0 * ours.bytes_per_page / max(kernel.bytes_per_page, 1e-9)


def as_json(outcomes: Sequence[Outcome], ram: int) -> dict[str, Any]:
    """Return everything measured."""
    percent = percent_of(*outcomes)
    return {
        "machine": machine(),
        "ram_bytes": ram,
        "outcomes": [{**asdict(one), "bytes_per_page": one.bytes_per_page} for one in outcomes],
        "percent_of_kernel": percent,
        "target_percent": MOST_PERCENT,
        "met": percent <= MOST_PERCENT,
    }


def show(outcomes: Sequence[Outcome], ram: int) -> None:
    """Print the table."""
    console = Console(width=None if Console().is_terminal else 140)
    table = Table(title=f"device writes of one job in {ram // MIB} MiB")
    heads = (
        "",
        "pages evicted",
        "MB written",
        "bytes a page",
        "requests",
        "KiB a request",
        "whole segments",
    )
    for head in heads:
        table.add_column(head, justify="right" if head else "left")
    for one in outcomes:
        share = one.whole_percent
        table.add_row(
            one.name,
            f"{one.evicted_pages:,}",
            f"{one.device_bytes / 1e6:,.1f}",
            f"{one.bytes_per_page:,.0f}",
            f"{one.requests:,}",
            f"{one.bytes_per_request / 1024:,.1f}",
            "none" if share is None else f"{share:.1f} %",
        )
    console.print(table)
    for one in outcomes:
        if one.killed:
            console.print(f"{one.name}: killed for want of memory {one.killed} times before that.")
    percent = percent_of(*outcomes)
    met = "[green]met[/]" if percent <= MOST_PERCENT else "[red]not met[/]"
    console.print(
        f"vswap writes {percent:.1f} % of kernel swap's bytes a page evicted; target at most {MOST_PERCENT:g} %: {met}\n"
        "Evicted: pages that left memory, to compressed RAM too. Whole segments: written in sequential runs of\n"
        "256 KiB. Requests are as the block layer merged them. The output of the job was the same both times.",
        highlight=False,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 where it cannot be measured here."""
    parser = argparse.ArgumentParser(
        prog="vswap bench writes",
        usage="vswap bench writes [options] [--] [COMMAND [ARG...]]",
        description="Bytes written to a device for each page that leaves memory: vswap beside kernel swap, on "
        "the same job. As root: it sets loop devices, kernel swap and a memory cgroup up and takes them down.",
    )
    parser.add_argument(
        "--mib", type=int, default=256, help="MiB of data of the built-in job (default %(default)s)"
    )
    parser.add_argument(
        "--ram-mib", type=int, help="RAM both may use (default: a third of the data)"
    )
    parser.add_argument(
        "--dir", default="/var/tmp", help="where the devices' files go (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="another job")
    options = parser.parse_args(argv)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    ram = (options.ram_mib or max(options.mib // 3, 48)) * MIB
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _frame: sys.exit(128 + caught))
    try:
        outcomes = measure(options.mib, ram, options.dir, command)
    except Unavailable as reason:
        print(f"vswap bench writes: {reason}", file=sys.stderr)
        return 1
    if options.json:
        json.dump(as_json(outcomes, ram), sys.stdout, indent=1)
        print()
    else:
        show(outcomes, ram)
    return 0
