"""The job of `vswap bench cleaning`: a log kept at one utilisation while pages die and are born, and others are touched.

Two kinds of memory share one log: pages that are touched again and again (a page that comes back gives up its object), and
blocks that are freed and made anew. In order, both die as they were written, so that segments empty themselves; at random
they leave holes everywhere. The work is the same.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vswap.bench.cleaning_pages import Pages
from vswap.bench.data import PAGE_SIZE, SEED
from vswap.bench.orders import BLOCK_PAGES
from vswap.bench.timing import touch_pages
from vswap.sizes import MIB

if TYPE_CHECKING:
    from vswap import Group, SwapSpace
    from vswap.bench.cleaning_pages import Numbers
    from vswap.bench.data import Bytes
    from vswap.bench.orders import Order
    from vswap.bench.timing import Latencies
    from vswap.stats import SpaceStats

SEGMENT_BYTES = 256 << 10
HEADER_BYTES = 12
"""Before each object in a segment; live as long as it is."""
PAGES_A_ROUND = 128
"""So many pages come back in a round, and as many are freed and made anew."""
BLOCKS = PAGES_A_ROUND // BLOCK_PAGES
_FIRST_OF_BLOCKS = 1 << 40
"""Above the numbers of touched pages."""
MEAN_OBJECT_BYTES = 1436
"""What a page takes in a segment, header and padding with it."""
IN_ORDER, RANDOM = "in order", "random"
_SAMPLES = 64
_PIECE = 256
_POOL_PERCENT = 30
"""Of the budget: a little less than the engine lets compressed pages take before it writes them to a device."""
_SETTLE_SECONDS = 30.0
_PATIENCE_SECONDS, _PAUSE_SECONDS = 2.0, 0.001


@dataclass(frozen=True)
class Limits:
    """What the log may take: RAM of compressed pages, and a device or none."""

    ram_bytes: int
    log_bytes: int
    device_bytes: int

    @property
    def capacity(self) -> int:
        """Bytes of all segments there may be."""
        return self.log_bytes + self.device_bytes

    @property
    def pages_a_fault(self) -> int:
        """Pages that come back together: from RAM the one that is touched, from a device all of its block."""
        return BLOCK_PAGES if self.device_bytes else 1

    @property
    def touches(self) -> int:
        """Pages touched in a round."""
        return PAGES_A_ROUND // self.pages_a_fault


@dataclass
class Phase:
    """What one phase did and how long its faults took."""

    order: str
    seconds: float = 0.0
    faults: int = 0
    pages_made: int = 0
    pages_verified: int = 0
    utilisation_percent: list[float] = field(default_factory=list)
    fault_ns: list[int] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    engine_fault_ns: dict[str, int] = field(default_factory=dict)


def live_bytes(stats: SpaceStats) -> int:
    """Bytes of objects that somebody needs, with their headers."""
    return stats.stored_bytes + HEADER_BYTES * stats.stored_pages


def utilisation(stats: SpaceStats) -> float:
    """Live bytes of the bytes of all segments, in percent."""
    return 100.0 * live_bytes(stats) / max(stats.pool_bytes + stats.device_bytes, 1)


class Job:
    """The memory, and what is done to it in rounds: blocks are renewed, pages are touched, and all of that goes out again."""

    def __init__(self, space: SwapSpace, group: Group, limits: Limits) -> None:
        """Nothing is filled yet."""
        self.space, self.group, self.limits = space, group, limits
        self.pages = Pages()
        self.rng = np.random.default_rng(SEED)
        self.blocks: list[tuple[Bytes, int]] = []
        self.lately: set[int] = set()
        self.made = self.at = self.rounds = 0
        self.touched: Bytes = np.empty((0, PAGE_SIZE), dtype=np.uint8)
        self.cycle: Order = np.empty(0, dtype=np.uint32)

    def fill(self, percent: float) -> None:
        """Fill memory, in order, until `percent` of what the log may take is live: half of it touched, half renewed."""
        wanted = self.limits.capacity * percent / 100
        self.rounds = max(int(wanted / MEAN_OBJECT_BYTES / (2 * PAGES_A_ROUND)), 2)
        count = self.rounds * PAGES_A_ROUND
        self.touched = self.group.empty((count, PAGE_SIZE), np.uint8)
        # From RAM another page of each block round after round, so that no neighbour comes along.
        blocks = self.rng.permutation(count // BLOCK_PAGES) * BLOCK_PAGES
        slots = self.rng.permutation(BLOCK_PAGES)[:: self.limits.pages_a_fault]
        self.cycle = (blocks[None, :] + slots[:, None]).ravel().astype(np.uint32)
        for at in range(self.rounds):
            for _ in range(BLOCKS):
                self.lately.add(len(self.blocks))
                self.blocks.append(self._make())
            numbers = self._with_neighbours(self._in_order(at))
            self.touched[numbers] = self.pages.of(numbers)
            self._put_out()

    def _in_order(self, at: int) -> Order:
        return self.cycle[at * self.limits.touches : (at + 1) * self.limits.touches]

    def _with_neighbours(self, touched: Order) -> Numbers:
        """Return the pages that come back when these are touched."""
        together = self.limits.pages_a_fault
        first = touched.astype(np.int64) // together * together
        return (first[:, None] + np.arange(together)[None, :]).ravel()

    def _make(self) -> tuple[Bytes, int]:
        """Return a new block with new pages, which are out already, and its first page's number."""
        first = _FIRST_OF_BLOCKS + self.made * BLOCK_PAGES
        self.made += 1
        block = self.group.empty((BLOCK_PAGES, PAGE_SIZE), np.uint8)
        block[:] = self.pages.of(np.arange(first, first + BLOCK_PAGES))
        self.space.evict(block)
        return block, first

    def run(self, order: str, faults: int, seconds: float) -> Phase:
        """Go on until there were so many faults, or for so long; every page that is touched is compared."""
        self._settle(order)
        phase = Phase(order)
        before, refused = self.space.stats(), self.group.stats().zswap_fail_events
        histogram = fault_histogram()
        began = time.monotonic()
        every = max(faults // _SAMPLES, 1)
        while phase.faults < faults and time.monotonic() - began < seconds:
            self._round(order, phase)
            if phase.faults >= every * len(phase.utilisation_percent):
                phase.utilisation_percent.append(utilisation(self.space.stats()))
        phase.seconds = time.monotonic() - began
        spent = self.space.stats() - before
        phase.counters = {name: getattr(spent, name) for name in COUNTED}
        phase.counters["refused_pages"] = self.group.stats().zswap_fail_events - refused
        phase.engine_fault_ns = quantiles_of(histogram, fault_histogram())
        return phase

    def _settle(self, order: str) -> None:
        """Not measured: once round, so that the log is as this order makes it."""
        unmeasured = Phase(order)
        began = time.monotonic()
        for _ in range(self.rounds):
            self._round(order, unmeasured)
            if time.monotonic() - began > _SETTLE_SECONDS:
                return

    def _round(self, order: str, phase: Phase) -> None:
        at, self.at = self.at, (self.at + 1) % self.rounds
        for number in range(at * BLOCKS, (at + 1) * BLOCKS):
            self._renew(self._any_of(len(self.blocks)) if order == RANDOM else number, phase)
        if order == RANDOM:
            wanted = self.rng.choice(self.cycle, self.limits.touches, replace=False)
        else:
            wanted = self._in_order(at)
        before = self.space.stats()
        latencies = touch_pages(self.touched, wanted)
        spent = self.space.stats() - before
        count = spent.faults_swap_in + spent.faults_cached
        phase.faults += count
        phase.fault_ns += longest(latencies, count)
        numbers = self._with_neighbours(wanted)
        self._compare(self.touched[numbers], numbers, phase)
        self._put_out()

    def _put_out(self) -> None:
        """All that a round brought in goes out again, at the speed of the log: nobody makes pages faster than that."""
        self.space.evict(self.touched)
        until = time.monotonic() + _PATIENCE_SECONDS
        while (left := self._in_memory()) > PAGES_A_ROUND and time.monotonic() < until:
            time.sleep(_PAUSE_SECONDS)
            self.space.evict(self.touched)
            for at in self.lately:
                self.space.evict(self.blocks[at][0])
        if left == 0:
            self.lately.clear()

    def _in_memory(self) -> int:
        stats = self.group.stats()
        return stats.resident_pages + stats.cached_pages

    def _any_of(self, count: int) -> int:
        return int(self.rng.integers(count))

    def _renew(self, at: int, phase: Phase) -> None:
        """Free a block that is out, and make another."""
        self.blocks[at] = (np.empty((0, PAGE_SIZE), np.uint8), 0)
        self.blocks[at] = self._make()
        self.lately.add(at)
        phase.pages_made += BLOCK_PAGES

    def verify(self, phase: Phase) -> None:
        """Compare every page there is, and ask the engine whether all its laws hold."""
        for start in range(0, len(self.touched), _PIECE):
            rows = self.touched[start : start + _PIECE]
            self._compare(rows, np.arange(start, start + len(rows)), phase)
            self.space.evict(rows)
        for block, first in self.blocks:
            self._compare(block, np.arange(first, first + BLOCK_PAGES), phase)
            self.space.evict(block)
        broken = self.space.check()
        if broken:
            raise RuntimeError(f"the engine's self-check found: {broken[0]}")

    def _compare(self, memory: Bytes, numbers: Numbers, phase: Phase) -> None:
        if not self.pages.are_right(memory, numbers):
            raise RuntimeError(f"a page of {numbers[0]} to {numbers[-1]} came back wrong")
        phase.pages_verified += numbers.size


COUNTED = (
    "cleaned_bytes",
    "cleaned_segments",
    "swap_out_pages",
    "swap_out_bytes",
    "swap_in_pages",
    "device_read_bytes",
    "device_written_bytes",
    "direct_reclaims",
    "over_budget_faults",
)
"""Counters of the engine that a phase is told by."""


def longest(latencies: Latencies, count: int) -> list[int]:
    """Return the `count` longest touches: those were faults, all others found their page in memory."""
    return sorted(latencies.tolist(), reverse=True)[:count]


def fault_histogram() -> tuple[int, ...]:
    """Return the engine's own histogram of fault times, as `vswap stat` reads it."""
    from vswap.monitor.discover import program
    from vswap.monitor.memory import read_stats

    return read_stats(program(os.getpid()).stats_path).latencies


def quantiles_of(before: tuple[int, ...], after: tuple[int, ...]) -> dict[str, int]:
    """Return what the engine itself says of the faults between two looks, from its histogram."""
    from vswap.histogram import quantile

    between = [late - early for early, late in zip(before, after, strict=True)]
    return {name: quantile(between, q) for name, q in QUANTILES.items()}


QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}


def work(place: str, mib: int, percent: float, faults: int, seconds: float) -> list[dict[str, Any]]:
    """Fill a space of its own, run both orders, compare everything; a record for each order."""
    from vswap import SwapSpace

    limits = limits_of(place, mib)
    devices = [f"auto:{limits.device_bytes}"] if limits.device_bytes else []
    space = SwapSpace(limits.ram_bytes, devices=devices)
    group = space.group("log", zswap_max=None if devices else limits.log_bytes)
    job = Job(space, group, limits)
    job.fill(percent)
    records = []
    for order in (IN_ORDER, RANDOM):
        phase = job.run(order, faults, seconds)
        job.verify(phase)
        records.append({"place": place, **record_of(phase, limits)})
    return records


def limits_of(place: str, mib: int) -> Limits:
    """Return what the log may take: `mib` in RAM, or on a device, and then of RAM what the engine keeps there of itself."""
    if place == "ram":
        return Limits((mib + max(mib // 4, 32)) * MIB, mib * MIB, 0)
    ram = max(mib // 2, 32) * MIB
    return Limits(ram, ram * _POOL_PERCENT // 100, mib * MIB)


def record_of(phase: Phase, limits: Limits) -> dict[str, Any]:
    """Return the phase's record: quantiles in place of every fault's time."""
    times = np.array(phase.fault_ns or [0], dtype=np.int64)
    told = {name: int(np.quantile(times, q, method="higher")) for name, q in QUANTILES.items()}
    return {
        "order": phase.order,
        "capacity_bytes": limits.capacity,
        "seconds": phase.seconds,
        "utilisation_percent": float(np.mean(phase.utilisation_percent or [0.0])),
        "copied_per_written": phase.counters["cleaned_bytes"]
        / max(phase.counters["swap_out_bytes"], 1),
        "faults": phase.faults,
        "fault_ns": told,
        "engine_fault_ns": phase.engine_fault_ns,
        "pages_made": phase.pages_made,
        "pages_verified": phase.pages_verified,
        **phase.counters,
    }
