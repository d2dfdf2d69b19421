"""One page sequence, replayed step by step on the same process memory with the virtual layer and without it."""

from __future__ import annotations

import gc
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

import vswap
from vswap.bench.data import PAGE_SIZE, SEED, write_pages
from vswap.bench.timing import Cost, Stopwatch, touch_pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from vswap.bench.data import Bytes
    from vswap.bench.sequence import Round, Sequence

MIB = 1 << 20
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
ROOM = 4
"""Budget in multiples of the data: the replay decides what goes out, never the budget."""

STEP_PAGES = 1024
"""Pages that one mode moves before the next mode moves the same: some 10 ms of swap-out. A machine and a disk change
their speed within a second; modes that take turns that short see the same."""

_NOTHING: Bytes = np.empty(0, dtype=np.uint8)
_FIGURES = ("swap_out_pages", "swap_in_pages", "swapped_pages", "table_bytes")


def crossings_of(counters: dict[str, int]) -> dict[str, int]:
    """How often the layer was crossed, by an engine's counters; the log's appends are what went nowhere else."""
    elsewhere = ("swap_out_same_pages", "swap_out_slot_pages", "dedup_hits")
    appends = counters["swap_out_pages"] - sum(counters[name] for name in elsewhere)
    return {name: appends if name == "log_appends" else counters[name] for name in CROSSINGS}


@dataclass
class Spent:
    """One operation in one mode: nanoseconds a page in each repeat, and crossings a page over all."""

    wall_ns: list[float] = field(default_factory=list)
    cpu_ns: list[float] = field(default_factory=list)
    pages: int = 0
    crossings: dict[str, int] = field(default_factory=dict)

    def add(self, wall: float, cpu: float, pages: int) -> None:
        """Book the seconds of one repeat."""
        self.wall_ns.append(wall * 1e9 / max(pages, 1))
        self.cpu_ns.append(cpu * 1e9 / max(pages, 1))
        self.pages += pages

    def crossed(self, before: dict[str, int], after: dict[str, int]) -> None:
        """Book crossings."""
        for name in CROSSINGS:
            self.crossings[name] = self.crossings.get(name, 0) + after[name] - before[name]

    def crossings_per_page(self) -> dict[str, float]:
        """How often a page crossed each."""
        return {name: count / max(self.pages, 1) for name, count in self.crossings.items()}

    def as_json(self) -> dict[str, Any]:
        """Medians and spread."""
        return {
            "wall_ns_median": median(self.wall_ns),
            "wall_ns": self.wall_ns,
            "cpu_ns_median": median(self.cpu_ns),
            "cpu_ns": self.cpu_ns,
            "pages": self.pages,
            "crossings_per_page": self.crossings_per_page(),
        }


@dataclass
class _Repeat:
    """One operation in one repeat."""

    wall: float = 0.0
    cpu: float = 0.0
    pages: int = 0

    def add(self, cost: Cost, pages: int) -> None:
        self.wall += cost.wall
        self.cpu += cost.cpu
        self.pages += pages


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
        self._repeat: dict[str, _Repeat] = {}
        self._memory = _NOTHING
        self._tables, self._most = 0, 0

    def start(self) -> None:
        """Begin a replay: an empty device, and the data in memory."""
        self._again()
        self._repeat = {operation: _Repeat() for operation in OPERATIONS}
        self._memory = self._space.empty(self._data.size, dtype="u1")
        self._memory[:] = self._data
        self._tables, self._most = self._counts()["table_bytes"], 0

    def play(self, one: Round) -> None:
        """Out, then in, as recorded: each timed, contents verified."""
        memory = self._memory
        if one.out_runs:
            evictions = self._evictions(memory, one)
            now = self._timed("swap-out", "swap_out_pages", self._evict, evictions)
            if now["swapped_pages"] > self._most:
                self._most = now["swapped_pages"]
                tables = max(now["table_bytes"] - self._tables, 0)
                self.table_bytes_per_page = tables / self._most
        if one.touched.size:
            self._timed("swap-in", "swap_in_pages", touch_pages, memory, one.touched)
            self._verify(memory, one)

    def finish(self) -> None:
        """Verify all of it; then everything out, and freed, which is timed; books the repeat."""
        if not np.array_equal(self._memory, self._data):
            raise self._wrong()
        self._space.evict(self._memory)
        gone = self._counts()["swapped_pages"]
        before = self._counts()
        with Stopwatch() as watch:
            self._memory = _NOTHING
            gc.collect(0)
        after = self._counts()
        if after["swapped_pages"]:
            raise RuntimeError(f"{self.name}: pages that were freed are still swapped out")
        self._repeat["free"].add(watch.cost, gone)
        self.spent["free"].crossed(before, after)
        for operation, repeat in self._repeat.items():
            self.spent[operation].add(repeat.wall, repeat.cpu, repeat.pages)

    def _evictions(self, memory: Bytes, one: Round) -> list[tuple[Any, int]]:
        """Where the round's swap-outs begin and how long they are, looked up before the time is taken."""
        cast, base = self._space._engine.ffi.cast, memory.ctypes.data
        return [
            (cast("void *", base + first * PAGE_SIZE), count * PAGE_SIZE)
            for first, count in one.out_runs
        ]

    def _evict(self, evictions: list[tuple[Any, int]]) -> None:
        evict, handle = self._space._engine.lib.vswap_evict, self._space._require_handle()
        for address, length in evictions:
            if evict(handle, address, length) < 0:
                raise RuntimeError(f"{self.name}: a page could not be swapped out")

    def _verify(self, memory: Bytes, one: Round) -> None:
        """What was touched is in memory and what it was."""
        rows = memory.reshape(-1, PAGE_SIZE)
        wanted = self._data.reshape(-1, PAGE_SIZE)
        for part in np.array_split(one.touched, one.touched.size // 4096 + 1):
            if not np.array_equal(rows[part], wanted[part]):
                raise self._wrong()

    def _wrong(self) -> RuntimeError:
        return RuntimeError(f"{self.name}: the bytes that came back are not those that went out")

    def _timed(
        self, operation: str, counter: str, do: Callable[..., object], *arguments: object
    ) -> dict[str, int]:
        """Time one operation; the pages it moved are told by a counter."""
        before = self._counts()
        with Stopwatch() as watch:
            do(*arguments)
        after = self._counts()
        self._repeat[operation].add(watch.cost, after[counter] - before[counter])
        self.spent[operation].crossed(before, after)
        return after

    def _counts(self) -> dict[str, int]:
        """Return the counters, and how many pages the log took."""
        counters = asdict(self._space.stats())
        return {name: counters[name] for name in _FIGURES} | crossings_of(counters)

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


def replay(sequence: Sequence, repeats: int, directory: str) -> list[Mode]:
    """Replay the sequence in all modes, step by step side by side."""
    with tempfile.TemporaryDirectory(prefix="vswap-layers-", dir=directory) as scratch:
        modes = _modes(sequence.pages, Path(scratch))
        _replay_once(sequence, modes, 0)
        for mode in modes:
            mode.spent = {operation: Spent() for operation in OPERATIONS}
        for repeat in range(repeats):
            _replay_once(sequence, modes, repeat)
        for mode in modes:
            mode.close()
    return modes


def _replay_once(sequence: Sequence, modes: list[Mode], repeat: int) -> None:
    """Each step in one mode after the other, the first two of them changing places from step to step."""
    orders = (modes, [modes[1], modes[0], *modes[2:]])
    for mode in modes:
        mode.start()
    steps = (step for one in sequence.rounds for step in one.slices(STEP_PAGES))
    for number, step in enumerate(steps, start=repeat):
        for mode in orders[number % 2]:
            mode.play(step)
    for mode in modes:
        mode.finish()


class _MeasuredSpace(vswap.SwapSpace):
    """Nothing is read ahead: that takes its own time, and the modes would not move the same pages."""

    _read_ahead = False


def _modes(pages: int, scratch: Path) -> list[Mode]:
    """Without the layer and with it, on plain slots; and as usual."""
    raw = np.random.default_rng(SEED).integers(0, 256, pages * PAGE_SIZE, dtype=np.uint8)
    heap = scratch / "heap"
    write_pages(heap, pages)
    compressible = np.fromfile(heap, dtype=np.uint8)
    heap.unlink()
    ram = max(ROOM * pages * PAGE_SIZE, 64 * MIB)
    size_mib = max(2 * pages * PAGE_SIZE // MIB, 16)

    def slots(name: str, *, virtual: bool) -> Mode:
        file = scratch / name
        device = f"slots:{file}:{size_mib}M"

        def make() -> vswap.SwapSpace:
            return _MeasuredSpace(ram, devices=[device], codec="raw", dedup="off", virtual=virtual)

        return Mode(name, raw, make, file)

    def in_ram() -> vswap.SwapSpace:
        return _MeasuredSpace(ram, devices=[])

    direct, virtual = slots("direct", virtual=False), slots("virtual", virtual=True)
    return [direct, virtual, Mode("compressed in RAM", compressible, in_ram, None)]


def overhead_percent(direct: Spent, virtual: Spent) -> float:
    """How much longer it takes with the layer: the median of the repeats, in each of which both went side by side."""
    turns = zip(direct.wall_ns, virtual.wall_ns, strict=True)
    ratios = [with_layer / without for without, with_layer in turns if without > 0]
    return (median(ratios) - 1) * 100 if ratios else 0.0
