"""Programs that verify themselves and know nothing of vswap, asked and changed by the command line while they run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from support.capability import tool
from support.child import ROOT, Child
from support.program import TIME_FACTOR, kill_session
from support.running import Running, under_vswap
from support.sizes import sized

_CLI = Child(None)
_STEPS = ROOT / "tests" / "functional" / "programs" / "flights_in_steps.py"
_FLIGHTS = ROOT / "examples" / "flights.py"


def _patience_seconds() -> float:
    """How long anything is waited for. Not a constant: this module is imported before --full is known."""
    return sized(60, 300) * TIME_FACTOR


class Asked:
    """One process under vswap, by its number."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A sub-command for this process."""
        name, *rest = words
        return _CLI.cli(name, "--pid", str(self.pid), *rest)

    def told(self, *words: str) -> str:
        """What a sub-command says when it succeeds."""
        done = self.cli(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def refused(self, *words: str) -> str:
        """The sentence with which a sub-command is refused."""
        done = self.cli(*words)
        assert done.returncode in (1, 2), (words, done)
        return done.stderr

    def stat(self) -> dict[str, Any]:
        """Everything `vswap stat` tells."""
        (told,) = json.loads(self.told("stat", "--json"))
        return dict(told)

    def counters(self) -> dict[str, int]:
        """The counters alone."""
        return dict(self.stat()["counters"])

    def devices(self) -> dict[str, dict[str, Any]]:
        """The swap devices by path."""
        listed = json.loads(self.told("swapon", "--show", "--json"))
        return {device["path"]: device for device in listed}

    def groups(self) -> dict[str, dict[str, Any]]:
        """The groups by path; the whole space has none."""
        return {group["path"]: group for group in self.stat()["groups"]}

    def is_lawful(self) -> bool:
        """Whether every law of the engine holds."""
        return "every law holds" in self.told("check")

    def until(self, condition: Callable[[dict[str, int]], bool]) -> dict[str, int]:
        """The counters as soon as they are so."""
        deadline = time.monotonic() + _patience_seconds()
        while not condition(counters := self.counters()):
            assert time.monotonic() < deadline, counters
            time.sleep(0.05)
        return counters


class Stress(Asked):
    """`stress-ng --vm 1 --verify`, which writes and reads all its memory until it is told to end."""

    def __init__(self, folder: Path, *options: str, method: str, mib: int, keep: bool) -> None:
        words = ["--vm", "1", "--vm-bytes", f"{mib}M", "--verify", "--vm-method", method]
        words += ["--vm-keep"] if keep else []
        command = [*under_vswap(*options), tool("stress-ng"), *words, "-t", "600s", "--oomable"]
        self._out = folder / "stress-ng.out"
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                command, env=_CLI.environ(), stdout=out, stderr=out, start_new_session=True
            )
        super().__init__(0)

    def find(self) -> Self:
        """Wait until the process that does the work has been swapped out in part."""
        deadline = time.monotonic() + _patience_seconds()
        while not self.pid:
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, "nothing was swapped out"
            for one in json.loads(_CLI.cli("stat", "--json").stdout or "[]"):
                with suppress(ProcessLookupError):
                    if os.getsid(one["pid"]) == self.process.pid and self._is_out(one["counters"]):
                        self.pid = one["pid"]
        return self

    @staticmethod
    def _is_out(counters: dict[str, int]) -> bool:
        return counters["swapped_pages"] > 1000

    def said(self) -> str:
        """What it has said so far."""
        return self._out.read_text(errors="replace")

    def saying(self, words: str) -> str:
        """What it has said as soon as these words are in it."""
        deadline = time.monotonic() + _patience_seconds()
        while words not in (said := self.said()):
            assert time.monotonic() < deadline, said
            time.sleep(0.05)
        return said

    def verified(self) -> str:
        """Have it end; what it said, which must be that no byte was wrong."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(_patience_seconds())
        said = self.said()
        assert status == 0, (status, said)
        assert "detected" not in said, said
        assert "successful run completed" in said, said
        return said

    def lost(self) -> str:
        """What it has said when the process at work has died of a page that is lost."""
        deadline = time.monotonic() + _patience_seconds()
        while Path(f"/proc/{self.pid}").exists():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        return self.said()


@contextmanager
def stress(
    folder: Path, *options: str, method: str = "all", mib: int = 96, keep: bool = True
) -> Iterator[Stress]:
    """stress-ng under vswap with these options, being at work."""
    running = Stress(folder, *options, method=method, mib=mib, keep=keep)
    try:
        yield running.find()
    finally:
        kill_session(running.process.pid)
        running.process.wait()


class Flights(Asked):
    """The flights job, which makes its tables and then goes through them for each `work()`."""

    def __init__(self, *options: str, stderr: int | None = None) -> None:
        command = [*under_vswap(*options), sys.executable, str(_STEPS), str(_FLIGHTS)]
        self._running = Running(*command, stderr=stderr)
        super().__init__(self._running.pid)

    def work(self) -> str:
        """The line with the hash of everything it made."""
        return self._running.work()

    def ended(self) -> int:
        """How it ended by itself."""
        return self._running.process.wait(_patience_seconds())

    def end(self) -> None:
        """Kill it."""
        self._running.end()


@contextmanager
def flights(*options: str, stderr: int | None = None) -> Iterator[Flights]:
    """The flights job under vswap with these options, its tables being made."""
    running = Flights(*options, stderr=stderr)
    try:
        yield running
    finally:
        running.end()


def flights_command() -> list[str]:
    """The job as it is."""
    return [sys.executable, str(_FLIGHTS)]
