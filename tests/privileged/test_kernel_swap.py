"""Pages that the kernel's own swap has taken are swapped out like others, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.capability import root, tool
from support.program import Managed, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.compile import Compiler

pytestmark = pytest.mark.privileged
BYTES = 64 << 20


@pytest.fixture
def _kernel_swap(disk: Path) -> Iterator[None]:
    """A swap file of the kernel's, for as long as the test lasts."""
    root()
    file = disk / "kernel-swap"
    with file.open("wb") as out:
        os.posix_fallocate(out.fileno(), 0, BYTES)
    file.chmod(0o600)
    subprocess.run([tool("mkswap", "util-linux"), file], check=True, capture_output=True)
    subprocess.run([tool("swapon", "mount"), file], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run([tool("swapoff", "mount"), file], check=True, capture_output=True)
        file.unlink()


@pytest.mark.usefixtures("_kernel_swap")
@pytest.mark.parametrize("faults", ["thread", "signal"])
@pytest.mark.parametrize("move", ["with_move", "without_move"])
def test_what_the_kernels_swap_has_taken_is_swapped_out_and_nothing_is_lost(
    compiled: Compiler, tmp_path: Path, move: str, faults: str
) -> None:
    env = {"VSWAP_TEST_MANAGED": "1", "VSWAP_TEST_NO_MOVE": "01"[move == "without_move"]}
    how = Managed(48, faults=faults, options=("--min-alloc", "64K"))
    run([compiled("kernel_swaps")], how, env=env, cwd=tmp_path).succeeded()
