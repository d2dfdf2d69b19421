"""SwapSpace over the real engine: right bytes, honest budget, lifetimes."""

from __future__ import annotations

from textwrap import dedent

import pytest

from support.capability import delivery
from support.child import Child
from support.soon import SOON

MODES = ["thread", "signal"]
VIRTUAL = pytest.mark.parametrize("virtual", [True, False], ids=["virtual", "direct"])
"""With the virtual swap layer, and on plain slots without it."""

PRELUDE = (
    SOON
    + """
import gc, os, threading
import numpy as np
import vswap
MIB = 1 << 20
def refused(kind, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError("not refused")
def is_engine(task):
    try:
        return open(f"/proc/self/task/{task}/comm").read().startswith("vswap-")
    except FileNotFoundError:  # it has ended since it was listed
        return False
def engine_threads():
    return sum(is_engine(task) for task in os.listdir("/proc/self/task"))
def held_in_budget(space):
    return space.stats().held_peak_bytes <= max(space.ram * 1.05, space.ram + 24 * MIB)
"""
)


def run(body: str, **environ: str) -> str:
    return Child(None)(PRELUDE + dedent(body), timeout=150, **environ)


WAYS = {
    "ram": {"devices": []},
    "file": {"devices": ["auto"]},
    "ram-zstd": {"devices": [], "codec": "zstd:3"},
    "file-zstd": {"devices": ["auto"], "codec": "zstd:3"},
    "direct": {"virtual": False},
}


@pytest.mark.parametrize("faults", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_arrays_of_four_times_the_budget_keep_their_bytes(faults: str, way: str) -> None:
    delivery(faults)
    run(
        f"""
        space = vswap.SwapSpace("48M", faults={faults!r}, **{WAYS[way]!r})
        def content(row):
            return np.random.default_rng(row).integers(0, 50, 1 << 16).repeat(8) + row
        with space:
            a = np.zeros((48, 1 << 19))
            for row in range(48):
                a[row] = content(row)
            order = np.random.default_rng(99).permutation(48)
            for row in order:
                assert np.array_equal(a[row], content(row)), row
            a[::2] *= 3
        for row in order:
            assert np.array_equal(a[row], content(row) * (1 if row % 2 else 3)), row
        stats = space.stats()
        assert stats.swap_out_pages > 10_000 and stats.swap_in_pages > 10_000, str(stats)
        assert held_in_budget(space), str(stats)
        assert space.check() == ()
        """
    )


def test_what_the_space_holds_agrees_with_the_page_map() -> None:
    run(
        """
        space = vswap.SwapSpace("64M")
        a = space.zeros(32 << 20, "u1")
        b = space.zeros((192, MIB), "u1")
        a[:] = 1
        for row in range(192):
            b[row] = np.frombuffer(os.urandom(4096), "u1").repeat(256)
        def present(array):
            start = array.__array_interface__["data"][0] // 4096
            with open("/proc/self/pagemap", "rb", buffering=0) as file:
                words = np.frombuffer(os.pread(file.fileno(), array.nbytes // 512, start * 8), "u8")
            return int((words >> 63).sum())
        soon(lambda: abs(present(a) + present(b) - space.stats().resident_pages) < 600)
        assert held_in_budget(space), str(space.stats())
        """
    )


def test_the_last_holder_gives_the_space_back_whoever_it_is() -> None:
    run(
        """
        import pandas as pd
        holders = []
        for hold in (lambda a: a[5:9], memoryview, lambda a: pd.DataFrame(a, copy=False)):
            before = engine_threads()
            space = vswap.SwapSpace("32M", devices=[])
            with space:
                a = np.arange(4 * MIB).reshape(2048, 2048)
            held = hold(a)
            del a
            gc.collect()
            assert space.live()[0] == 1
            value = held.iloc[3, 4] if hasattr(held, "iloc") else held[3, 4]
            assert value in (3 * 2048 + 4, 8 * 2048 + 4)
            del held
            gc.collect()
            assert space.live() == (0, 0)
            soon(lambda: engine_threads() == before)
            space.close()
            del space
        """
    )


def test_arrays_outlive_their_space_object() -> None:
    run(
        """
        a = vswap.SwapSpace("32M", devices=[]).zeros((64, MIB), "u1")
        gc.collect()
        for row in range(64):
            a[row] = row
        assert [int(a[row].max()) for row in range(64)] == list(range(64))
        del a
        gc.collect()
        soon(lambda: engine_threads() == 0)
        """
    )


def test_closing_names_what_lives_and_works_when_nothing_does() -> None:
    run(
        """
        space = vswap.SwapSpace("32M")
        a = space.zeros(MIB)
        error = refused(vswap.SpaceInUseError, space.close)
        assert (error.blocks, error.bytes) == (1, 8 * MIB), error
        del a
        space.close()
        soon(lambda: engine_threads() == 0)
        """
    )


def test_two_spaces_in_one_process_keep_apart() -> None:
    run(
        """
        one, two = vswap.SwapSpace("32M"), vswap.SwapSpace("48M", codec="zstd")
        a = one.zeros((96, MIB), "u1")
        with two:
            b = np.zeros((96, MIB), "u1")
        for row in range(96):
            a[row], b[row] = row, 200 - row
        assert all((a[row] == row).all() and (b[row] == 200 - row).all() for row in range(96))
        assert one.stats().swapped_pages and two.stats().swapped_pages
        assert held_in_budget(one) and held_in_budget(two)
        del a
        one.close()
        assert all((b[row] == 200 - row).all() for row in range(96))
        """
    )


def test_every_way_to_make_an_array_survives_being_swapped() -> None:
    run(
        """
        import tempfile
        space = vswap.SwapSpace("32M")
        n = 6 * MIB
        f = space.array(np.arange(n).reshape(3, -1), order="F")
        objects = space.full(n // 8, None, object)
        objects[:] = [(i,) for i in range(n // 8)]
        records = space.zeros(n // 16, [("a", "i4"), ("b", "U3")])
        records["a"] = np.arange(n // 16); records["b"] = "xyz"
        grown = space.ones(n // 8)
        grown.resize(n, refcheck=False)
        grown[n // 8:] = 2
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            np.save(f"{folder}/x.npy", f)
            loaded = space.load(f"{folder}/x.npy")
        for array in (f, records, grown, loaded):
            space.evict(array)
        assert f.flags.f_contiguous and loaded.flags.f_contiguous
        assert np.array_equal(loaded, np.arange(n).reshape(3, -1)) and np.array_equal(f, loaded)
        assert objects[12345] == (12345,) and objects[-1] == (n // 8 - 1,)
        assert (records["a"] == np.arange(n // 16)).all() and (records["b"] == "xyz").all()
        assert grown.sum() == n // 8 + 2 * (n - n // 8)
        assert space.check() == ()
        """
    )


@VIRTUAL
@pytest.mark.parametrize("faults", MODES)
def test_pages_move_when_asked_and_pinned_ones_stay(faults: str, virtual: bool) -> None:
    delivery(faults)
    run(
        f"""
        space = vswap.SwapSpace("96M", faults={faults!r}, virtual={virtual})
        a = space.zeros((32, MIB), "u1")
        a[:] = np.arange(32, dtype="u1")[:, None]
        out = space.evict(a)
        assert out > 0.9 * 8192, out
        back = space.prefetch(a[:8])
        assert back > 0.9 * 2048, back
        with space.pin(a[:8]):
            assert space.stats().pinned_pages >= 2048
            space.evict(a)
            before = space.stats().faults
            assert (a[:8] == np.arange(8, dtype="u1")[:, None]).all()
            assert space.stats().faults == before
        assert space.stats().pinned_pages == 0
        assert (a == np.arange(32, dtype="u1")[:, None]).all()
        assert space.check() == ()
        """
    )


@VIRTUAL
def test_the_budget_shrinks_and_grows_while_it_is_used(virtual: bool) -> None:
    run(
        f"""
        space = vswap.SwapSpace("128M", virtual={virtual})
        a = space.zeros((96, MIB), "u1")
        a[:] = np.arange(96, dtype="u1")[:, None]
        space.ram = "32M"
        soon(lambda: space.stats().held_bytes <= 56 * MIB)
        assert (a == np.arange(96, dtype="u1")[:, None]).all()
        assert space.stats().held_bytes <= 56 * MIB
        space.ram = "256M"
        assert (a == np.arange(96, dtype="u1")[:, None]).all()
        assert space.check() == ()
        """
    )


def test_a_budget_lowered_under_what_was_never_swapped_is_kept() -> None:
    run(
        """
        space = vswap.SwapSpace("96M", devices=[])
        a = space.empty(8 * MIB)
        a[:] = np.arange(8 * MIB) // 7
        assert space.stats().armed == 0
        space.ram = "32M"
        soon(lambda: 0 < space.stats().held_bytes <= 33 * MIB)
        assert (a == np.arange(8 * MIB) // 7).all()
        assert not space.check()
        """
    )


def test_a_full_space_raises_memory_error_and_goes_on_when_memory_is_freed() -> None:
    run(
        """
        space = vswap.SwapSpace("32M", devices=[])
        kept = []
        def fill():
            for i in range(64):
                kept.append(space.array(np.frombuffer(os.urandom(MIB), "u1")))
        refused(MemoryError, fill)
        assert len(kept) >= 16
        sums = [int(a.sum()) for a in kept]
        assert space.stats().alloc_failures
        while len(kept) > 4:
            kept.pop()
        time.sleep(0.3)
        again = space.zeros((8, MIB), "u1")
        again[:] = 3
        assert [int(a.sum()) for a in kept] == sums[:4] and (again == 3).all()
        """
    )


def test_threads_that_go_on_after_the_leave_make_ordinary_arrays() -> None:
    run(
        """
        go, made = threading.Event(), []
        space = vswap.SwapSpace("32M")
        def work():
            go.wait()
            made.append(np.zeros(MIB))
        with space:
            thread = threading.Thread(target=work)
            thread.start()
            a = np.ones(100)
        go.set(); thread.join()
        assert len(made) == 1 and space.live() == (0, 0)
        a.resize(MIB, refcheck=False)
        """
    )


@VIRTUAL
def test_a_forked_child_reads_and_writes_its_own_copy(virtual: bool) -> None:
    run(
        f"""
        space = vswap.SwapSpace("32M", virtual={virtual})
        a = space.zeros((64, MIB), "u1")
        a[:] = np.arange(64, dtype="u1")[:, None]
        pid = os.fork()
        a[:, :4096] += 100 if pid == 0 else 50
        extra = 100 if pid == 0 else 50
        good = all((a[r, :4096] == r + extra).all() and (a[r, 4096:] == r).all() for r in range(64))
        if pid == 0:
            os._exit(0 if good else 1)
        assert os.waitpid(pid, 0)[1] == 0 and good
        """
    )


def test_arrays_are_readable_until_the_interpreter_is_gone() -> None:
    out = run(
        """
        import atexit, sys
        space = vswap.SwapSpace("32M")
        with space:
            kept = np.arange(8 * MIB)
        class Last:
            def __del__(self, kept=memoryview(kept), write=os.write):
                write(1, b"%d " % (kept[1] + kept[8 * (1 << 20) - 1]))
        sys.last = Last()
        atexit.register(lambda: os.write(1, b"%d " % kept[::4096].sum()))
        """
    )
    assert out == f"{sum(range(0, 8 << 20, 4096))} {8 << 20} "


def test_a_process_budget_bounds_the_whole_process() -> None:
    run(
        """
        space = vswap.SwapSpace(process_ram="160M")
        a = space.zeros((256, MIB), "u1")
        a[:] = np.arange(256, dtype="u1")[:, None]
        fields = dict(l.split(":", 1) for l in open("/proc/self/status").read().splitlines())
        rss = sum(int(fields[k].split()[0]) << 10 for k in ("RssAnon", "RssShmem"))
        assert rss <= (160 + 24) * MIB, rss >> 20
        assert (a == np.arange(256, dtype="u1")[:, None]).all()
        """
    )


def test_inside_vswap_run_current_is_the_engine_of_the_run() -> None:
    program = PRELUDE + dedent(
        """
        space = vswap.current()
        a = np.zeros((64, MIB), "u1")
        space = space or vswap.current()
        assert space is vswap.current() and space.ram == 96 * MIB
        a[:] = 7
        assert space.evict(a) > 1000 and (a == 7).all()
        space.ram = "80M"
        assert space.ram == 80 * MIB
        assert "ends with the process" in str(refused(vswap.VswapError, space.close))
        with space:
            b = np.zeros((8, MIB), "u1")
        own = vswap.SwapSpace("32M").zeros((64, MIB), "u1")
        own[:] = 9
        assert (own == 9).all() and (a == 7).all() and space.check() == ()
        """
    )
    done = Child(None).cli("run", "--ram", "96M", "--", *_python(), "-c", program)
    assert done.returncode == 0, done.stderr


def _python() -> list[str]:
    import sys

    return [sys.executable]
