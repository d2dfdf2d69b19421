"""The timed inner loops, which are the library's: one call touches every page."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vswap.bench.native import timing_library

if TYPE_CHECKING:
    from vswap.bench.data import Bytes
    from vswap.bench.orders import Order

Latencies = np.ndarray[Any, np.dtype[np.uint32]]


def touch_pages(memory: Bytes, order: Order) -> Latencies:
    """Read one byte of each page in `order`; nanoseconds of each touch."""
    return _run("vswap_touch_pages", memory, order)


def write_pages(memory: Bytes, order: Order) -> Latencies:
    """Write one byte of each page in `order`; nanoseconds of each touch."""
    return _run("vswap_write_pages", memory, order)


def _run(name: str, memory: Bytes, order: Order) -> Latencies:
    ffi, lib = timing_library()
    latencies = np.zeros(order.size, dtype=np.uint32)
    status = getattr(lib, name)(
        ffi.cast("void *", memory.ctypes.data),
        ffi.cast("uint32_t *", order.ctypes.data),
        order.size,
        ffi.cast("uint32_t *", latencies.ctypes.data),
    )
    if status != 0:
        message = f"{name} returned {status}"
        raise OSError(-status, message)
    return latencies


@dataclass(frozen=True)
class Cost:
    """Wall and CPU seconds of one piece of work, CPU of every thread of this process."""

    wall: float
    cpu: float


class Stopwatch:
    """`with Stopwatch() as watch: ...`, then `watch.cost`."""

    def __init__(self) -> None:
        self.cost = Cost(0.0, 0.0)
        self._wall = 0.0
        self._cpu = 0.0

    def __enter__(self) -> Self:
        self._cpu = _cpu_seconds()
        self._wall = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        wall = time.perf_counter() - self._wall
        self.cost = Cost(wall, _cpu_seconds() - self._cpu)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
