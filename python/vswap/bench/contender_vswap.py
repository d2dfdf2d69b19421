"""vswap itself, in one of its two fault deliveries."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import vswap
from vswap.bench.contender import Held, Unavailable
from vswap.bench.data import PAGE_SIZE

if TYPE_CHECKING:
    from pathlib import Path

    from vswap.bench.data import Bytes

ROOM = 32
"""Budget in multiples of the data: the bench decides what is out, never the budget."""
SETTLE_SECONDS = 20.0
OUT_AT_LEAST = 0.99


class VswapContender:
    """A `SwapSpace` without devices: compressed pages stay in RAM, as zram's do."""

    def __init__(self, faults: str) -> None:
        self.name = f"vswap-{faults}"
        self._faults = faults
        self._pages = 0
        self._space: Any = None
        self._empty: Any = None

    def open(self, pages: int, data: Path) -> None:
        """One space with room for everything."""
        del data
        self._pages = pages
        try:
            self._space = vswap.SwapSpace(
                ram=ROOM * pages * PAGE_SIZE, devices=[], faults=self._faults
            )
        except (OSError, vswap.VswapError) as refusal:
            raise Unavailable(str(refusal)) from refusal
        self._empty = self._space.stats()

    def fresh(self) -> Bytes:
        """A plain ndarray in the space."""
        memory: Bytes = self._space.empty(self._pages * PAGE_SIZE, dtype="u1")
        return memory

    def drop(self, memory: Bytes) -> None:
        """The array's last reference is the caller's."""

    def push_out(self, memory: Bytes) -> None:
        """Evict, then wait until the last frame is compressed."""
        self._space.evict(memory)
        deadline = time.monotonic() + SETTLE_SECONDS
        while self._space.stats().swapped_pages < OUT_AT_LEAST * self._pages:
            if time.monotonic() > deadline:
                message = (
                    f"only {self._space.stats().swapped_pages} of {self._pages} pages went out"
                )
                raise RuntimeError(message)

    def held(self) -> Held:
        """From the space's own counters, against what it held when it was empty."""
        now = self._space.stats()
        overhead = {
            "log (headers, padding, open segments)": now.pool_bytes - now.stored_bytes,
            "tables and page state": now.table_bytes - self._empty.table_bytes,
            "engine's arena": max(0, now.arena_bytes - self._empty.arena_bytes),
        }
        return Held(now.swapped_pages, now.stored_bytes, overhead)

    def close(self) -> None:
        """The engine's own laws must still hold."""
        if self._space is None:
            return
        broken = self._space.check()
        if broken:
            message = f"the engine's self-check failed: {broken}"
            raise RuntimeError(message)
