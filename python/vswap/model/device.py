"""Devices: attached places for whole segments, or slots for single pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SEGMENT_BYTES = 256 * 1024
SLOTS_PER_PLACE = 64
"""Pages that take the room of a segment where they are not compressed."""
SMALLEST_TIER = 16
"""No room is kept free on a device of fewer places."""


@dataclass
class Device:
    """A device as the layer knows it."""

    places: int
    """Segments that fit, or pages.  One is taken when it is written, never before."""
    priority: int = 0
    """Higher ones are filled first, equal ones for segments in turn."""
    number: int = 0
    """What groups forbid it by, among those of its sort; free for another device once this one is off."""
    slots: bool = False
    """Whether it takes single pages, as they are, and no segments."""
    closed: bool = False
    """A write failed once: nothing is written there again, what is there is still read."""
    on: bool = True
    """Attached.  A device that is off holds nothing."""

    def write_failed(self, *, for_want_of_space: bool) -> None:
        """Take note of a failed write; a full device is only full, any other failure closes it.

        A discard that fails changes nothing: the place is free, and its space only reused.
        """
        self.closed = self.closed or not for_want_of_space

    @property
    def takes_writes(self) -> bool:
        """Whether anything may be written to it."""
        return self.on and not self.closed

    @property
    def kept_free(self) -> int:
        """Places that no look leaves a device of segments without, by what it moves there."""
        return max(1, self.places // 16)


def slots_of(places: int) -> int:
    """Return how many pages fit on a slots device as large as `places` segments: the first slot is its header."""
    return places * SLOTS_PER_PLACE - 1


def passed_over(written: Device, others: Iterable[tuple[Device, int]]) -> list[Device]:
    """Return the devices that should have been written to instead, given the places each has left."""
    return [
        other
        for other, room in others
        if other.takes_writes
        and other.slots == written.slots
        and other.priority > written.priority
        and room > 0
    ]


def first_with_slots(devices: Mapping[int, Device], rooms: Mapping[int, int]) -> int | None:
    """Return the slots device that the next page goes to: of the highest priority with room the lowest number."""
    able = [
        at
        for at, device in devices.items()
        if device.slots and device.takes_writes and rooms.get(at, 0) > 0
    ]
    return max(able, key=lambda at: (devices[at].priority, -devices[at].number), default=None)


def may_change_tier(
    source: Device, target: Device, *, was_read: bool, others_were_read: bool
) -> bool:
    """Say whether a look may move a page between devices of segments.

    Down goes what nobody read since the last look, off a device that is large enough to keep room on.  Up goes what
    several looks found read, a page or another one of its segment.
    """
    if target.priority < source.priority:
        return source.places >= SMALLEST_TIER and not was_read
    return target.priority > source.priority and others_were_read


def may_refuse_swapoff(leaving: int, room_on_others: int, room_in_ram: int) -> bool:
    """Say whether a swapoff may be refused: `leaving` segments that fit neither on other devices nor in RAM.

    Of a slots device it is pages, of which a segment in RAM or on a device holds 63 if none of them shrinks.
    """
    return leaving > room_on_others + room_in_ram
