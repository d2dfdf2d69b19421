"""Process memory on plain slots, without the virtual layer. The arrays' tests are in test_space_arrays.py."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from support.capability import delivery
from support.child import Child
from support.compile import Compiler
from support.program import Managed, run

RAM_MIB = 64


@pytest.mark.parametrize("faults", ["thread", "signal"])
@pytest.mark.parametrize("program", [("fork_pages", "1"), ("random_writers", "3", "160")])
def test_a_program_runs_without_the_virtual_layer(
    compiled: Compiler, tmp_path: Path, program: tuple[str, ...], faults: str
) -> None:
    delivery(faults)
    how = Managed(
        RAM_MIB,
        swap=f"slots:{tmp_path}/slots:1G",
        faults=faults,
        options=("--direct", "--min-alloc", "64K"),
    )
    done = run(
        [compiled(program[0]), *program[1:]],
        how,
        timeout=300,
        env={"VSWAP_TEST_MANAGED": "1"},
        cwd=tmp_path,
    )
    done.succeeded().within(RAM_MIB)


def test_every_page_but_those_of_zeros_takes_a_slot_and_gives_it_back_and_none_is_read_twice() -> (
    None
):
    Child(None)(
        dedent(
            """
            import gc
            import numpy as np
            import vswap
            space = vswap.SwapSpace("64M", virtual=False)
            a = space.zeros((32, 1 << 20), "u1")
            a[:] = np.arange(32, dtype="u1")[:, None]
            out = space.evict(a)
            stats = space.stats()
            zeros = 256  # the first MiB
            assert stats.swap_out_pages == out == 8192, str(stats)
            assert stats.slot_pages == out - zeros, str(stats)
            assert stats.same_filled_pages == zeros, str(stats)
            assert stats.stored_pages == stats.pool_bytes == 0
            assert space.check() == ()
            assert (a == np.arange(32, dtype="u1")[:, None]).all()
            assert space.check() == ()  # waits until the last fault's books are done
            stats = space.stats()
            assert stats.slot_pages == stats.same_filled_pages == 0, str(stats)
            assert stats.swap_in_pages == 8192, str(stats)
            a[5] = 0
            a[5, ::8192] = 9  # every second page
            space.evict(a)
            assert space.stats().same_filled_pages == zeros + 128, str(space.stats())
            assert space.check() == ()
            assert (a[5, ::8192] == 9).all() and np.count_nonzero(a[5]) == 128
            space.evict(a)
            del a
            gc.collect()
            assert space.stats().slot_pages == space.stats().same_filled_pages == 0
            assert space.check() == ()
            space.close()
            """
        ),
        timeout=120,
    )


def test_a_space_whose_slots_are_full_raises_memory_error_and_keeps_what_it_has(
    tmp_path: Path,
) -> None:
    Child(None)(
        dedent(
            f"""
            import numpy as np
            import vswap
            space = vswap.SwapSpace("32M", virtual=False, devices=["slots:{tmp_path}/s:16M"])
            kept = []
            try:
                for i in range(64):
                    kept.append(space.full(1 << 17, i))
            except MemoryError:
                pass
            assert 32 <= len(kept) < 56, len(kept)
            assert all((a == i).all() for i, a in enumerate(kept))
            assert space.check() == ()
            """
        ),
        timeout=120,
    )


def test_devices_that_need_the_layer_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    Child(None)(
        dedent(
            f"""
            import vswap
            for devices in ([], ["auto"], ["slots:auto", "{tmp_path}/file"]):
                try:
                    vswap.SwapSpace("32M", virtual=False, devices=devices)
                except ValueError as error:
                    assert "slots:auto" in str(error), error
                else:
                    raise AssertionError(devices)
            space = vswap.SwapSpace("32M", virtual=False)
            try:
                space.swapon("{tmp_path}/file")
            except vswap.VswapError as error:
                assert "no virtual layer" in str(error), error
            else:
                raise AssertionError("not refused")
            try:
                space.group("web")
            except ValueError as error:
                assert "no virtual layer" in str(error), error
            else:
                raise AssertionError("not refused")
            assert space.check() == ()
            """
        ),
        timeout=60,
    )
