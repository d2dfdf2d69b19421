"""What is brought in before the program touches it, and what is not."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import Any

import pytest

from support.capability import delivery
from support.child import Child

BOTH = pytest.mark.parametrize("faults", ["thread", "signal"])

PRELUDE = """
import json
import os
import numpy as np
import vswap
MIB, PAGE, BLOCK = 1 << 20, 4096, 65536
def content(row):
    return np.repeat(np.random.default_rng(row).integers(0, 255, MIB // 64, "u1"), 64)
def filled(space, mib=192):
    array = space.empty((mib, MIB), "u1")
    for row in range(mib):
        array[row] = content(row)
    return array
def verify(array):
    for row in range(len(array)):
        assert np.array_equal(array[row], content(row)), row
def told(space, change):
    stats = space.stats()
    assert stats.held_peak_bytes <= stats.ram_budget_bytes + 24 * MIB, str(stats)
    assert space.check() == (), space.check()
    print(json.dumps({
        "in": change.swap_in_pages,
        "ahead": change.ahead_swap_in_pages,
        "zeros_ahead": change.ahead_zero_fill_pages,
        "faults": change.faults_swap_in,
        "zero_faults": change.faults_zero_fill,
    }))
"""


def told_by(body: str, faults: str) -> dict[str, Any]:
    delivery(faults)
    head = f'{PRELUDE}space = vswap.SwapSpace("64M", devices=[], faults={faults!r})\n'
    told: dict[str, Any] = json.loads(Child(None)(head + dedent(body), timeout=150))
    print(told)
    return told


@BOTH
def test_what_is_touched_in_order_is_brought_in_ahead_of_the_program(faults: str) -> None:
    told = told_by(
        """
        array = filled(space)
        before = space.stats()
        verify(array)
        told(space, space.stats() - before)
        """,
        faults,
    )
    assert told["in"] > 192 * 256 * 0.9
    assert told["ahead"] * 10 > told["in"]
    assert told["faults"] * 16 < told["in"], "a fault for each block, as without reading ahead"


@BOTH
def test_memory_that_is_written_in_order_gets_its_zeros_ahead_of_the_program(faults: str) -> None:
    told = told_by(
        """
        before = space.stats()
        array = filled(space)
        change = space.stats() - before
        verify(array)
        told(space, change)
        """,
        faults,
    )
    assert told["zeros_ahead"] > 192 * 256 // 20
    assert told["zero_faults"] * 16 < 192 * 256


@BOTH
def test_zeros_put_in_place_ahead_are_zeros_and_end_where_the_memory_ends(faults: str) -> None:
    told = told_by(
        """
        hold = filled(space, 64)  # from here on memory is short, and its pages are watched
        before = space.stats()
        sizes = [MIB + PAGE * n for n in range(96)]
        for size in sizes:
            array = space.zeros(size, "u1")
            array[: size // 2 : PAGE] = 7
            assert not array.reshape(-1, PAGE)[size // PAGE // 2 + 1 :].any()
            assert array[: size // 2].sum(dtype="u8") == 7 * -(-(size // 2) // PAGE)
        del array
        verify(hold)
        told(space, space.stats() - before)
        """,
        faults,
    )
    assert told["zeros_ahead"] > 0


@BOTH
def test_faults_that_gather_in_no_order_have_their_area_brought_in(faults: str) -> None:
    told = told_by(
        """
        array = filled(space)
        before = space.stats()
        shuffle = np.random.default_rng(1).permutation
        for first in range(0, len(array), 4):
            blocks = array[first : first + 4].reshape(-1, BLOCK)
            for block in shuffle(len(blocks)):
                row, at = first + block // 16, block % 16 * BLOCK
                assert np.array_equal(blocks[block], content(row)[at : at + BLOCK])
        told(space, space.stats() - before)
        """,
        faults,
    )
    assert told["in"] > 192 * 256 * 0.9
    assert told["ahead"] * 10 > told["in"]


@BOTH
def test_random_touches_bring_in_nothing_ahead(faults: str) -> None:
    told = told_by(
        """
        array = filled(space)
        pages = np.random.default_rng(2).integers(0, 192 * 256, 6000)
        known = [content(row) for row in range(192)]
        for number, page in enumerate(pages):
            if number == 1000:
                before = space.stats()
            row, at = page // 256, page % 256 * PAGE
            assert np.array_equal(array[row, at : at + PAGE], known[row][at : at + PAGE])
        change = space.stats() - before
        verify(array)
        told(space, change)
        """,
        faults,
    )
    assert told["faults"] > 3000
    assert told["ahead"] * 50 < told["in"]


@BOTH
def test_a_forked_child_reads_ahead_by_itself_and_finds_every_byte(faults: str) -> None:
    told = told_by(
        """
        array = filled(space)
        child = os.fork()
        before = space.stats()
        verify(array)
        change = space.stats() - before
        if child == 0:
            wrong = change.ahead_swap_in_pages == 0 or space.check() != ()
            os._exit(1 if wrong else 0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        told(space, change)
        """,
        faults,
    )
    assert told["ahead"] > 0
