"""Blocks that go out together, and pages among them that cannot: every byte, and what went out."""

from __future__ import annotations

import pytest

from support.capability import delivery
from support.child import Child

PROGRAM = """
import ctypes, os
import numpy as np
import vswap
PAGE, BLOCK, BLOCKS = 4096, 16, 24
libc = ctypes.CDLL(None, use_errno=True)
def content(page):
    return np.random.default_rng(page).integers(0, 9, PAGE // 8, "u8") + page
def verify():
    for page in np.random.default_rng(3).permutation(len(pages)).tolist():
        assert (pages[page] == (0 if page in untouched else content(page))).all(), page
def of_the_kernel(call, page, *args):
    address = ctypes.c_void_p(pages.ctypes.data + page * PAGE)
    assert call(address, PAGE, *args) == 0, os.strerror(ctypes.get_errno())
space = vswap.SwapSpace("64M", faults=os.environ["FAULTS"], devices=[])
whole = space.zeros((BLOCKS + 1) * BLOCK * PAGE, "u1")
first = -whole.ctypes.data % (BLOCK * PAGE)
pages = whole[first : first + BLOCKS * BLOCK * PAGE].view("u8").reshape(-1, PAGE // 8)
untouched = {9 * BLOCK + 7} if os.environ["CASE"] == "untouched" else set()
for page in range(len(pages)):
    if page not in untouched:
        pages[page] = content(page)
stays = len(untouched)
match os.environ["CASE"]:
    case "pinned":
        hold = space.pin(pages[5 * BLOCK + 3])
        hold.__enter__()
        stays = 1
    case "read-only":
        of_the_kernel(libc.mprotect, 6 * BLOCK + 2, 1)
    case "locked":
        of_the_kernel(libc.mlock, 4 * BLOCK)
        stays = 1
    case "shared":
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        # All but one are the parent's own again: the move of its neighbours stops there.
        for page in range(len(pages)):
            if page != 6 * BLOCK + 5:
                pages[page] = content(page)
for turn in range(3):
    if turn > 0 and untouched:
        stays = 0  # it was read, and holds zeros now
    went = space.evict(pages)
    assert went == len(pages) - stays, (went, len(pages), stays)
    verify()
    assert space.check() == (), space.check()
if os.environ["CASE"] == "shared":
    os.close(write)
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize("faults", ["thread", "signal"])
@pytest.mark.parametrize("case", ["whole", "untouched", "pinned", "read-only", "locked", "shared"])
def test_neighbouring_blocks_go_out_but_for_the_page_that_cannot(case: str, faults: str) -> None:
    delivery(faults)
    Child(None)(PROGRAM, FAULTS=faults, CASE=case)
