"""faulthandler in a Python program under vswap: it neither breaks faults nor loses its own job."""

from __future__ import annotations

import sys

import pytest

from support.capability import delivery
from support.compile import PROGRAMS
from support.program import Managed, run

PROGRAM = PROGRAMS / "faulthandler_program.py"
RAM_MIB = 64
SIGSEGV = 11


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_faulthandler_does_not_disturb_swapped_memory(faults: str) -> None:
    delivery(faults)
    done = run([sys.executable, PROGRAM], Managed(RAM_MIB, faults=faults)).succeeded()
    assert done.out == b"verified\n", done.describe()
    done.within(RAM_MIB)


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_a_real_fault_still_reaches_faulthandler(faults: str) -> None:
    delivery(faults)
    done = run([sys.executable, PROGRAM, "crash"], Managed(RAM_MIB, faults=faults))
    assert done.out == b"verified\n", done.describe()
    assert "Fatal Python error: Segmentation fault" in done.err, done.describe()
    assert "in main" in done.err, done.describe()
    assert done.status in (-SIGSEGV, 128 + SIGSEGV), done.describe()
