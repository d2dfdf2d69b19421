"""Devices: attached places for whole segments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SEGMENT_BYTES = 256 * 1024


@dataclass
class Device:
    """A device as the layer knows it."""

    places: int
    """Segments that fit.  A place is taken when a segment is written, never before."""
    priority: int = 0
    """Higher ones are filled first, equal ones in turn."""
    number: int = 0
    """What groups forbid it by; free for another device once this one is off."""
    closed: bool = False
    """A write failed once: nothing is written there again, what is there is still read."""
    on: bool = True
    """Attached.  A device that is off holds nothing."""

    def write_failed(self, *, for_want_of_space: bool) -> None:
        """Take note of a failed write; a full device is only full, any other failure closes it."""
        self.closed = self.closed or not for_want_of_space

    @property
    def takes_writes(self) -> bool:
        """Whether anything may be written to it."""
        return self.on and not self.closed


def passed_over(written: Device, others: Iterable[tuple[Device, int]]) -> list[Device]:
    """Return the devices that should have been written to instead, given the places each has left."""
    return [
        other
        for other, room in others
        if other.takes_writes and other.priority > written.priority and room > 0
    ]


def may_refuse_swapoff(leaving: int, room_on_others: int, room_in_ram: int) -> bool:
    """Say whether a swapoff may be refused: `leaving` segments that fit neither on other devices nor in RAM."""
    return leaving > room_on_others + room_in_ram
