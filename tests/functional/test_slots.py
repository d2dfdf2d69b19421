"""Plain slots beside the log, on live programs and arrays."""

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
@pytest.mark.parametrize("codec", ["lz4", "raw"])
def test_pages_that_do_not_compress_go_to_slots_and_the_rest_to_the_log(
    faults: str, codec: str
) -> None:
    delivery(faults)
    Child(None)(
        dedent(
            f"""
            import numpy as np
            import vswap
            space = vswap.SwapSpace(
                "48M", faults={faults!r}, devices=["slots:auto", "auto"], codec={codec!r}
            )
            def noise(row):
                return np.random.default_rng(row).integers(0, 1 << 63, 1 << 17)
            def text(row):
                return np.arange(1 << 17) % (row + 3)
            a = space.empty((64, 1 << 17), "i8")
            for row in range(64):
                a[row] = noise(row) if row % 2 else text(row)
            for row in np.random.default_rng(1).permutation(64):
                assert np.array_equal(a[row], noise(row) if row % 2 else text(row)), row
            stats = space.stats()
            assert stats.slot_pages > 1000 and stats.swap_out_slot_pages >= stats.slot_pages
            assert stats.swap_out_raw_pages == 0, str(stats)
            assert (stats.stored_pages == 0) == ({codec!r} == "raw"), str(stats)
            assert space.check() == ()
            del a
            space.close()
            """
        ),
        timeout=150,
    )


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_pages_that_compress_go_to_slots_too_when_the_log_has_its_share(
    disk: Path, faults: str
) -> None:
    delivery(faults)
    Child(None)(
        dedent(
            f"""
            import numpy as np
            import vswap
            space = vswap.SwapSpace("32M", faults={faults!r}, devices=["slots:{disk}/slots:400M"])
            def text(row):
                return np.random.default_rng(row).integers(0, 4000, 1 << 17)
            a = space.empty((160, 1 << 17), "i8")
            for row in range(160):
                a[row] = text(row)
            space.evict(a)
            stats = space.stats()
            assert stats.stored_pages > 1000 and stats.slot_pages > 1000, str(stats)
            assert stats.held_bytes <= stats.ram_budget_bytes, str(stats)
            more = space.ones(1 << 20, "i8")
            for row in np.random.default_rng(1).permutation(160):
                assert np.array_equal(a[row], text(row)), row
            assert (more == 1).all() and space.check() == ()
            del a, more
            space.close()
            """
        ),
        timeout=150,
    )


@pytest.mark.parametrize("faults", ["thread", "signal"])
@pytest.mark.parametrize("program", [("fork_pages", "1"), ("random_writers", "3", "160")])
def test_a_program_keeps_its_memory_in_slots(
    compiled: Compiler, tmp_path: Path, program: tuple[str, ...], faults: str
) -> None:
    delivery(faults)
    how = Managed(
        RAM_MIB, swap="slots:auto", codec="raw", faults=faults, options=("--min-alloc", "64K")
    )
    done = run(
        [compiled(program[0]), *program[1:]],
        how,
        timeout=300,
        env={"VSWAP_TEST_MANAGED": "1"},
        cwd=tmp_path,
    )
    done.succeeded().within(RAM_MIB)
