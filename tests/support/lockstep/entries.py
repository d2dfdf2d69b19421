"""Operations on entries."""

from __future__ import annotations

import zlib
from functools import lru_cache

from support.lockstep.both import Both
from vswap.model import PAGE_BYTES, ROOT, Backing, Event, SwapIn, SwapOut, Trouble


@lru_cache(maxsize=1 << 12)
def shrinks(page: bytes) -> bool | None:
    """Whether any codec makes less of a page; None for those that one codec may and another may not."""
    length = len(zlib.compress(page, 1))
    if length >= PAGE_BYTES:
        return False
    return True if length < PAGE_BYTES * 3 // 4 else None


class Entries(Both):
    """Entries on both; whatever differs is an AssertionError."""

    def allocate(self, count: int, group: int = ROOT) -> range:
        first = self.engine.allocate(count, group)
        assert first is not None
        return self.model.allocate(first, count, group)

    def duplicate(self, entry: int) -> None:
        assert self.engine.duplicate(entry) == self.model.duplicate(entry)

    def free(self, first: int, count: int = 1) -> None:
        ending = range(first, first + count)
        assert self.engine.free(first, count) == self.model.free(ending).dead
        self.bury(ending)

    def cache(self, entry: int) -> None:
        self.frames += 1
        assert self.engine.cache(entry, self.frames) == self.model.cache(entry, self.frames)

    def take_frame(self, entry: int) -> None:
        assert self.engine.take_frame(entry) == self.model.take_frame(entry)
        self.bury([entry])

    def poison(self, entry: int) -> None:
        assert self.engine.poison(entry) == self.model.lose(entry)

    def prefer_slots(self, on: bool) -> None:
        self.engine.prefer_slots(on)
        self.slots_preferred = on

    def swap_out(self, entry: int, page: bytes) -> SwapOut:
        """New bytes end where the model says, in the very slots device that it says."""
        gauges, limiting = self.engine.gauges(), self.limiting(entry)
        full = gauges.ram_segments >= gauges.ram_limit or limiting is not None
        slots = None if self.failing else self.model.slots_for(entry, self.slots_left())
        end = self.engine.swap_out(entry, page)
        allowed = self.model.may_swap_out(entry, page, ram_is_full=full, slots=slots)
        assert end in allowed, (entry, end, allowed, gauges)
        backing, device = self.place(entry)
        if end is SwapOut.STORED and not self.failing:
            self._is_where_it_belongs(page, full, slots, backing, device)
        if end is SwapOut.NO_ROOM and limiting is not None:
            self.fails[self.model.entries[entry].group] += 1
        self.model.swap_out(entry, page, end, backing, device)
        self.bury([entry])
        return end

    def _is_where_it_belongs(
        self, page: bytes, full: bool, slots: int | None, backing: Backing, device: int | None
    ) -> None:
        places = self.model.places_for(
            shrinks=shrinks(page),
            ram_is_full=full,
            slots=slots,
            slots_preferred=self.slots_preferred,
        )
        shared = {Backing.RAM} if self.dedup else set()
        assert backing in places | shared, (backing, places, slots)
        assert backing is not Backing.SLOT or device == slots, (device, slots)

    def swap_in(self, entry: int, trouble: Trouble | None = None) -> SwapIn:
        end, page = self.engine.swap_in(entry)
        allowed = self.model.may_swap_in(entry, trouble or Trouble())
        assert end in allowed, (entry, end, allowed, self.model.backing(entry))
        self.model.swap_in(entry, end, page)
        known = self.model.entries.get(entry)
        if known and known.backing is Backing.DEVICE:
            self.read_since_look.add(entry)
            self.read_from_device = True
        return end

    def clean(self) -> None:
        self.engine.clean()
        self.observe(Event.CLEAN)
