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
"""Without a swap file, where a fifth of all pages does not compress: of what the random operations hold (up to 130 MiB)
much is refused otherwise."""

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
    ram = RAM_FOR_NOISE_MIB if (program[0], swap) == ("random_operations", "none") else RAM_MIB
    # As in test_programs_hygiene: signal mode leaves some mappings alone unless asked.
    how = Managed(ram, swap=swap, faults=faults, codec=codec, options=("--min-alloc", "64K"))
    done = run([compiled(program[0]), *program[1:]], how, env=MANAGED, timeout=1000, cwd=tmp_path)
    done.succeeded().within(ram)
