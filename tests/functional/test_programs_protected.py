"""Memory that a program wrote and then protected is swapped out like any other.

The program, `protected_pages.c`, also passes plainly, and verifies every byte and every protection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.capability import delivery
from support.program import Finished, Managed, run
from support.sizes import MIB, sized

if TYPE_CHECKING:
    from pathlib import Path

    from support.compile import Compiler

RAM_MIB = 32
READ_ONLY_MIB = 128
SECONDS = sized("3", "60")
MODES = ["every", "fork", "threads", "device"]


def go(compiled: Compiler, mode: str, how: Managed | None, cwd: Path) -> Finished:
    env = {"VSWAP_TEST_MANAGED": "1"} if how else {}
    command = [compiled("protected_pages"), mode, SECONDS]
    return run(command, how, timeout=60 + 4 * float(SECONDS), env=env, cwd=cwd).succeeded()


def managed(faults: str) -> Managed:
    delivery(faults)
    return Managed(RAM_MIB, faults=faults, options=("--min-alloc", "64K"))


@pytest.mark.parametrize("mode", ["budget", *MODES])
def test_the_program_itself_is_right(compiled: Compiler, tmp_path: Path, mode: str) -> None:
    go(compiled, mode, None, tmp_path)


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_a_program_whose_memory_is_mostly_read_only_stays_within_its_budget(
    compiled: Compiler, tmp_path: Path, faults: str
) -> None:
    done = go(compiled, "budget", managed(faults), tmp_path).within(RAM_MIB)
    assert done.report["swapped_peak_bytes"] > (READ_ONLY_MIB - RAM_MIB) * MIB, done.describe()


@pytest.mark.parametrize("faults", ["thread", "signal"])
@pytest.mark.parametrize("mode", MODES)
def test_protected_pages_keep_bytes_and_protection_whatever_happens_meanwhile(
    compiled: Compiler, tmp_path: Path, mode: str, faults: str
) -> None:
    done = go(compiled, mode, managed(faults), tmp_path).within(RAM_MIB)
    if mode == "device":
        assert done.out == b"io_uring 1\n", done.describe()
