"""What programs do to their own process must not cost them a swapped page.

Each C program under programs/ does one such thing and verifies its memory; it also passes plainly,
which is how the test itself is tested (`test_the_program_itself_is_right`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.capability import delivery
from support.compile import PROGRAMS as PROGRAMS_AT
from support.program import Finished, Managed, run
from support.sizes import MIB, allowed_bytes, full_sizes, sized

if TYPE_CHECKING:
    from support.compile import Compiler

RAM_MIB = 48
MANAGED = {"VSWAP_TEST_MANAGED": "1"}
CHURN_SECONDS = sized("3", "30")

PROGRAMS = [
    ("closes_descriptors", "libc"),
    ("closes_descriptors", "raw"),
    ("closes_descriptors", "closefrom"),
    ("closes_descriptors", "loop"),
    ("own_handlers",),
    ("stacks",),
    ("spawns_children",),
    ("fork_pages", sized("2", "20")),
    ("huge_pages",),
    ("partial_ranges",),
    ("thread_churn", CHURN_SECONDS),
    ("first_fault_malloc",),
    ("random_operations", sized("4", "30"), "7"),
    ("random_operations", sized("2", "30"), "4"),
]


def managed(faults: str, swap: str = "auto", ram_mib: int = RAM_MIB) -> Managed:
    delivery(faults)
    # Signal mode leaves mappings that look like an interpreter's heap alone unless asked.
    return Managed(ram_mib, swap=swap, faults=faults, options=("--min-alloc", "64K"))


def named(program: tuple[str, ...]) -> str:
    if program[0] == "random_operations":
        return f"{program[0]}-{program[2]}"
    return "-".join(program[:2]) if program[0] == "closes_descriptors" else program[0]


def go(
    compiled: Compiler,
    program: tuple[str, ...],
    how: Managed | None,
    cwd: Path,
    timeout: float = 120,
) -> Finished:
    """Run it; under vswap it must find an engine, or the test would test nothing."""
    env = MANAGED if how else {}
    return run([compiled(program[0]), *program[1:]], how, timeout=timeout, env=env, cwd=cwd)


@pytest.mark.parametrize("program", [*PROGRAMS, ("direct_io", "thread")], ids=named)
def test_the_program_itself_is_right(
    compiled: Compiler, tmp_path: Path, program: tuple[str, ...]
) -> None:
    go(compiled, program, None, tmp_path).succeeded()


@pytest.mark.parametrize("faults", ["thread", "signal"])
@pytest.mark.parametrize("program", PROGRAMS, ids=named)
def test_a_program_keeps_its_memory_whatever_it_does_to_its_process(
    compiled: Compiler, tmp_path: Path, program: tuple[str, ...], faults: str
) -> None:
    how = managed(faults)
    go(compiled, program, how, tmp_path).succeeded().within(RAM_MIB)


@pytest.mark.parametrize("program", [("fork_pages", "2"), ("spawns_children",)], ids=named)
def test_a_program_that_forks_keeps_its_memory_without_a_swap_file(
    compiled: Compiler, tmp_path: Path, program: tuple[str, ...]
) -> None:
    go(compiled, program, managed("thread", swap="none"), tmp_path).succeeded().within(RAM_MIB)


@pytest.mark.parametrize("faults", ["thread", "signal"])
@pytest.mark.parametrize(("how", "processes"), [("main", 1), ("fork", 2)])
def test_a_process_ends_with_the_last_of_its_own_threads(
    compiled: Compiler, tmp_path: Path, how: str, processes: int, faults: str
) -> None:
    program = [compiled("last_thread"), how]
    wanted = b"memory is whole\nand exit was called\n" * processes
    assert run(program, cwd=tmp_path).succeeded().out == wanted
    env = {**MANAGED, "VSWAP_TEST_MOST_MIB": str(allowed_bytes(RAM_MIB) // MIB)}
    done = run(program, managed(faults), timeout=120, env=env, cwd=tmp_path).succeeded()
    assert done.out == wanted, done.describe()
    done.within(RAM_MIB)


def test_a_child_comes_up_and_has_its_environment_although_both_needed_what_was_swapped_out(
    compiled: Compiler, tmp_path: Path
) -> None:
    delivery("thread")
    library = compiled("thread_local", "-shared", "-fPIC")
    program = [sys.executable, str(PROGRAMS_AT / "forks_with_its_loader_out.py"), str(library)]
    done = run(program, Managed(RAM_MIB, faults="thread"), timeout=60, cwd=tmp_path).succeeded()
    assert done.out == b"both have everything\n", done.describe()


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_buffers_of_direct_io_and_io_uring_receive_what_was_read(
    compiled: Compiler, tmp_path: Path, faults: str
) -> None:
    done = go(compiled, ("direct_io", faults), managed(faults), tmp_path).succeeded()
    assert done.out == b"direct 1 io_uring 1\n", done.describe()


@pytest.mark.parametrize("faults", ["thread", "signal"])
@pytest.mark.parametrize("swap", ["none", "auto"])
def test_eight_threads_write_at_random_while_reclaim_runs(
    compiled: Compiler, tmp_path: Path, faults: str, swap: str
) -> None:
    seconds = sized("5", "60")
    program = ("random_writers", seconds, "160")
    how = managed(faults, swap=swap)
    done = go(compiled, program, how, tmp_path, timeout=30 + 4 * float(seconds))
    done.succeeded().within(RAM_MIB)


if full_sizes():

    @pytest.mark.parametrize("codec", ["zstd:1", "lz4"])
    def test_eight_threads_write_at_random_with_each_codec(
        compiled: Compiler, tmp_path: Path, codec: str
    ) -> None:
        delivery("thread")
        how = Managed(RAM_MIB, codec=codec)
        program = ("random_writers", "20", "160")
        go(compiled, program, how, tmp_path, timeout=120).succeeded().within(RAM_MIB)
