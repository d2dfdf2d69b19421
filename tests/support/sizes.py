"""How big the programs of a test run are: small by default, as the promises say with --full."""

from __future__ import annotations

import os
from typing import TypeVar

MIB = 1 << 20
RAM_FLOOR_MIB = 32
"""No program is given less than this: below it Python itself does not fit."""
BUDGET_SLACK_PERCENT = 5
BUDGET_SLACK_MIB = 24
FULL_MODEL_SECONDS = 600

T = TypeVar("T")


def full_sizes() -> bool:
    """Whether the sizes of the promises were asked for (pytest --full, VSWAP_TEST_FULL=1)."""
    return os.environ.get("VSWAP_TEST_FULL", "") not in ("", "0")


def sized(quick: T, full: T) -> T:
    """`quick` for `make test`, `full` with --full."""
    return full if full_sizes() else quick


def model_seconds() -> int:
    """How long each test against the model looks for something new; 0: the short run, the same every time."""
    return int(os.environ.get("VSWAP_MODEL_SECONDS", sized(0, FULL_MODEL_SECONDS)))


def quarter_of(touched_bytes: int) -> int:
    """The budget, in MiB, of a program that touches so much."""
    return max(RAM_FLOOR_MIB, touched_bytes // 4 // MIB)


def budget_for(touched_bytes: int, swap: str, without_swap: float = 0.5) -> int:
    """A quarter of what is touched; without a swap file what its compressed bytes need.

    A heap that shrinks two to three times does not fit into a quarter of itself in any way.
    """
    if swap != "none":
        return quarter_of(touched_bytes)
    return max(RAM_FLOOR_MIB, int(touched_bytes * without_swap) // MIB)


def allowed_bytes(ram_mib: int) -> int:
    """What a process with this budget may hold at any moment: 5 % more, or 24 MiB."""
    return ram_mib * MIB + max(ram_mib * MIB * BUDGET_SLACK_PERCENT // 100, BUDGET_SLACK_MIB * MIB)
