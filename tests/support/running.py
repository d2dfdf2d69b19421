"""A program that runs under vswap while it is asked and changed from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.child import Child

_CLI = Child(None)


def under_vswap(*options: str) -> list[str]:
    """The beginning of a command line."""
    return [sys.executable, "-m", "vswap", "run", *options, "--"]


class Running:
    """A program that says `ready`, and then one line for each line it gets."""

    def __init__(
        self, *command: str, cwd: Path | None = None, stderr: int | None = None, **environ: str
    ) -> None:
        self.process = subprocess.Popen(
            command,
            env=_CLI.environ(**environ),
            cwd=cwd,
            stderr=stderr,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        try:
            assert self.read() == "ready"
        except BaseException:
            self.end()
            raise

    @property
    def pid(self) -> int:
        return self.process.pid

    def read(self) -> str:
        """The next line it says."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def work(self, word: str = "again") -> str:
        """What it says to a line; programs here go through all their memory for it."""
        assert self.process.stdin
        self.process.stdin.write(f"{word}\n")
        return self.read()

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.communicate()
