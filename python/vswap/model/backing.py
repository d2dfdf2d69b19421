"""Where the page of an entry is."""

from __future__ import annotations

from enum import Enum


class Backing(Enum):
    """One of these at any time, for every number that can be an entry."""

    FREE = "not handed out"
    NONE = "handed out, no bytes yet"
    SAME = "one repeated 64-bit word, kept in the descriptor: no memory, no place"
    CACHED = "in a frame: the swap cache; the frame's owner has the bytes"
    RAM = "an object of a segment in RAM"
    DEVICE = "an object of a segment on a device"
    SHARED = "an object that several entries name"
    SLOT = "a plain 4 KiB slot of a device, uncompressed"
    POISONED = "lost: the bytes could not be read back right"


STORED = frozenset({Backing.RAM, Backing.DEVICE, Backing.SHARED, Backing.SLOT})
"""Backings that hold bytes outside the descriptor; one may turn into another with nobody noticing."""
