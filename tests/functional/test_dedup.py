"""Deduplication on the real engine: equal pages are stored once, and every byte stays right."""

from __future__ import annotations

import sys
from textwrap import dedent

import pytest

from support.capability import delivery
from support.child import Child
from support.soon import SOON

PRELUDE = (
    SOON
    + """
import gc, os
import numpy as np
import vswap
MIB = 1 << 20
def columns(seed, rows=1 << 19):
    rng = np.random.default_rng(seed)
    return {
        "delay": np.round(rng.normal(12, 40, rows), 1),
        "carrier": rng.integers(0, 16, rows),
        "distance": rng.integers(80, 4983, rows).astype("f4"),
        "when": np.sort(rng.integers(0, 365 * 86400, rows)),
    }
def copy_of(frame):
    return {name: column.copy() for name, column in frame.items()}
def put_out(space, frame):
    for column in frame.values():
        space.evict(column)
def assert_equal(frame, wanted):
    for name, column in wanted.items():
        assert np.array_equal(frame[name], column), name
"""
)


def run(body: str, **environ: str) -> str:
    return Child(None)(PRELUDE + dedent(body), timeout=150, **environ)


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_copies_of_a_table_take_the_space_of_one(faults: str) -> None:
    delivery(faults)
    run(
        f"""
        wanted = columns(1)
        def stored(dedup):
            space = vswap.SwapSpace("256M", faults={faults!r}, devices=[], dedup=dedup)
            with space:
                copies = [copy_of(wanted) for _ in range(4)]
            for copy in copies:
                put_out(space, copy)
            # The first objects of pages that are shared now left holes, for the cleaner to gather.
            soon(lambda: space.stats().pool_bytes < 1.5 * space.stats().stored_bytes)
            stats = space.stats()
            assert space.check() == ()
            for copy in copies:
                assert_equal(copy, wanted)
            assert space.check() == ()
            return stats
        shared, alone = stored("group"), stored("off")
        assert alone.dedup_hits == alone.shared_pages == alone.dedup_saved_bytes == 0
        assert shared.dedup_hits > 9_000, shared.dedup_hits
        assert shared.stored_bytes * 3 < alone.stored_bytes, (shared, alone)
        assert shared.ratio > 3 * alone.ratio
        assert shared.pool_bytes * 2 < alone.pool_bytes
        saved = shared.dedup_saved_bytes
        assert abs(shared.stored_bytes + saved - alone.stored_bytes) < alone.stored_bytes / 50
        """
    )


def test_a_table_of_pandas_shares_with_its_copies_under_pressure() -> None:
    run(
        """
        import pandas as pd
        wanted = pd.DataFrame(columns(2))
        space = vswap.SwapSpace("40M", dedup="space")
        with space:
            copies = [wanted.copy() for _ in range(5)]
        for turn in range(3):
            for copy in copies:
                pd.testing.assert_frame_equal(copy, wanted)
        copies[2].loc[:, "delay"] += 1.0
        for copy in [*copies[:2], *copies[3:]]:
            pd.testing.assert_frame_equal(copy, wanted)
        assert np.array_equal(copies[2]["delay"], wanted["delay"] + 1.0)
        stats = space.stats()
        assert stats.dedup_hits > 10_000, stats.dedup_hits
        assert space.check() == ()
        """
    )


@pytest.mark.parametrize("order", ["first", "last", "middle"])
def test_bytes_stay_while_one_copy_needs_them_whoever_came_first(order: str) -> None:
    run(
        f"""
        wanted = columns(3)
        space = vswap.SwapSpace("256M", devices=[])
        with space:
            copies = [copy_of(wanted) for _ in range(3)]
        for copy in copies:
            put_out(space, copy)
        del copy
        before = space.stats()
        for index in {{"first": [0, 0], "last": [2, 1], "middle": [1, 1]}}[{order!r}]:
            del copies[index]
            gc.collect()
            assert space.check() == ()
        assert_equal(copies[0], wanted)
        put_out(space, copies[0])
        soon(lambda: space.stats().shared_pages <= before.shared_pages / 3 + 64)
        assert space.check() == ()
        copies.clear(), gc.collect()
        soon(lambda: space.stats().shared_pages == 0)
        end = space.stats()
        assert end.shared_objects == end.dedup_saved_bytes == 0, str(end)
        assert space.check() == ()
        """
    )


def test_a_copy_that_changes_leaves_the_others_as_they_were() -> None:
    run(
        """
        wanted = columns(4)
        space = vswap.SwapSpace("256M", devices=[])
        with space:
            copies = [copy_of(wanted) for _ in range(3)]
        for copy in copies:
            put_out(space, copy)
        copies[1]["delay"][::512] += 1.0
        for copy in copies:
            put_out(space, copy)
        assert space.check() == ()
        assert_equal(copies[0], wanted), assert_equal(copies[2], wanted)
        changed = wanted["delay"].copy()
        changed[::512] += 1.0
        assert_equal(copies[1], {**wanted, "delay": changed})
        assert space.check() == ()
        """
    )


def test_without_duplicates_nothing_is_shared_and_all_comes_back() -> None:
    run(
        """
        space = vswap.SwapSpace("256M", devices=[])
        with space:
            arrays = [np.random.default_rng(i).integers(0, 1 << 20, 1 << 19) for i in range(8)]
        for array in arrays:
            space.evict(array)
        stats = space.stats()
        assert stats.stored_pages > 8_000
        assert (stats.dedup_hits, stats.shared_objects) == (0, 0)
        for i, array in enumerate(arrays):
            assert np.array_equal(array, np.random.default_rng(i).integers(0, 1 << 20, 1 << 19))
        assert space.check() == ()
        """
    )


def test_a_forked_child_and_its_parent_share_on_by_themselves() -> None:
    run(
        """
        wanted = columns(5)
        space = vswap.SwapSpace("256M", devices=["auto"])
        with space:
            copies = [copy_of(wanted) for _ in range(3)]
        for copy in copies:
            put_out(space, copy)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                copies[0]["carrier"][:] = 7
                del copies[2]
                gc.collect()
                assert_equal(copies[1], wanted)
                assert (copies[0]["carrier"] == 7).all()
                put_out(space, copies[1])
                assert_equal(copies[1], wanted)
                assert space.check() == ()
                status = 0
            finally:
                os._exit(status)
        for copy in copies:
            assert_equal(copy, wanted)
        assert os.waitpid(child, 0)[1] == 0
        put_out(space, copies[0])
        assert_equal(copies[0], wanted)
        assert space.check() == ()
        """
    )


def test_vswap_run_tells_its_scope_and_off_shares_nothing() -> None:
    program = dedent(
        """
        import vswap, numpy as np
        space = vswap.current()
        a = [np.random.default_rng(1).integers(0, 1000, 1 << 20) for _ in range(12)]
        for x in a:
            assert np.array_equal(x, a[0])
        print(space.stats().dedup_hits > 0, space.check())
        """
    )
    for scope, hits in (("space", "True ()"), ("off", "False ()")):
        done = Child(None).cli(
            "run", "--ram", "64M", "--dedup", scope, "--", sys.executable, "-c", program
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == hits, (scope, done.stdout, done.stderr)
