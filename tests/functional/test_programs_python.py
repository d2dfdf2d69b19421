"""CPython's own tests, and Python's input and output, with the result they have without vswap."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest

from support.capability import delivery
from support.compile import PROGRAMS
from support.junit import outcomes
from support.program import Managed, run
from support.sizes import MIB, budget_for, sized

RAM_MIB = 32
UNMANAGED_MIB = {("signal", "pickle"): 48}
"""By signal Python's small objects are out of the budget's reach: 41 MiB at most while pickle is tested."""
QUICK: dict[str, list[str]] = {
    "thread": ["array", "memoryview", "mmap", "json", "pickle"],
    "signal": ["array", "struct", "faulthandler"],
}
FULL: dict[str, list[str]] = {
    "thread": [
        *["array", "bytes", "memoryview", "buffer", "mmap", "pickle", "struct", "re", "json"],
        *["threading", "subprocess", "socket", "faulthandler"],
    ],
    "signal": [
        *["array", "pickle", "json", "re", "struct", "subprocess", "socket", "faulthandler"],
    ],
}
LEFT_OUT = {"socket": ("-i", "*ThreadedVSOCKSocketStreamTest*")}
"""Waits for ever, without vswap too, in a virtual machine that cannot reach itself by vsock (no vsock_loopback)."""
IO_MIB = sized(32, 192)
IO_WITHOUT_SWAP = 0.8


@cache
def without_vswap(module: str, folder: Path) -> dict[str, str]:
    return run_module(module, folder / f"{module}-plain.xml", None)


def run_module(module: str, junit: Path, how: Managed | None) -> dict[str, str]:
    command = [sys.executable, "-m", "test", f"test_{module}", *LEFT_OUT.get(module, ())]
    command += ["--junit-xml", junit]
    done = run(command, how, timeout=sized(120, 900), cwd=junit.parent)
    assert junit.exists(), done.describe()
    if how:
        done.within(how.ram_mib)
    return outcomes(junit)


CASES = [(faults, m) for faults, modules in sized(QUICK, FULL).items() for m in modules]


@pytest.mark.parametrize(("faults", "module"), CASES)
def test_a_module_of_cpython_tests_as_without_vswap(
    session_folder: Path, tmp_path: Path, faults: str, module: str
) -> None:
    delivery(faults)
    wanted = without_vswap(module, session_folder)
    assert wanted, f"test_{module} ran nothing"
    ram = UNMANAGED_MIB.get((faults, module), RAM_MIB)
    found = run_module(module, tmp_path / "managed.xml", Managed(ram, faults=faults))
    different = {k: (wanted.get(k), found.get(k)) for k in wanted.keys() | found.keys()}
    assert {k: v for k, v in different.items() if v[0] != v[1]} == {}


@pytest.mark.parametrize(
    ("faults", "swap"), [("thread", "auto"), ("thread", "none"), ("signal", "auto")]
)
def test_buffers_larger_than_the_budget_come_through_input_and_output(
    faults: str, swap: str
) -> None:
    delivery(faults)
    command = [sys.executable, PROGRAMS / "io_roundtrip.py", str(IO_MIB)]
    plain = run(command, timeout=sized(120, 900)).succeeded()
    # Signal mode leaves the interpreter's own heap, with NumPy some 40 MiB, out of the budget's reach.
    least = 96 if faults == "signal" else 48
    ram = max(least, budget_for(plain.touched, swap, IO_WITHOUT_SWAP))
    done = run(command, Managed(ram, swap=swap, faults=faults), timeout=sized(150, 1800))
    done.succeeded()
    assert done.out == plain.out, done.describe()
    assert plain.touched > 1.2 * ram * MIB, "the test is too small to mean anything"
    done.within(ram)
