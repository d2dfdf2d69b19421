"""Everything the model knows, asked of the engine."""

from __future__ import annotations

from support.lockstep.faults import Faults
from vswap.model import PAGE_BYTES, STORED, Backing, SwapIn, SwapOut

CLEANER_SPARE = 2
"""Segments beyond the limit that the cleaner may copy into."""


class Lockstep(Faults):
    """Operations on both; whatever differs is an AssertionError."""

    def compare(self) -> None:
        """Everything the model knows; then the engine's own laws."""
        self.observe()
        for number, entry in self.model.entries.items():
            assert self.engine.count(number) == entry.count, number
            if entry.backing in STORED:
                self.swap_in(number)
        for number in self.dead():
            self.refuses(number)
        self.compare_charges()
        self.compare_groups()
        self.compare_devices()
        assert self.engine.check() == []

    def refuses(self, dead: int) -> None:
        """An entry that is gone does nothing, and comes back with no operation."""
        assert self.engine.count(dead) == 0
        assert self.engine.backing(dead) is Backing.NONE
        assert self.engine.device_of(dead) is None
        assert self.engine.duplicate(dead) is None
        assert self.engine.swap_in(dead)[0] is SwapIn.EMPTY
        assert self.engine.swap_out(dead, bytes(PAGE_BYTES)) is SwapOut.DEAD
        assert self.engine.take_frame(dead) is None
        assert not self.engine.cache(dead, 1)
        assert self.engine.free(dead) == 1

    def compare_charges(self) -> None:
        """What is charged is what is there; places and segments stay within what there is."""
        gauges, charges = self.engine.gauges(), self.model.charges()
        assert (gauges.entries, gauges.same, gauges.stored, gauges.slots) == (
            charges.entries,
            charges.same,
            charges.stored,
            charges.slots,
        )
        in_log = STORED - {Backing.SLOT}
        pages = [e.content for e in self.model.entries.values() if e.backing in in_log]
        assert len(set(pages)) <= gauges.stored_bytes <= charges.stored * PAGE_BYTES
        assert self.dedup or charges.stored <= gauges.stored_bytes
        assert gauges.ram_segments <= gauges.ram_limit + CLEANER_SPARE
        assert gauges.device_segments <= self.model.places_wanted_at_most()

    def end(self) -> None:
        """Every owner lets go, every frame is taken: nothing is left, and nothing is charged."""
        for number, entry in list(self.model.entries.items()):
            for _ in range(entry.count):
                self.free(number)
            if number in self.model.entries:
                self.take_frame(number)
        assert not self.model.entries
        while self.model.tree.groups:
            for group in list(self.model.tree.groups):
                self.end_group(group)
        self.clean()
        self.compare()
        self.engine.destroy()
