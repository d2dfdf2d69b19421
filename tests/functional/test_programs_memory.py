"""Memory testers under a quarter of what they touch."""

from __future__ import annotations

import pytest

from support.capability import delivery, tool
from support.program import Finished, Managed, run
from support.sizes import MIB, quarter_of, sized

STRESS_MIB = sized(192, 512)
STRESS_WORKERS = 2
STRESS_SECONDS = sized(8, 20)
MEMTESTER_MIB = sized(160, 512)
MEMTESTER_ENV: dict[str, str] = sized({"MEMTESTER_TEST_MASK": "0x23"}, {})
"""A few of its tests, or all."""
RANDOM_METHODS = frozenset({"rand-set", "lfsr32", "rowhammer"})
"""Methods whose bytes do not compress: without a swap file no budget can hold them."""
COMPRESSIBLE_METHODS = sized(
    ("incdec", "zero-one"), ("write64", "zero-one", "gray", "incdec", "walk-0d", "galpat-0")
)


def stress_budget() -> int:
    """stress-ng divides --vm-bytes among its workers; each of them is a process with a budget."""
    return quarter_of(STRESS_MIB * MIB // STRESS_WORKERS)


def stress(method: str, seconds: int, how: Managed) -> Finished:
    command = [tool("stress-ng"), "--vm", str(STRESS_WORKERS), "--vm-bytes", f"{STRESS_MIB}M"]
    command += ["--vm-keep", "--verify", "--vm-method", method, "-t", f"{seconds}s", "--oomable"]
    done = run(command, how, timeout=seconds * 5 + 60).succeeded()
    assert "vm: " not in done.err or "detected" not in done.err, done.describe()
    assert "successful run completed" in done.err + done.out.decode(), done.describe()
    return done


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_stress_ng_verifies_every_method_with_a_swap_file(faults: str) -> None:
    delivery(faults)
    ram = stress_budget()
    stress("all", STRESS_SECONDS, Managed(ram, faults=faults)).within(ram)


@pytest.mark.parametrize("method", COMPRESSIBLE_METHODS)
def test_stress_ng_verifies_methods_that_compress_without_a_swap_file(method: str) -> None:
    delivery("thread")
    ram = stress_budget()
    stress(method, max(2, STRESS_SECONDS // 4), Managed(ram, swap="none")).within(ram)


def test_stress_ng_loses_nothing_when_its_bytes_do_not_compress_and_there_is_no_swap_file() -> None:
    """The budget cannot be kept then; every byte must be, and the report must say it was full."""
    delivery("thread")
    ram = stress_budget()
    done = stress("rand-set", max(2, STRESS_SECONDS // 4), Managed(ram, swap="none"))
    assert done.report, done.describe()


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_memtester_finds_no_wrong_byte(faults: str) -> None:
    delivery(faults)
    ram = quarter_of(MEMTESTER_MIB * MIB)
    command = [tool("memtester"), f"{MEMTESTER_MIB}M", "1"]
    done = run(
        command, Managed(ram, faults=faults), timeout=sized(150, 3000), env=MEMTESTER_ENV
    ).succeeded()
    assert b"FAILURE" not in done.out, done.describe()
    done.within(ram)
