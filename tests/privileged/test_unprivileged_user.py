"""An ordinary user, with no privilege at all: signal mode, the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.capability import root, tool
from support.program import run
from support.sizes import MIB
from vswap._library import packaged_library

if TYPE_CHECKING:
    from support.compile import Compiler

pytestmark = pytest.mark.privileged
NOBODY = 65534
RAM_MIB = 48


@pytest.mark.parametrize("program", [("random_writers", "2", "96"), ("own_handlers",)])
def test_a_program_of_an_ordinary_user_keeps_its_memory(
    compiled: Compiler, program: tuple[str, ...]
) -> None:
    root()
    folder = Path("/var/tmp/vswap-test-nobody")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    try:
        # Python may lie under a private home, so the library is preloaded by hand.
        library = shutil.copy(packaged_library(), folder / "libvswap.so.1")
        binary = shutil.copy(compiled(program[0]), folder / program[0])
        command = [tool("setpriv", "util-linux"), f"--reuid={NOBODY}", f"--regid={NOBODY}"]
        command += ["--clear-groups", "--no-new-privs", "--bounding-set=-all", tool("env")]
        command += [f"LD_PRELOAD={library}", f"VSWAP_RAM={RAM_MIB * MIB}", "VSWAP_SWAP=auto"]
        command += ["VSWAP_FAULTS=auto", "VSWAP_TEST_MANAGED=1", str(binary), *program[1:]]
        run(command, env={"HOME": "/", "TMPDIR": "/var/tmp"}).succeeded().within(RAM_MIB)
    finally:
        shutil.rmtree(folder)
