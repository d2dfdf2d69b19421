"""C programs of the tests, compiled when first asked for."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from support.capability import tool

PROGRAMS = Path(__file__).parent.parent / "functional" / "programs"
FLAGS = ("-O1", "-g", "-Wall", "-Wextra", "-Werror", "-std=gnu11")


class Compiler:
    """Keeps what it has built in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, name: str, *extra: str) -> Path:
        """The executable made from programs/NAME.c."""
        key = hashlib.sha256(" ".join((name, *extra)).encode()).hexdigest()[:8]
        binary = self._folder / f"{name}-{key}"
        if not binary.exists():
            source = PROGRAMS / f"{name}.c"
            command = [tool("cc", "gcc"), *FLAGS, str(source), "-o", str(binary)]
            command += ["-I", str(PROGRAMS), "-pthread", "-ldl", *extra]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        return binary
