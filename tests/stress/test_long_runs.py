"""Minutes of the same: not part of `make test`, run with `pytest tests/stress`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.capability import delivery
from support.program import Managed, run

if TYPE_CHECKING:
    from support.compile import Compiler

MANAGED = {"VSWAP_TEST_MANAGED": "1"}
SECONDS = "60"
RAM_MIB = 48
RAM_FOR_NOISE_MIB = 96
"""For the random operations without a swap file: a fifth of their pages does not compress, and of up to 130 MiB that they
ask for, 48 MiB would refuse some."""

LONG = [
    ("random_writers", SECONDS, "192"),
    ("thread_churn", SECONDS),
    ("fork_pages", "40"),
    ("random_operations", SECONDS, "1"),
    ("random_operations", SECONDS, "2"),
]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("codec", ["lz4", "zstd:3"])
@pytest.mark.parametrize("swap", ["auto", "none"])
@pytest.mark.parametrize("faults", ["thread", "signal"])
@pytest.mark.parametrize("program", LONG, ids=lambda program: "-".join(program))
def test_nothing_is_lost_in_a_long_run(
    compiled: Compiler,
    tmp_path: Path,
    program: tuple[str, ...],
    faults: str,
    swap: str,
    codec: str,
) -> None:
    delivery(faults)
    is_random = program[0] == "random_operations"
    ram = RAM_FOR_NOISE_MIB if is_random and swap == "none" else RAM_MIB
    # As in test_programs_hygiene: signal mode leaves their small mappings alone unless asked.
    options = ("--min-alloc", "64K") if is_random else ()
    how = Managed(ram, swap=swap, faults=faults, codec=codec, options=options)
    done = run([compiled(program[0]), *program[1:]], how, env=MANAGED, timeout=1000, cwd=tmp_path)
    done.succeeded().within(ram)
