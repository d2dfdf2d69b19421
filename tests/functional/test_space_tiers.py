"""A fast and a slow swap device: what is cold goes down, what is read again goes up."""

from __future__ import annotations

import tempfile
from pathlib import Path
from textwrap import dedent

import pytest

from support.capability import delivery
from support.child import Child


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_segments_move_between_a_fast_and_a_slow_device(faults: str) -> None:
    delivery(faults)
    folder = Path(tempfile.mkdtemp(prefix="vswap-tiers-", dir="/var/tmp"))
    body = f"""
        import time
        import numpy as np
        import vswap
        MIB = 1 << 20
        ROWS, HOT = 96, 40
        PAGE = 512
        def content(row):
            return np.random.default_rng(row).integers(0, 60000, 1 << 18)
        def used(name):
            return next(d for d in space.devices() if d.path.endswith(name)).used_bytes
        space = vswap.SwapSpace("64M", faults={faults!r}, devices=[])
        space.swapon({str(folder / "fast")!r}, size="16M", priority=9)
        space.swapon({str(folder / "slow")!r}, size="300M", priority=1)
        a = space.zeros((ROWS, 1 << 18), "i8")
        for row in range(ROWS):
            a[row] = content(row)
        until = time.monotonic() + 60
        while space.stats().demoted_bytes == 0 and time.monotonic() < until:
            time.sleep(0.1)
        assert space.stats().demoted_bytes > 0, space.devices()
        assert used("slow") > 8 * MIB and used("fast") > 4 * MIB, space.devices()
        hot = [content(row) for row in range(HOT)]
        step = 0
        while space.stats().promoted_bytes == 0 and time.monotonic() < until:
            # A page here and there, so that most of each segment stays where it is.
            for row in range(HOT):
                for half in (0, 256):
                    at = (half + step * 48 % 256 + step // 5) * PAGE
                    assert a[row, at] == hot[row][at], (row, at)
            step += 1
            time.sleep(0.8)
        assert space.stats().promoted_bytes > 0, (step, space.devices())
        for row in range(ROWS):
            assert np.array_equal(a[row], content(row)), row
        assert space.check() == ()
        """
    Child(None)(dedent(body), timeout=150)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
