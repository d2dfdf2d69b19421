"""The kernel's own figures: metadata of 32 GiB of swap, before and with its vswap patches (v3 to v6).

The cover letters have 20 cells; every one follows from what a slot costs, so they are computed here.
"Old" is 3 bytes and 1 bit of each slot, used or not, and 8 bytes of each used slot for the swap
table; compressed (zswap) 8 bytes more of each used slot.  The patches cost 24 bytes and 1 bit of
each used slot; on a disk also 2 bits of each slot, and 8 bytes of each used one to find its owner.
The structure the kernel keeps for each compressed page is in none of the columns.
"""

from __future__ import annotations

from dataclasses import dataclass

SLOTS = 32 << 30 >> 12
"""Pages of 32 GiB."""

USES = (0, 25, 50, 75, 100)
"""Percent in use: the rows of the table."""


@dataclass(frozen=True)
class Column:
    """What each slot costs, and each used one beyond that, in bits."""

    title: str
    each_bits: int
    used_bits: int

    def megabytes(self, use: int, slots: int = SLOTS) -> float:
        """Return the cell, in units of 1024 * 1024 bytes as the kernel's authors count."""
        used = slots * use // 100
        return (slots * self.each_bits + used * self.used_bits) / 8 / (1 << 20)


COMPRESSED_OLD = Column("compressed, old", 3 * 8 + 1, (8 + 8) * 8)
COMPRESSED_VSWAP = Column("compressed, vswap", 0, 24 * 8 + 1)
DISK_OLD = Column("disk, old", 3 * 8 + 1, 8 * 8)
DISK_VSWAP = Column("disk, vswap", 2, 24 * 8 + 1 + 8 * 8)

COLUMNS = (COMPRESSED_OLD, COMPRESSED_VSWAP, DISK_OLD, DISK_VSWAP)
