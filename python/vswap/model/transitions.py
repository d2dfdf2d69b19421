"""The legal life of an entry, as a table.  What is not in it does not happen.

::

             HAND_OUT          CACHE             SWAP_OUT
      FREE ───────────► NONE ─────────► CACHED ─────────► SAME | RAM | SHARED | SLOT
       ▲                 ▲ ◄─ TAKE_FRAME ─┘                      │ MOVE: between all of STORED
       └───── END ───────┴────────────────────────────────────── │ ── LOSE ──► POISONED
"""

from __future__ import annotations

from enum import Enum

from vswap.model.backing import STORED, Backing


class Step(Enum):
    """What may happen to one entry."""

    HAND_OUT = "allocation: count 1, no bytes"
    CACHE = "a frame is bound to it"
    TAKE_FRAME = "the frame goes back to whoever asks; at count 0 the entry goes too"
    SWAP_OUT = "it is given bytes, new ones or over those it had"
    MOVE = "writeback, cleaning, swapoff, promotion, sharing: its bytes rest elsewhere"
    LOSE = "its bytes did not read back right, and never will"
    END = "the last owner frees it"


_IN_USE = frozenset(Backing) - {Backing.FREE}
_WITH_BYTES = frozenset({Backing.SAME}) | STORED

LEGAL: dict[tuple[Backing, Step], frozenset[Backing]] = {
    (Backing.FREE, Step.HAND_OUT): frozenset({Backing.NONE}),
    (Backing.NONE, Step.CACHE): frozenset({Backing.CACHED}),
    (Backing.CACHED, Step.TAKE_FRAME): frozenset({Backing.NONE, Backing.FREE}),
    # A new page never lands on a device at once, but in a slot: devices are written in whole segments.
    **{
        (backing, Step.SWAP_OUT): frozenset(
            {Backing.SAME, Backing.RAM, Backing.SHARED, Backing.SLOT}
        )
        for backing in _IN_USE
    },
    # A frame at count 0 that is swapped out is simply free, and its entry is gone.
    (Backing.CACHED, Step.SWAP_OUT): frozenset(
        {Backing.SAME, Backing.RAM, Backing.SHARED, Backing.SLOT, Backing.FREE}
    ),
    **{(backing, Step.MOVE): STORED for backing in STORED},
    **{(backing, Step.LOSE): frozenset({Backing.POISONED}) for backing in _IN_USE},
    **{(backing, Step.END): frozenset({Backing.FREE}) for backing in _IN_USE},
    # The frame of an entry nobody needs keeps it alive until the frame is taken.
    (Backing.CACHED, Step.END): frozenset({Backing.FREE, Backing.CACHED}),
}
"""(what it is, what happens) -> what it may be then."""


def may_become(before: Backing, step: Step, after: Backing) -> bool:
    """Say whether `step` may turn `before` into `after`."""
    return after in LEGAL.get((before, step), frozenset())
