"""`vswap bench layers`: what the virtual layer costs, on one page sequence in one run.

The sequence is recorded from a NumPy job by the event ring, then replayed by turns on the same process
memory with the layer (plain slots, no compression, so that only the indirection differs) and without it,
on files of the same directory.  Ordinary compressed swapping is replayed too, for scale.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

import vswap
from vswap.bench.data import PAGE_SIZE, SEED, write_pages
from vswap.bench.machine import machine
from vswap.bench.timing import Stopwatch, touch_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vswap.bench.data import Bytes
    from vswap.bench.orders import Order

MIB = 1 << 20
MOST_OVERHEAD_PERCENT = 2.0
"""What the layer may add to the time of a swap-out and of a swap-in."""
RECORDED_MIB = 24
"""The job that is recorded: small enough that the event ring holds all of it."""
OPERATIONS = ("swap-out", "swap-in", "free")
CROSSINGS = (
    "entry_lookups",
    "entry_pins",
    "descriptor_changes",
    "cluster_locks",
    "device_write_calls",
    "device_read_calls",
    "second_chance_pages",
    "log_appends",
    "cleaned_bytes",
)
SWAP_IN_EVENT = 3
ROOM = 4
"""Budget in multiples of the data: the replay decides what goes out, never the budget."""


@dataclass
class Spent:
    """One operation in one mode: nanoseconds a page in each repeat, and crossings a page over all."""

    wall_ns: list[float] = field(default_factory=list)
    cpu_ns: list[float] = field(default_factory=list)
    pages: int = 0
    crossings: dict[str, int] = field(default_factory=dict)

    def add(self, cost: Any, pages: int, before: dict[str, int], after: dict[str, int]) -> None:
        """Book one repeat."""
        pages = max(pages, 1)
        self.wall_ns.append(cost.wall * 1e9 / pages)
        self.cpu_ns.append(cost.cpu * 1e9 / pages)
        self.pages += pages
        for name in CROSSINGS:
            self.crossings[name] = self.crossings.get(name, 0) + after[name] - before[name]

    def as_json(self) -> dict[str, Any]:
        """Medians and spread."""
        return {
            "wall_ns_median": median(self.wall_ns),
            "wall_ns": self.wall_ns,
            "cpu_ns_median": median(self.cpu_ns),
            "cpu_ns": self.cpu_ns,
            "pages": self.pages,
            "crossings_per_page": {n: c / self.pages for n, c in self.crossings.items()},
        }


class Mode:
    """One way of swapping: a fresh space, on a fresh file, for each replay, since files differ in how they lie on a disk."""

    def __init__(
        self, name: str, data: Bytes, make: Callable[[], vswap.SwapSpace], device: Path | None
    ) -> None:
        """Keep what is needed to make one."""
        self.name = name
        self.spent = {operation: Spent() for operation in OPERATIONS}
        self.table_bytes_per_page = 0.0
        self._data = data
        self._make = make
        self._device = device
        self._space = make()

    def replay(self, order: Order) -> None:
        """Out, in again in the recorded order, out, and freed: each timed, contents verified."""
        self._again()
        pages = self._data.size // PAGE_SIZE
        memory: Bytes = self._space.empty(self._data.size, dtype="u1")
        memory[:] = self._data
        before = self._counts()
        self._timed("swap-out", "swap_out_pages", self._space.evict, memory)
        held = self._counts()["table_bytes"] - before["table_bytes"]
        self.table_bytes_per_page = max(held, 0) / pages
        self._timed("swap-in", "swap_in_pages", touch_pages, memory, order)
        if not np.array_equal(memory, self._data):
            raise RuntimeError(f"{self.name}: the bytes that came back are not those that went out")
        self._timed("swap-out", "swap_out_pages", self._space.evict, memory)
        gone = self._counts()["swapped_pages"]
        before = self._counts()
        with Stopwatch() as watch:
            del memory
            gc.collect(0)
        self.spent["free"].add(watch.cost, gone, before, self._counts())

    def _timed(
        self, operation: str, counter: str, do: Callable[..., object], *arguments: object
    ) -> None:
        """Time one operation; the pages it moved are told by a counter."""
        before = self._counts()
        with Stopwatch() as watch:
            do(*arguments)
        after = self._counts()
        self.spent[operation].add(watch.cost, after[counter] - before[counter], before, after)

    def _counts(self) -> dict[str, int]:
        """Return the counters, and how many pages the log took."""
        stats = self._space.stats()
        counts = {
            name: int(getattr(stats, name))
            for name in (*CROSSINGS, *_FIGURES)
            if name != "log_appends"
        }
        elsewhere = stats.swap_out_same_pages + stats.swap_out_slot_pages + stats.dedup_hits
        counts["log_appends"] = stats.swap_out_pages - elsewhere
        return counts

    def _again(self) -> None:
        """Start over with an empty device."""
        self.close()
        if self._device is not None:
            self._device.unlink()
        self._space = self._make()

    def close(self) -> None:
        """The engine's own laws must still hold."""
        broken = self._space.check()
        self._space.close()
        if broken:
            raise RuntimeError(f"{self.name}: the self-check failed: {broken}")


_FIGURES = ("swap_out_pages", "swap_in_pages", "swapped_pages", "table_bytes")


def record(directory: str) -> Order:
    """Run a small job in half of what it needs; return the pages that came back, in order."""
    rng = np.random.default_rng(SEED)
    rows = RECORDED_MIB * MIB // 16
    space = vswap.SwapSpace(
        "16M", devices=["slots:" + os.path.join(directory, "recorded")], codec="raw"
    )
    both = space.empty(2 * rows, dtype="i8")
    keys, values = both[:rows], both[rows:]
    keys[:] = rng.integers(0, 1 << 40, rows)
    values[:] = rng.integers(0, 1 << 62, rows)
    space.evict(both)
    space.trace(on=True)
    int(both[0])  # The first event: page 0 of the job.
    picked = rng.permutation(rows)[: rows // 256]
    total = int((values[picked] & 0xFF).sum())
    hot = rng.integers(rows // 2, rows // 2 + rows // 16, rows // 64)
    total += int((keys[hot] & 0xFF).sum())
    total += sum(int(keys[at : at + 4096].max()) & 0xFF for at in range(0, rows, 4096))
    events = space.trace(on=False)
    del both, keys, values
    space.close()
    if total < 0 or not events.size:
        raise RuntimeError("nothing was recorded")
    came = events[events["event"] == SWAP_IN_EVENT]["page"].astype(np.int64)
    return _first_touches(came - came[0])


def _first_touches(pages: Any) -> Order:
    """Each page once, when it first came; pages before the job's first one are somebody else's."""
    pages = pages[(pages >= 0) & (pages < RECORDED_MIB * MIB // PAGE_SIZE)]
    _, first = np.unique(pages, return_index=True)
    ordered: Order = pages[np.sort(first)].astype(np.uint32)
    return ordered


def spread_over(order: Order, pages: int) -> Order:
    """The recorded sequence, repeated over memory of so many pages."""
    recorded = RECORDED_MIB * MIB // PAGE_SIZE
    parts = [order + np.uint32(start) for start in range(0, pages, recorded)]
    whole = np.concatenate(parts)
    return np.ascontiguousarray(whole[whole < pages])


def measure(mib: int, repeats: int, directory: str) -> tuple[Order, list[Mode]]:
    """Record, then replay in all modes by turns."""
    pages = mib * MIB // PAGE_SIZE
    with tempfile.TemporaryDirectory(prefix="vswap-layers-", dir=directory) as scratch:
        order = spread_over(record(scratch), pages)
        raw = np.random.default_rng(SEED).integers(0, 256, pages * PAGE_SIZE, dtype=np.uint8)
        heap = Path(scratch) / "heap"
        write_pages(heap, pages)
        compressible = np.fromfile(heap, dtype=np.uint8)
        ram = max(ROOM * mib, 64) * MIB

        def slots(name: str, *, virtual: bool) -> Mode:
            file = Path(scratch) / name
            device = f"slots:{file}:{2 * mib}M"

            def make() -> vswap.SwapSpace:
                return vswap.SwapSpace(
                    ram, devices=[device], codec="raw", dedup="off", virtual=virtual
                )

            return Mode(name, raw, make, file)

        modes = [
            slots("direct", virtual=False),
            slots("virtual", virtual=True),
            Mode("compressed in RAM", compressible, lambda: vswap.SwapSpace(ram, devices=[]), None),
        ]
        for mode in modes:
            mode.replay(order)
            mode.spent = {operation: Spent() for operation in OPERATIONS}
        for repeat in range(repeats):
            for mode in modes if repeat % 2 else (modes[1], modes[0], *modes[2:]):
                mode.replay(order)
        for mode in modes:
            mode.close()
    return order, modes


def overhead_percent(direct: Spent, virtual: Spent) -> float:
    """How much longer it takes with the layer: the median of neighbouring turns, since disks drift."""
    turns = zip(direct.wall_ns, virtual.wall_ns, strict=True)
    return (median(with_layer / without for without, with_layer in turns) - 1) * 100


def as_json(mib: int, order: Order, modes: Sequence[Mode]) -> dict[str, Any]:
    """Return everything measured."""
    direct, virtual = modes[0], modes[1]
    overheads = {op: overhead_percent(direct.spent[op], virtual.spent[op]) for op in OPERATIONS}
    return {
        "machine": machine(),
        "mib": mib,
        "recorded_touches": int(order.size),
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


def show(mib: int, order: Order, modes: Sequence[Mode]) -> None:
    """Print times, then crossings."""
    console = Console(width=None if Console().is_terminal else 140)
    console.print(_times(mib, order, modes))
    crossings = Table(title="crossings a page")
    crossings.add_column("mode")
    crossings.add_column("operation")
    for name in CROSSINGS:
        crossings.add_column(name.replace("_", " "), justify="right")
    for mode in modes:
        for operation in OPERATIONS:
            spent = mode.spent[operation]
            figures = (f"{spent.crossings[name] / spent.pages:.2f}" for name in CROSSINGS)
            crossings.add_row(mode.name, operation, *figures)
    console.print(crossings)
    console.print(
        "direct: the page's word holds its slot. virtual: the swap layer between, the same slots, nothing compressed.\n"
        "Medians of the repeats, by turns; in brackets the least and the most. What the layer adds is the median of\n"
        "neighbouring turns. Contents verified in every repeat.\n"
        f"Target: virtual at most {MOST_OVERHEAD_PERCENT:g} % above direct at swap-out and swap-in.",
        highlight=False,
    )


def _times(mib: int, order: Order, modes: Sequence[Mode]) -> Table:
    """Nanoseconds a page, and what the layer adds."""
    table = Table(title=f"{mib} MiB, {order.size:,} touches as recorded: ns a page")
    for head in (
        "operation",
        *(mode.name for mode in modes),
        "CPU direct/virtual",
        "layer adds",
        "",
    ):
        table.add_column(head, justify="left" if head == "operation" else "right")
    direct, virtual = modes[0], modes[1]
    for op in OPERATIONS:
        cells = []
        for mode in modes:
            wall = mode.spent[op].wall_ns
            cells.append(
                f"{median(wall):,.0f} [{min(wall):,.0f}..{max(wall):,.0f}]".replace("[", "\\[")
            )
        cpu = "/".join(f"{median(mode.spent[op].cpu_ns):,.0f}" for mode in (direct, virtual))
        added = overhead_percent(direct.spent[op], virtual.spent[op])
        met = "[green]met[/]" if added <= MOST_OVERHEAD_PERCENT else "[red]not met[/]"
        table.add_row(op, *cells, cpu, f"{added:+.1f} %", "" if op == "free" else met)
    table.add_row("tables, bytes a page", *(f"{m.table_bytes_per_page:.1f}" for m in modes))
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0 whether or not the target is met: the table says so."""
    parser = argparse.ArgumentParser(
        prog="vswap bench layers",
        description="What the virtual swap layer costs: one recorded page sequence, replayed with it "
        "and without it by turns, contents verified.",
    )
    parser.add_argument("--mib", type=int, default=48, help="MiB of data (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=15, help="replays (default %(default)s)")
    parser.add_argument(
        "--dir", default="/var/tmp", help="where the slots' files go (default %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="little data, few repeats: a look")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    options = parser.parse_args(argv)
    mib, repeats = (24, 3) if options.quick else (options.mib, options.repeats)
    if mib < 1 or repeats < 1:
        parser.error("--mib and --repeats are at least 1")
    order, modes = measure(mib, repeats, options.dir)
    if options.json:
        json.dump(as_json(mib, order, modes), sys.stdout, indent=1)
        print()
    else:
        show(mib, order, modes)
    return 0
