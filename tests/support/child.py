"""Python in processes of their own, with a stand-in engine: one process has one engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.capability import tool

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "python"
SOURCE = ROOT / "tests" / "unit" / "fake_engine" / "fake_engine.c"


def compile_engine(folder: Path, *defines: str) -> Path:
    """Compile the stand-in with the SONAME of the engine."""
    from vswap.counters import NAMES

    names = "".join(f'"{name}",\n' for name in NAMES)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "names.inc").write_text(names)
    library = folder / "libvswap.so.1"
    command = [tool("cc", "gcc"), "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-pthread"]
    command += ["-Wl,-soname,libvswap.so.1", f"-I{folder}", *defines]
    command += [str(SOURCE), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


class Child:
    """Runs Python in a process of its own, since one process has one engine."""

    def __init__(self, library: Path | None) -> None:
        """With a library: the package of the tree over it. Without: as it is installed."""
        self._library = library

    def environ(self, **more: str) -> dict[str, str]:
        """The environment of a child: the package from the tree, the stand-in as engine."""
        if self._library is None:
            return {**os.environ, **more}
        clean = {k: v for k, v in os.environ.items() if not k.startswith("VSWAP")}
        path = f"{PYTHON}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")
        return {**clean, "PYTHONPATH": path, "VSWAP_LIB": str(self._library), **more}

    def __call__(self, program: str, *, timeout: float = 60, **more: str) -> str:
        """Run a program; what it printed."""
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=self.environ(**more),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def cli(self, *words: str, input: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return subprocess.run(
            [sys.executable, "-m", "vswap", *words],
            env=self.environ(**more),
            capture_output=True,
            text=True,
            input=input,
            timeout=60,
            check=False,
        )
