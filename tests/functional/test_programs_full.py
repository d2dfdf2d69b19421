"""More than there is room for: refused with ENOMEM, nothing lost, and on it goes."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from support.capability import delivery
from support.compile import PROGRAMS
from support.program import Managed, run

if TYPE_CHECKING:
    from pathlib import Path

    from support.compile import Compiler

RAM_MIB = 64
SWAP_MIB = 64
BLOCKS = 80
"""Of 4 MiB: well over budget and swap file together."""


def swap_of(kind: str, folder: Path) -> str:
    return "none" if kind == "none" else f"{folder / 'swap'}:{SWAP_MIB}M"


@pytest.mark.parametrize("faults", ["thread", "signal"])
@pytest.mark.parametrize("kind", ["none", "file"])
def test_allocations_fail_with_enomem_and_nothing_is_lost(
    compiled: Compiler, tmp_path: Path, kind: str, faults: str
) -> None:
    delivery(faults)
    how = Managed(RAM_MIB, swap=swap_of(kind, tmp_path), faults=faults)
    env = {"VSWAP_TEST_MANAGED": "1"}
    done = run([compiled("fills_up"), str(BLOCKS)], how, env=env).succeeded().within(RAM_MIB)
    assert "alloc_failures" in json.dumps(done.report), done.describe()


@pytest.mark.parametrize("kind", ["none", "file"])
def test_python_gets_a_memory_error_and_goes_on(tmp_path: Path, kind: str) -> None:
    delivery("thread")
    how = Managed(RAM_MIB, swap=swap_of(kind, tmp_path))
    done = run([sys.executable, PROGRAMS / "memory_error.py", str(BLOCKS)], how).succeeded()
    assert done.out == b"survived\n", done.describe()
    done.within(RAM_MIB)
