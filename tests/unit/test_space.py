"""SwapSpace over a stand-in engine: lifetimes, contexts, errors."""

from __future__ import annotations

from textwrap import dedent

import pytest

from support.child import Child

PRELUDE = """
import gc, threading
import numpy as np
import vswap
def name(a):
    core = np.core if np.__version__ < "2" else np._core
    return core.multiarray.get_handler_name(a)
def refused(kind, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as error:
        return str(error)
    raise AssertionError("not refused")
space = vswap.SwapSpace(ram="64M")
"""


def run(child: Child, body: str, **environ: str) -> None:
    child(PRELUDE + dedent(body), **environ)


def test_the_places_in_numpys_table_are_those_of_the_handler(child: Child) -> None:
    run(
        child,
        """
        from vswap import _numpy_handler as h
        assert h.handler_name(h.get_handler()) == "default_allocator"
        before = h.get_handler()
        capsule = h.new_handler(h.HandlerFunctions(1, 2, 3, 4, 5), "mine")
        assert h.handler_name(capsule) == "mine"
        assert h.set_handler(capsule) is before
        assert h.get_handler() is capsule
        assert h.set_handler(before) is capsule
        assert name(np.zeros(3)) == "default_allocator"
        """,
    )


def test_arrays_made_inside_by_anyone_are_in_the_space(child: Child) -> None:
    run(
        child,
        """
        with space:
            a = np.zeros(100_000)
            b = a + 1
            small = np.ones(10)
        after = np.zeros(100_000)
        assert (name(a), name(b), name(after)) == ("vswap", "vswap", "default_allocator")
        assert type(a) is np.ndarray
        assert space.live() == (2, 1_600_000)
        """,
    )


def test_numpy_false_leaves_numpy_alone_and_does_not_import_it(child: Child) -> None:
    program = """
import sys, vswap
space = vswap.SwapSpace(ram="64M", numpy=False)
with space:
    assert "numpy" not in sys.modules
import numpy as np
assert space.retired
"""
    child(program)


def test_the_functions_work_outside_of_with_and_go_through_the_handler(child: Child) -> None:
    run(
        child,
        """
        n = 100_000
        made = [space.empty(n), space.zeros((n, 2), "i2", order="F"), space.ones(n, "f4"),
                space.full(n, 7, "u1"), space.array(range(n)), space.zeros(n, object)]
        assert {name(a) for a in made} == {"vswap"}
        assert made[1].flags.f_contiguous and made[3][5] == 7 and made[4][-1] == n - 1
        assert name(np.zeros(n)) == "default_allocator"
        grown = space.zeros(n)
        grown.resize(2 * n, refcheck=False)
        assert name(grown) == "vswap" and grown.nbytes == 16 * n
        """,
    )


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_is_loaded_into_the_space(child: Child, order: str) -> None:
    run(
        child,
        f"""
        import tempfile, os
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.npy")
            x = np.asarray(np.arange(600_000.).reshape(3, 1000, 200), order="{order}")
            np.save(path, x)
            y = space.load(path)
            assert name(y) == "vswap" and np.array_equal(x, y)
            assert y.flags.f_contiguous == x.flags.f_contiguous
            for shape in ((), (0,), (3, 0)):
                np.save(path, np.ones(shape))
                assert space.load(path).shape == shape
            np.savez(os.path.join(folder, "z.npz"), x=x)
            assert "npz" in refused(vswap.ConfigError, space.load, os.path.join(folder, "z.npz"))
        """,
    )


def test_leaving_never_raises_and_the_space_takes_nothing_new(child: Child) -> None:
    run(
        child,
        """
        with space:
            a = np.zeros(100_000)
        assert space.retired and space.live()[0] == 1
        assert "takes nothing new" in refused(vswap.VswapError, space.zeros, 10)
        assert "takes nothing new" in refused(vswap.VswapError, space.__enter__)
        view = memoryview(a)[10:20]
        del a
        assert space.live()[0] == 1
        del view
        assert space.live()[0] == 0
        space.close()
        space.close()
        assert "closed" in refused(vswap.VswapError, space.stats)
        """,
    )


def test_closing_a_space_in_use_names_count_and_bytes(child: Child) -> None:
    run(
        child,
        """
        a = space.zeros(100_000)
        try:
            space.close()
        except vswap.SpaceInUseError as error:
            assert (error.blocks, error.bytes) == (1, 800_000) and "781.2 KiB" in str(error)
        else:
            raise AssertionError
        del a
        with space:
            assert "open" in refused(vswap.SpaceInUseError, space.close)
        """,
    )


def test_spaces_nest_and_may_be_left_in_another_order(child: Child) -> None:
    run(
        child,
        """
        other = vswap.SwapSpace(ram="32M")
        space.__enter__()
        other.__enter__()
        a = np.zeros(100_000)
        space.__exit__(None, None, None)
        b = np.zeros(100_000)
        other.__exit__(None, None, None)
        c = np.zeros(100_000)
        assert other.live()[0] == 2 and space.live()[0] == 0
        assert name(c) == "default_allocator"
        """,
    )


def test_the_same_space_may_be_entered_twice_and_retires_at_the_last_leave(child: Child) -> None:
    run(
        child,
        """
        with space:
            with space:
                pass
            assert not space.retired
            a = np.zeros(100_000)
        assert space.retired and name(a) == "vswap"
        """,
    )


def test_threads_started_inside_are_covered_and_others_are_not(child: Child) -> None:
    run(
        child,
        """
        from concurrent.futures import ThreadPoolExecutor
        go, made = threading.Event(), []
        def outside():
            go.wait(); made.append(np.zeros(100_000))
        early = threading.Thread(target=outside)
        early.start()
        with space, ThreadPoolExecutor(2) as pool:
            inside = list(pool.map(lambda _: name(np.zeros(100_000)), range(4)))
            go.set(); early.join()
        assert set(inside) == {"vswap"} and name(made[0]) == "default_allocator"
        """,
    )


def test_threads_false_leaves_threads_alone(child: Child) -> None:
    run(
        child,
        """
        plain, made = vswap.SwapSpace(ram="64M", threads=False), []
        with space: pass
        with plain:
            thread = threading.Thread(target=lambda: made.append(np.zeros(100_000)))
            thread.start(); thread.join()
        assert name(made[0]) == "default_allocator"
        """,
    )


def test_tasks_of_one_thread_have_their_own_space(child: Child) -> None:
    run(
        child,
        """
        import asyncio
        async def inside():
            with space:
                await asyncio.sleep(0.01)
                return np.zeros(100_000)
        async def outside():
            await asyncio.sleep(0.005)
            return np.zeros(100_000)
        async def main():
            return await asyncio.gather(inside(), outside())
        a, b = asyncio.run(main())
        assert (name(a), name(b)) == ("vswap", "default_allocator")
        """,
    )


def test_pages_are_moved_by_the_span_of_an_array(child: Child) -> None:
    run(
        child,
        """
        from vswap._arrays import memory_span
        a = space.zeros((100, 1024))
        at = a.__array_interface__["data"][0]
        ffi = space._engine.ffi
        assert memory_span(a, ffi) == (at, 819200)
        assert memory_span(a[::-1], ffi) == (at, 819200)
        assert memory_span(a[10:20], ffi) == (at + 81920, 81920)
        assert memory_span(a.T[1], ffi) == (at + 8, 99 * 8192 + 8)
        assert memory_span(memoryview(a)[:1], ffi) == (at, 8192)
        assert space.evict(a) == 200 and space.prefetch(a[:10]) == 20
        assert space.evict(a[:0]) == 0
        with space.pin(a):
            assert space.stats().pinned_pages == 200
        assert space.stats().pinned_pages == 0
        assert "no memory to name" in refused(vswap.ConfigError, space.evict, 3)
        """,
    )


def test_the_budget_may_be_set_at_any_time(child: Child) -> None:
    run(
        child,
        """
        assert space.ram == 64 << 20
        space.ram = "200M"
        assert space.ram == 200 << 20
        space.ram = 32 << 20
        assert space.ram == 32 << 20
        assert "floor" in refused(vswap.ConfigError, setattr, space, "ram", "1M")
        assert "not a size" in refused(vswap.ConfigError, setattr, space, "ram", "lots")
        """,
    )


def test_broken_laws_are_told_by_check(child: Child) -> None:
    run(
        child,
        """
        assert space.check() == ()
        with space: pass
        assert space.check() == ("one law", "another law")
        """,
        FAKE_ENGINE_BROKEN="1",
    )


def test_wrong_arguments_are_named(child: Child) -> None:
    run(
        child,
        """
        make = vswap.SwapSpace
        assert "either" in refused(vswap.ConfigError, make)
        assert "either" in refused(vswap.ConfigError, make, "64M", process_ram="1G")
        assert "floor" in refused(vswap.ConfigError, make, ram="1M")
        assert "lzo" in refused(ValueError, make, "64M", codec="lzo")
        assert "level" in refused(ValueError, make, "64M", codec="zstd:77")
        assert "off, group" in refused(ValueError, make, "64M", dedup="never")
        assert "fast" in refused(ValueError, make, "64M", faults="fast")
        assert "list" in refused(ValueError, make, "64M", devices="/var/tmp/x")
        assert "directory" in refused(ValueError, make, "64M", devices=["/var/tmp"])
        assert make("50%").ram > 16 << 20
        assert make(process_ram="64M", devices=[]).ram == 64 << 20
        """,
    )


@pytest.mark.parametrize(
    ("number", "kind"),
    [(12, "CapacityError"), (22, "ConfigError"), (1, "UnsupportedKernelError"), (5, "VswapError")],
)
def test_each_failure_of_the_engine_is_its_own_exception(
    child: Child, number: int, kind: str
) -> None:
    program = f"""
import vswap
try:
    vswap.SwapSpace(ram="64M")
except vswap.VswapError as error:
    assert type(error) is vswap.{kind}, repr(error)
    assert "told to fail" in str(error)
"""
    child(program, FAKE_ENGINE_FAIL=str(number))


def test_arrays_may_be_read_until_the_interpreter_is_gone(child: Child) -> None:
    program = PRELUDE + dedent(
        """
        import atexit, os, sys
        with space:
            kept = np.arange(100_000)
        class Last:
            def __del__(self, kept=memoryview(kept), write=os.write):
                write(1, b"%d " % kept[99_999])
        sys.last = Last()
        atexit.register(lambda: os.write(1, b"%d " % kept.sum()))
        """
    )
    assert child(program) == "4999950000 99999 "


def test_a_space_that_is_dropped_retires_without_its_arrays(child: Child) -> None:
    run(
        child,
        """
        a = space.zeros(100_000)
        ffi, lib, handle = space._engine.ffi, space._engine.lib, space._handle
        del space
        gc.collect()
        n = ffi.new("uint64_t[2]")
        lib.vswap_live(handle, n, n + 1)
        assert n[0] == 1 and a.sum() == 0
        """,
    )
