"""What the layer may do to pages nobody asked about: from where to where, in which event."""

from __future__ import annotations

from vswap.model.backing import Backing
from vswap.model.outcomes import Event

MOVES: dict[Event, dict[Backing, frozenset[Backing]]] = {
    Event.NOTHING: {},
    Event.WRITEBACK: {Backing.RAM: frozenset({Backing.DEVICE})},
    Event.CLEAN: {Backing.DEVICE: frozenset({Backing.RAM})},
    Event.SWAPOFF: {Backing.DEVICE: frozenset({Backing.RAM, Backing.DEVICE})},
    # Pages leave their slots by way of RAM, which is written back to make room.
    Event.SLOTS_OFF: {
        Backing.SLOT: frozenset({Backing.RAM, Backing.DEVICE, Backing.SLOT}),
        Backing.RAM: frozenset({Backing.DEVICE}),
    },
    Event.PART: {
        Backing.RAM: frozenset({Backing.SLOT}),
        Backing.DEVICE: frozenset({Backing.RAM, Backing.SLOT}),
    },
    Event.LOOK: {Backing.DEVICE: frozenset({Backing.DEVICE})},
}
"""(event, where it was) -> where it may be then; on a device to another one, where the device is left or a tier."""


def may_move(event: Event, before: Backing, after: Backing) -> bool:
    """Say whether `event` may bring a page from `before` to `after`."""
    return after in MOVES[event].get(before, frozenset())
