"""What reclaim spares, on a real space: the working set beside plain arrival order."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import Any

import pytest

from support.capability import delivery
from support.child import Child

PRELUDE = """
import json
import numpy as np
import vswap
MIB = 1 << 20
def space_of(policy, ram, faults):
    vswap.SwapSpace._policy = policy
    return vswap.SwapSpace(ram, devices=[], faults=faults)
def filled(space, mib):
    # Compresses to a few percent, so nearly all of the budget is pages in their place.
    array = space.empty((mib, MIB), "u1")
    for row in range(mib):
        array[row] = content(row)
    return array
def content(row):
    return np.repeat(np.random.default_rng(row).integers(0, 255, MIB // 512, "u1"), 512)
def read(array, rows):
    for row in rows:
        assert np.array_equal(array[row], content(row)), row
def told(space, before):
    stats = space.stats()
    assert stats.held_peak_bytes <= stats.ram_budget_bytes + 24 * MIB, str(stats)
    assert space.check() == (), space.check()
    change = stats - before
    print(json.dumps({
        "in": change.swap_in_pages,
        "out": change.swap_out_pages,
        "refaults": change.workingset_refault_pages,
        "activated": change.workingset_activate_pages,
        "second_chance": change.second_chance_pages,
        "active": stats.active_blocks,
        "window": stats.second_chance_window_pages,
    }))
"""


def told_by(body: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(Child(None)(PRELUDE + dedent(body), timeout=150))
    print(told)
    return told


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_of_a_loop_larger_than_the_budget_most_stays_in_memory(faults: str) -> None:
    delivery(faults)

    def loop(policy: str) -> dict[str, Any]:
        return told_by(
            f"""
            space = space_of({policy!r}, "64M", {faults!r})
            array = filled(space, 70)
            read(array, [*range(70)] * 4)
            before = space.stats()
            read(array, [*range(70)] * 8)
            told(space, before)
            """
        )

    fifo, ours = loop("fifo"), loop("workingset")
    assert fifo["activated"] == fifo["active"] == 0
    assert fifo["refaults"] > 7 * 70 * 256, fifo
    assert ours["active"] > 500, ours
    assert ours["in"] * 2 < fifo["in"], (ours, fifo)
    assert ours["out"] * 2 < fifo["out"], (ours, fifo)


def test_a_hot_set_stays_in_memory_during_a_long_scan() -> None:
    delivery("thread")

    def scan(policy: str) -> dict[str, Any]:
        return told_by(
            f"""
            space = space_of({policy!r}, "64M", "thread")
            hot, cold = filled(space, 30), filled(space, 400)
            for _ in range(4):
                read(hot, range(30))
            before = space.stats()
            for row in range(400):
                read(cold, [row])
                read(hot, [row * 7 % 30])
            told(space, before)
            """
        )

    fifo, ours = scan("fifo"), scan("workingset")
    # The scan itself is 400 MiB, whoever is spared; the rest is the hot set's.
    scanned = 400 * 256
    assert (ours["in"] - scanned) * 2 < fifo["in"] - scanned, (ours, fifo)


def test_a_program_that_moves_on_finds_its_new_working_set_in_memory() -> None:
    delivery("thread")
    told = told_by(
        """
        space = space_of("workingset", "64M", "thread")
        old, new = filled(space, 66), filled(space, 50)
        read(old, [*range(66)] * 6)
        read(new, [*range(50)] * 10)
        before = space.stats()
        read(new, [*range(50)] * 5)
        told(space, before)
        """
    )
    assert told["in"] < 50 * 256, told


def test_evicted_discarded_and_freed_blocks_leave_the_lists() -> None:
    delivery("thread")
    told = told_by(
        """
        space = space_of("workingset", "64M", "thread")
        array = filled(space, 70)
        read(array, [*range(70)] * 3)
        assert space.stats().active_blocks > 500
        before = space.stats()
        for _ in range(20):
            space.evict(array)
        told(space, before)
        read(array, range(70))
        del array
        assert space.check() == ()
        """
    )
    assert told["active"] < 50, told
