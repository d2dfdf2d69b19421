"""Entries are numbers: cluster * 512 + offset, in clusters that are never number 0."""

from __future__ import annotations

CLUSTER_ENTRIES = 512
"""Entries of a cluster, which share a lock and one page of descriptors."""
ENTRY_BITS = 41
"""No entry is wider: the store keeps that many bits of its owner with every object."""


class RangeError(ValueError):
    """A range that may not be handed out."""


def can_be_entry(number: int) -> bool:
    """Say whether a number can be an entry at all; 0 to 511 never is one."""
    return CLUSTER_ENTRIES <= number < 1 << ENTRY_BITS


def cluster_of(entry: int) -> int:
    """Return the cluster of an entry."""
    return entry // CLUSTER_ENTRIES


def alignment(count: int) -> int:
    """Return what the first of `count` neighbours is a multiple of: the next power of two."""
    return 1 << (count - 1).bit_length()


def range_of(first: int, count: int) -> range:
    """Return the entries of an allocation, or raise RangeError if it is not one."""
    if not 1 <= count <= CLUSTER_ENTRIES:
        raise RangeError(f"{count} entries are not handed out at once")
    if not (can_be_entry(first) and can_be_entry(first + count - 1)):
        raise RangeError(f"{first} is no entry")
    if first % alignment(count):
        raise RangeError(f"{first} is not aligned for {count} entries")
    if cluster_of(first) != cluster_of(first + count - 1):
        raise RangeError(f"{count} entries from {first} cross a cluster")
    return range(first, first + count)
