"""`vswap bench swapoff`: taking a swap device off that holds gigabytes, vswap beside the kernel.

The same pages are put on a loop device of the same kind, on files of one directory: by the kernel as they are, by
vswap compressed, in segments, and by vswap as they are in plain slots, where each page has to be looked for. Then the
device is taken off, which is timed, and every byte is compared with the file the pages came from.
"""

from __future__ import annotations

import argparse
import json
import mmap
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from vswap.bench.contender import Unavailable
from vswap.bench.data import PAGE_SIZE, fill_from, first_difference, write_pages
from vswap.bench.kernel_swap import Loops, pages_swapped_out
from vswap.bench.machine import machine
from vswap.sizes import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vswap.bench.data import Bytes

LEAST_TIMES = 5.0
"""How much faster than the kernel vswap is to be, on pages it holds compressed."""
WAYS = ("kernel", "segments", "slots")
_MADV_PAGEOUT = 21
"""Python 3.11 has no name for it."""
_TRIES = 50
_PAUSE_SECONDS = 0.2
_RAM_PART = 64
"""While the pages go out, vswap has this part of them as RAM: nearly all ends up on the device."""
_SLOTS_RAM_PART = 3
"""For slots more: the log, where they come back to as they are, may have four times the first budget at most."""
LEAST_RAM_MIB = 32
_TITLES = {
    "kernel": "kernel swap",
    "segments": "vswap, compressed segments",
    "slots": "vswap, plain slots",
}
_HEADROOM = 2
_WORKER_SECONDS = 1800


@dataclass(frozen=True)
class Outcome:
    """One device taken off."""

    way: str
    pages: int
    """Pages that were on the device."""
    device_bytes: int
    """What they took there."""
    seconds: float
    right: bool
    """Whether every byte was found again."""

    @property
    def ns_per_page(self) -> float:
        """How long a page took to leave."""
        return self.seconds * 1e9 / max(self.pages, 1)


def measure(mib: int, ways: Sequence[str], directory: str) -> list[Outcome]:
    """Measure each way once, one after the other.

    Raises:
        Unavailable: kernel swap or loop devices cannot be had here.
        RuntimeError: a worker failed.
    """
    pages = mib * MIB // PAGE_SIZE
    with tempfile.TemporaryDirectory(prefix="vswap-swapoff-", dir=directory) as scratch:
        data = Path(scratch) / "pages.bin"
        write_pages(data, pages)
        loops = Loops(scratch, (mib + mib // 8 + 16) * MIB, _HEADROOM * mib * MIB)
        loops.start()
        try:
            return [_one(way, loops, data, pages) for way in ways]
        finally:
            loops.stop()


def _one(way: str, loops: Loops, data: Path, pages: int) -> Outcome:
    print(f"{way} ...", file=sys.stderr, flush=True)
    if way == "kernel":
        return _with_kernel(loops, data, pages)
    command = [*_worker(way, data, pages), "--device", loops.devices[1]]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_WORKER_SECONDS, check=False
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeError(f"{way}: {last[0]}")
    return Outcome(**json.loads(done.stdout))


def _with_kernel(loops: Loops, data: Path, pages: int) -> Outcome:
    """The worker puts its pages out and waits; swap is taken off from here."""
    before = pages_swapped_out()
    loops.swapon()
    worker = subprocess.Popen(
        _worker("kernel", data, pages),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=loops.enter,
    )
    try:
        if worker.stdout is None or worker.stdout.readline() != "out\n":
            raise RuntimeError("kernel: the worker ended before its pages were out")
        out = pages_swapped_out() - before
        _empty_swap_cache(loops, pages * PAGE_SIZE)
        began = time.perf_counter()
        loops.swapoff()
        seconds = time.perf_counter() - began
        right = worker.communicate("\n", timeout=_WORKER_SECONDS)[0] == "right\n"
    finally:
        worker.kill()
        worker.wait()
    return Outcome("kernel", out, out * PAGE_SIZE, seconds, right)


def _worker(way: str, data: Path, pages: int) -> list[str]:
    words = ["--worker", way, "--data", str(data), "--pages", str(pages)]
    return [sys.executable, "-m", "vswap.bench.swapoff", *words]


def _work(way: str, data: Path, pages: int, device: str) -> None:
    if way == "kernel":
        _work_kernel(data, pages)
    else:
        outcome = _work_vswap(way, data, pages, device)
        print(json.dumps(asdict(outcome)))


def _work_kernel(data: Path, pages: int) -> None:
    memory = mmap.mmap(-1, pages * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    array: Bytes = np.frombuffer(memory, dtype=np.uint8)
    fill_from(data, array)
    memory.madvise(_MADV_PAGEOUT)
    print("out", flush=True)
    sys.stdin.readline()
    print("right" if first_difference(data, array) is None else "wrong", flush=True)


def _empty_swap_cache(loops: Loops, size: int) -> None:
    """Pages just written are in RAM still, and swapoff would not have to read them."""
    for _ in range(_TRIES):
        if _swap_cache_bytes() < size // _RAM_PART:
            return
        loops.reclaim(size)
        time.sleep(_PAUSE_SECONDS)
    raise Unavailable(
        "the kernel keeps its swap cache: what swapoff has to read cannot be measured"
    )


def _swap_cache_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("SwapCached:"))


def _work_vswap(way: str, data: Path, pages: int, device: str) -> Outcome:
    from vswap import SwapSpace

    size = pages * PAGE_SIZE
    spec, codec = (f"slots:{device}", "raw") if way == "slots" else (device, "lz4")
    part = _SLOTS_RAM_PART if way == "slots" else _RAM_PART
    least = max(size // part, LEAST_RAM_MIB * MIB)
    with SwapSpace(ram=least, devices=[spec], codec=codec, dedup="off") as space:
        array = space.empty(size, dtype=np.uint8)
        fill_from(data, array)
        space.evict(array)
        full = space.stats()
        space.ram = _HEADROOM * size
        began = time.perf_counter()
        space.swapoff(device)
        seconds = time.perf_counter() - began
        right = not space.check() and first_difference(data, array) is None
        del array
    if way == "slots":
        return Outcome(way, full.slot_pages, full.slot_pages * PAGE_SIZE, seconds, right)
    in_log = full.pool_bytes + full.device_bytes
    on_device = full.stored_pages * full.device_bytes // max(in_log, 1)
    return Outcome(way, on_device, full.device_bytes, seconds, right)


def times_faster(outcomes: Sequence[Outcome]) -> float | None:
    """Kernel time a page, of vswap's in segments; None where one of them was not measured."""
    by_way = {one.way: one for one in outcomes}
    kernel, ours = by_way.get("kernel"), by_way.get("segments")
    if kernel is None or ours is None:
        return None
    return kernel.ns_per_page / max(ours.ns_per_page, 1e-9)


def as_json(outcomes: Sequence[Outcome], mib: int) -> dict[str, Any]:
    """Return everything measured."""
    times = times_faster(outcomes)
    return {
        "machine": machine(),
        "data_bytes": mib * MIB,
        "outcomes": [{**asdict(one), "ns_per_page": one.ns_per_page} for one in outcomes],
        "times_faster": times,
        "target_times": LEAST_TIMES,
        "met": None if times is None else times >= LEAST_TIMES,
    }


def show(outcomes: Sequence[Outcome], mib: int) -> None:
    """Print the table."""
    console = Console(width=None if Console().is_terminal else 120)
    table = Table(title=f"swapoff of {mib} MiB of pages")
    for head in ("", "pages there", "MB there", "seconds", "us a page", "every byte"):
        table.add_column(head, justify="right" if head else "left")
    for one in outcomes:
        table.add_row(
            _TITLES[one.way],
            f"{one.pages:,}",
            f"{one.device_bytes / 1e6:,.1f}",
            f"{one.seconds:.2f}",
            f"{one.ns_per_page / 1e3:.2f}",
            "right" if one.right else "[red]WRONG[/]",
        )
    console.print(table)
    times = times_faster(outcomes)
    if times is not None:
        met = "[green]met[/]" if times >= LEAST_TIMES else "[red]not met[/]"
        console.print(
            f"A page leaves {times:.1f} times faster than with kernel swapoff; "
            f"target at least {LEAST_TIMES:g}: {met}\n"
            "vswap's segments go to RAM as they are, compressed; the kernel's pages and the slots come back page by page.",
            highlight=False,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 where it cannot be measured here, or a byte is wrong."""
    options = _parser().parse_args(argv)
    if options.worker:
        _work(options.worker, Path(options.data), options.pages, options.device)
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _frame: sys.exit(128 + caught))
    try:
        outcomes = measure(options.mib, options.ways or WAYS, options.dir)
    except (Unavailable, RuntimeError) as reason:
        print(f"vswap bench swapoff: {reason}", file=sys.stderr)
        return 1
    if options.json:
        json.dump(as_json(outcomes, options.mib), sys.stdout, indent=1)
        print()
    else:
        show(outcomes, options.mib)
    return 0 if all(one.right for one in outcomes) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vswap bench swapoff",
        description="Time to take a swap device off: the kernel's, vswap's with compressed segments, and "
        "vswap's plain slots. As root: it sets loop devices and kernel swap up and takes them down.",
    )
    parser.add_argument("--mib", type=int, default=4096, help="MiB of pages (default %(default)s)")
    parser.add_argument(
        "--dir", default="/var/tmp", help="where the devices' files go (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--worker", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    parser.add_argument("--pages", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--device", default="", help=argparse.SUPPRESS)
    parser.add_argument(
        "ways", nargs="*", choices=(*WAYS, []), metavar="WAY", help=f"some of: {', '.join(WAYS)}"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
