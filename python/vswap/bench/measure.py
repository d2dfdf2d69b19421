"""One contender through the whole programme, every byte verified on the way."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vswap.bench import orders
from vswap.bench.data import PAGE_SIZE, fill_from, first_difference
from vswap.bench.timing import Cost, Latencies, Stopwatch, touch_pages, write_pages

if TYPE_CHECKING:
    from pathlib import Path

    from vswap.bench.contender import Contender
    from vswap.bench.data import Bytes
    from vswap.bench.orders import Order

MADV_POPULATE_WRITE = 23
WARM_UP = 2
"""How many times the data, beside what the first touches take."""
WARM_UP_PIECE = 64 << 20
QUANTILES = (50.0, 90.0, 99.0, 99.9)


@dataclass
class Outcome:
    """What one contender did: samples by metric, in the metric's own unit."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    latencies_us: dict[str, dict[str, float]] = field(default_factory=dict)
    overhead_per_page: dict[str, float] = field(default_factory=dict)

    def add(self, metric: str, value: float) -> None:
        """One more sample of `metric`."""
        self.samples.setdefault(metric, []).append(value)


class WrongBytesError(Exception):
    """A contender gave back something else than was put there."""


def warm_up(pages: int, repeats: int) -> None:
    """Touch more memory than the bench will use: a VM's first use of a page is the host's cost."""
    size = (WARM_UP + repeats) * pages * PAGE_SIZE
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapping:
        # In pieces: no signal but SIGKILL gets through to a process inside the call.
        for start in range(0, size, WARM_UP_PIECE):
            mapping.madvise(MADV_POPULATE_WRITE, start, min(WARM_UP_PIECE, size - start))


def measure(contender: Contender, pages: int, data: Path, repeats: int) -> Outcome:
    """Run everything `repeats` times; the contender is open already."""
    outcome = Outcome()
    memory = contender.fresh()
    fill_from(data, memory)
    touch_orders = {
        "random": orders.random(pages),
        "sequential": orders.sequential(pages),
        "sparse": orders.sparse(pages),
    }
    _round_trip(
        contender, memory, touch_orders["sequential"]
    )  # warm-up: files grown, codes and tables touched
    touched: list[Bytes] = []
    for repeat in range(repeats):
        for name, order in touch_orders.items():
            cost, latencies = _round_trip(
                contender, memory, order, outcome if repeat == 0 else None
            )
            outcome.add("swap_out", cost.wall / pages * 1e6)
            outcome.add("swap_out_cpu", cost.cpu / pages * 1e6)
            outcome.add(f"swap_in_{name}", float(latencies.mean()) / 1e3)
            outcome.latencies_us[f"swap_in_{name}"] = _quantiles(latencies)
            wrong = first_difference(data, memory)
            if wrong is not None:
                raise WrongBytesError(f"wrong byte at offset {wrong} after swap-in ({name})")
        outcome.add("first_touch", _first_touch(contender, touch_orders["sequential"], touched))
    for old in (memory, *touched):
        contender.drop(old)
    return outcome


def _round_trip(
    contender: Contender, memory: Bytes, order: Order, outcome: Outcome | None = None
) -> tuple[Cost, Latencies]:
    """All out, then touched in `order`; with `outcome`, also note the cost of what is out."""
    memory[::PAGE_SIZE] = memory[
        ::PAGE_SIZE
    ].copy()  # dirty: a page that is clean in swap needs no swap-out
    with Stopwatch() as watch:
        contender.push_out(memory)
    if outcome is not None and "ratio" not in outcome.samples:
        held = contender.held()
        outcome.add("ratio", held.pages_out * PAGE_SIZE / held.compressed_bytes)
        outcome.overhead_per_page = {k: v / held.pages_out for k, v in held.overhead_bytes.items()}
        outcome.add("metadata", sum(outcome.overhead_per_page.values()))
    return watch.cost, touch_pages(memory, order)


def _first_touch(contender: Contender, order: Order, touched: list[Bytes]) -> float:
    """Mean microseconds of writing to a page nobody has touched.

    The memory is kept in `touched`: freed memory that is handed out again is touched already.
    """
    memory = contender.fresh()
    latencies = write_pages(memory, order)
    touched.append(memory)
    return float(latencies.mean()) / 1e3


def _quantiles(latencies: Latencies) -> dict[str, float]:
    values = np.percentile(latencies, QUANTILES) / 1e3
    return {
        f"p{quantile:g}": round(float(value), 3)
        for quantile, value in zip(QUANTILES, values, strict=True)
    }
