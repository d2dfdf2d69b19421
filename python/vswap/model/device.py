"""Devices: attached places for whole segments."""

from __future__ import annotations

from dataclasses import dataclass

SEGMENT_BYTES = 256 * 1024


@dataclass
class Device:
    """A device as the layer knows it."""

    places: int
    """Segments that fit.  A place is taken when a segment is written, never before."""
    priority: int = 0
    """Higher ones are filled first; equal ones in the order they came."""
    closed: bool = False
    """A write failed once: nothing is written there again, what is there is still read."""

    def write_failed(self, *, for_want_of_space: bool) -> None:
        """Take note of a failed write; a full device is only full, any other failure closes it."""
        self.closed = self.closed or not for_want_of_space
