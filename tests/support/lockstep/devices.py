"""Devices that come, are written to in order, and go; tiers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.engine_layer import Call, Swapoff
from support.lockstep.entries import Entries
from vswap.model import (
    Device,
    Event,
    may_change_tier,
    may_refuse_swapoff,
    passed_over,
    slots_of,
)

LOOKS_REMEMBERED = 4
"""A segment that no look of so many found read is cold."""
PAGES_PER_SEGMENT = 63
"""Of those that do not shrink."""


class Devices(Entries):
    """Devices on both."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.looks: deque[bool] = deque([False] * LOOKS_REMEMBERED, maxlen=LOOKS_REMEMBERED)
        """Whether anything on a device was read before each of the last looks."""

    def device(self, at: int) -> int:
        """The `at`-th device that is on, or one that is off when none is."""
        on = [number for number, device in enumerate(self.model.devices) if device.on]
        return on[at % len(on)] if on else 0

    def swapon(self, places: int, priority: int | None = None, *, slots: bool = False) -> None:
        device = self.engine.attach(places, priority, slots=slots)
        assert device == len(self.model.devices)
        state = self.engine.device(device)
        assert state is not None and bool(state.slots) == slots and state.used == 0
        assert state.places == (slots_of(places) + 1 if slots else places)
        assert priority in (None, state.priority)
        self.model.devices.append(Device(places, state.priority, state.number, slots))

    def writeback(self, segments: int) -> int:
        with self.writes_in_order():
            written = self.engine.writeback(segments)
        assert 0 <= written <= segments
        self.observe(Event.WRITEBACK)
        return written

    @contextmanager
    def writes_in_order(self) -> Iterator[None]:
        """Nothing is written to a device that is closed or off, or while one of higher priority has room."""
        numbers = range(len(self.model.devices))
        before = [self.engine.calls(number, Call.WRITE) for number in numbers]
        yield
        others = [(self.model.devices[number], self.room(number)) for number in numbers]
        restricted = any(group.forbidden for group in self.model.tree.groups.values())
        for number, device in enumerate(self.model.devices):
            if self.engine.calls(number, Call.WRITE) > before[number]:
                assert device.takes_writes, f"device {number} was written to"
                assert not device.slots, f"a segment was written to slots device {number}"
                assert restricted or self.failing or not passed_over(device, others), others

    # Going

    def swapoff(self, device: int, ram_segments: int, most: int) -> Swapoff:
        """Entries keep their ids and bytes; the device is empty at the end, or on."""
        known, before = self.model.devices[device], self.engine.device(device)
        gauges = self.engine.gauges()
        ram_segments = min(ram_segments, max(0, gauges.ram_limit - gauges.ram_segments))
        room = self.room_beside(device)
        closed = known.closed
        end = self.engine.swapoff(device, ram_segments, most)
        after = self.engine.device(device)
        if before is None:
            assert end is Swapoff.NOT_ON
            return end
        assert (after is None) == (end is Swapoff.DONE)
        restricted = bool(self.model.tree.groups)
        if end is Swapoff.NO_ROOM:
            self.observe()
            in_ram = ram_segments * (PAGES_PER_SEGMENT if known.slots else 1)
            assert restricted or may_refuse_swapoff(before.used, room, in_ram)
        if end is Swapoff.FAILED:
            assert restricted, "nothing failed, and no limit stood against it"
        self.left(device, end)
        assert not known.on or known.closed == closed
        return end

    def left(self, device: int, end: Swapoff) -> None:
        """Take note of how a swapoff ended, and where that which was there went."""
        known = self.model.devices[device]
        beside = {
            number: (entry.backing, entry.device)
            for number, entry in self.model.entries.items()
            if entry.device is not None and entry.device != device
        }
        if end is Swapoff.DONE:
            known.on = False
        # What takes no writes may still be left by what is there.
        self.observe(Event.SLOTS_OFF if known.slots else Event.SWAPOFF)
        for number, place in beside.items():
            entry = self.model.entries[number]
            assert (entry.backing, entry.device) == place, "moved though it was not there"
        if known.slots:
            # Those that found no room under a limit stay, and are counted.
            self.fails.update(self.more_fails())
        assert known.on or not self.stored_on(device)

    def more_fails(self) -> dict[int, int]:
        """Pages that found no room under a limit since they were last counted, by group."""
        groups = list(self.model.tree.groups)
        more = {group: self.charge(group).fail_events - self.fails[group] for group in groups}
        assert min(more.values(), default=0) >= 0
        return more

    def room_beside(self, device: int) -> int:
        """Segments that fit on all other devices; of a slots device, pages that fit in their slots and segments."""
        slots = self.model.devices[device].slots
        room = 0
        for at, other in enumerate(self.model.devices):
            if at != device and (slots or not other.slots):
                each = PAGES_PER_SEGMENT if slots and not other.slots else 1
                room += self.room(at) * each
        return room

    # Tiers

    def look(self) -> int:
        """Cold goes down, what is read comes up, whole, and nothing else changes: least of all how much there is."""
        before = {number: entry.device for number, entry in self.model.entries.items()}
        gauges, read = self.engine.gauges(), set(self.read_since_look)
        self.looks.append(self.read_from_device)
        moved = self.engine.look()
        self.observe(Event.LOOK)
        changed = {
            number: (before[number], entry.device)
            for number, entry in self.model.entries.items()
            if entry.device != before[number]
        }
        assert moved or not changed
        targets = set()
        for number, (source, target) in changed.items():
            assert source is not None and target is not None
            targets.add(target)
            assert may_change_tier(
                self.model.devices[source],
                self.model.devices[target],
                was_read=number in read and not self.failing,
                others_were_read=sum(self.looks) > 1,
            ), (number, source, target, self.looks)
        for target in targets:
            assert self.room(target) >= self.model.devices[target].kept_free
        now = self.engine.gauges()
        assert (now.ram_segments, now.device_segments) == (
            gauges.ram_segments,
            gauges.device_segments,
        )
        self.read_since_look.clear()
        self.read_from_device = False
        return moved

    # Comparing

    def compare_devices(self) -> None:
        """Taken places are those with something in them; a failed device is told as failed."""
        used = 0
        for number, device in enumerate(self.model.devices):
            state = self.engine.device(number)
            assert (state is not None) == device.on
            if state is None:
                continue
            assert (state.state == 2) == device.closed, (number, state, device)
            assert state.priority == device.priority and bool(state.slots) == device.slots
            if device.slots:
                assert state.places == slots_of(device.places) + 1
                assert state.used == len(self.stored_on(number))
                # The header's place is never given up, nor are those of slots that failed.
                assert state.used > 0 or state.stored <= 1 + device.closed
            else:
                assert state.used <= state.places == device.places
                # What was written and is not needed was given up, but for the place that failed.
                assert state.used <= state.stored <= state.used + device.closed, state
                used += state.used
        assert used == self.engine.gauges().device_segments
