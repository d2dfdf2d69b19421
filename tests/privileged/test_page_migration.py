"""Pages that the kernel migrates while they are being moved are neither lost nor doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.capability import lacking, root
from support.child import Child

pytestmark = pytest.mark.privileged
COMPACT = Path("/proc/sys/vm/compact_memory")

PROGRAM = """
import mmap, os, threading, time
from pathlib import Path
import numpy as np
import vswap

COMPACT, VMSTAT = Path("/proc/sys/vm/compact_memory"), Path("/proc/vmstat")
PAGES, SECONDS, PATIENCE_SECONDS, ENOUGH = 16384, 8, 90, 1000

def migrated():
    counts = dict(line.split() for line in VMSTAT.read_text().splitlines())
    return int(counts["pgmigrate_success"])

def compact_until(over):
    while not over.is_set():
        # Compaction gathers what lies scattered, so something is scattered first.
        with mmap.mmap(-1, 64 << 20) as holes:
            for at in range(0, len(holes), 4096):
                holes[at] = 1
            for at in range(0, len(holes), 8192):
                holes.madvise(mmap.MADV_DONTNEED, at, 4096)
            COMPACT.write_text("1")

def verify(page):
    turn = int(turns[page])
    assert (pages[page] == (turn * PAGES + page if turn else 0)).all(), page

space = vswap.SwapSpace("16M", faults=os.environ["FAULTS"], codec="lz4", devices=[])
pages = space.zeros((PAGES, 512), "u8")
turns = np.zeros(PAGES, "u8")
before, over = migrated(), threading.Event()
compactor = threading.Thread(target=compact_until, args=(over,))
compactor.start()
try:
    rng, began, turn = np.random.default_rng(11), time.monotonic(), 0
    def goes_on():  # memory that is hardly scattered gives compaction little to do
        took = time.monotonic() - began
        return took < SECONDS or (took < PATIENCE_SECONDS and migrated() - before <= ENOUGH)
    while goes_on():
        turn += 1
        chosen = rng.permutation(PAGES)[:2048] if turn % 2 else np.arange(turn, PAGES, 7)
        for page in chosen.tolist():
            verify(page)
            pages[page], turns[page] = turn * PAGES + page, turn
finally:
    over.set()
    compactor.join()
for page in range(PAGES):
    verify(page)
assert space.check() == (), space.check()
assert migrated() - before > ENOUGH, "too little was migrated"
"""


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_pages_that_the_kernel_migrates_meanwhile_keep_every_byte(faults: str) -> None:
    root()
    if not COMPACT.exists():
        lacking("a kernel that compacts memory (CONFIG_COMPACTION)")
    Child(None)(PROGRAM, timeout=240, FAULTS=faults)
