"""How operations end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class SwapOut(Enum):
    """How a swap-out ends.  In every case the caller has the frame again."""

    SAME = "kept in the descriptor"
    STORED = "kept as an object, or in a slot"
    UNNEEDED = "nobody needed it: the entry is gone"
    NO_ROOM = "no RAM segment is free, and no slot: the entry is as it was"
    DEAD = "not an entry in use"


class SwapIn(Enum):
    """How a swap-in ends.  Bytes are handed out with OK alone, and they are the right ones."""

    OK = "the page, byte for byte"
    EMPTY = "no bytes yet, or not an entry in use"
    CACHED = "in a frame: take that"
    LOST = "poisoned, now or before"
    DEVICE_FAILED = (
        "the device did not answer; the bytes may still be there, and the entry is as it was"
    )


class Event(Enum):
    """What the layer does to entries nobody asked about."""

    NOTHING = "every operation on single entries"
    WRITEBACK = "segments went from RAM to devices"
    CLEAN = "live objects were copied out of half-dead segments, into RAM"
    SWAPOFF = "a device of segments was emptied, to RAM or other devices"
    SLOTS_OFF = "a slots device was emptied page by page, into the log or other slots"
    PART = "rules of groups changed: pages that may be shared no longer were swapped out anew"
    LOOK = "cold segments went down to a device of lower priority, and those that are read came up"


@dataclass(frozen=True)
class Trouble:
    """What may go wrong with devices while an operation runs."""

    refused: bool = False
    """Calls fail, or half of the bytes come: a retry later may succeed."""
    corrupt_reads: int = 0
    """So many reads of a device of segments deliver changed bytes and say nothing."""


NO_TROUBLE = Trouble()
READS_BEFORE_LOST = 2
"""Bytes that are wrong are read once more before they count as lost."""
