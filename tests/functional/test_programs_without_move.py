"""The way out of pages where the kernel has no UFFDIO_MOVE (before 6.8): aside, and copied from there.

Here VSWAP_TEST_NO_MOVE hides it; `make test-old-kernel` runs these and more on a kernel without it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.capability import delivery
from support.program import Finished, Managed, run, vswap_command
from support.sizes import sized
from vswap.doctor.userfaultfd import probe

if TYPE_CHECKING:
    from pathlib import Path

    from support.compile import Compiler

RAM_MIB = 48
WITHOUT_MOVE = {"VSWAP_TEST_NO_MOVE": "1"}
SECONDS = sized("2", "30")


def go(compiled: Compiler, cwd: Path, faults: str, *program: str, swap: str = "auto") -> Finished:
    delivery(faults)
    how = Managed(RAM_MIB, swap=swap, faults=faults, options=("--min-alloc", "64K"))
    env = {"VSWAP_TEST_MANAGED": "1", **WITHOUT_MOVE}
    command = [compiled(program[0]), *program[1:]]
    return run(command, how, timeout=120, env=env, cwd=cwd).succeeded()


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_what_a_device_writes_to_a_page_on_its_way_out_is_not_lost(
    compiled: Compiler, tmp_path: Path, faults: str
) -> None:
    done = go(compiled, tmp_path, faults, "direct_io", faults)
    assert done.out == b"direct 1 io_uring 1\n", done.describe()


@pytest.mark.parametrize(
    "program",
    [
        ("fork_pages", "1"),
        ("partial_ranges",),
        ("protected_pages", "device", SECONDS),
        ("protected_pages", "every", SECONDS),
        ("random_operations", SECONDS, "7"),
    ],
    ids="-".join,
)
@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_a_program_keeps_its_memory_without_move(
    compiled: Compiler, tmp_path: Path, faults: str, program: tuple[str, ...]
) -> None:
    go(compiled, tmp_path, faults, *program).within(RAM_MIB)


@pytest.mark.parametrize(("faults", "swap"), [("thread", "none"), ("signal", "auto")])
def test_eight_threads_write_at_random_without_move(
    compiled: Compiler, tmp_path: Path, faults: str, swap: str
) -> None:
    program = ("random_writers", SECONDS, "160")
    go(compiled, tmp_path, faults, *program, swap=swap).within(RAM_MIB)


def test_where_writes_of_devices_cannot_be_told_vswap_refuses_to_start(compiled: Compiler) -> None:
    delivery("thread")
    line = [str(compiled("forbids_mbind")), *vswap_command(), "run", "--ram", f"{RAM_MIB}M", "--"]
    line += [sys.executable, "-c", "print(bytes(2 << 20)[-1])"]
    has_move = probe().best.has("MOVE") and "VSWAP_TEST_NO_MOVE" not in os.environ
    for environ, status in ((WITHOUT_MOVE, 125), ({}, 0 if has_move else 125)):
        done = subprocess.run(
            line, env={**os.environ, **environ}, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        assert ("no UFFDIO_MOVE" in done.stderr) == (status == 125), done.stderr
