"""The swap layer, said in Python: what it promises, and nothing of how it keeps it.

This is the specification (docs/model.md leads through it) and the oracle of the tests that drive the
engine.  It imports nothing native.  Where the engine is free to choose (which entry it hands out, where
an object rests, whether there is room), an operation here takes what the engine chose and refuses what
it was not free to choose.
"""

from __future__ import annotations

from vswap.model.backing import STORED, Backing
from vswap.model.device import (
    Device,
    first_with_slots,
    may_change_tier,
    may_refuse_swapoff,
    passed_over,
    slots_of,
)
from vswap.model.entries import CLUSTER_ENTRIES, RangeError
from vswap.model.groups import ROOT, Group, GroupCharge, GroupTree
from vswap.model.layer import Charges, Entry, Freed, Layer, SpecificationError
from vswap.model.outcomes import Event, SwapIn, SwapOut, Trouble
from vswap.model.page import PAGE_BYTES
from vswap.model.transitions import LEGAL, Step

__all__ = [
    "CLUSTER_ENTRIES",
    "LEGAL",
    "PAGE_BYTES",
    "ROOT",
    "STORED",
    "Backing",
    "Charges",
    "Device",
    "Entry",
    "Event",
    "Freed",
    "Group",
    "GroupCharge",
    "GroupTree",
    "Layer",
    "RangeError",
    "SpecificationError",
    "Step",
    "SwapIn",
    "SwapOut",
    "Trouble",
    "first_with_slots",
    "may_change_tier",
    "may_refuse_swapoff",
    "passed_over",
    "slots_of",
]
