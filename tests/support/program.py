"""Run a program plainly or under `vswap run`, sampled and with a time limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.sampler import Peak, Sampler
from support.sizes import MIB, allowed_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

DEFAULT_TIMEOUT = 150.0
TIME_FACTOR = float(os.environ.get("VSWAP_TEST_TIME_FACTOR", "1"))
"""Every time limit is this much longer: an emulated machine is slow."""
_TAIL = 4000


@dataclass
class Finished:
    """How a program ended and what it held on the way."""

    command: list[str]
    status: int
    out: bytes
    err: str
    seconds: float
    peaks: list[Peak]
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def highest(self) -> int:
        """The most any one process of the tree held, in bytes."""
        return max((peak.bytes for peak in self.peaks), default=0)

    @property
    def touched(self) -> int:
        """The most any one process ever touched at once, in bytes."""
        return max((peak.touched for peak in self.peaks), default=0)

    def describe(self) -> str:
        """Everything one wants to see when a test fails."""
        peaks = ", ".join(f"{p.name}[{p.pid}] {p.bytes / MIB:.0f} MiB" for p in self.peaks[:6])
        return (
            f"{' '.join(self.command)}\nended with {self.status} after {self.seconds:.1f} s; "
            f"peaks: {peaks}\nstdout: {self.out[-_TAIL:].decode(errors='replace')}\n"
            f"stderr: {self.err[-_TAIL:]}\nreport: {json.dumps(self.report)[:_TAIL]}"
        )

    def succeeded(self) -> Finished:
        """Assert that it ended with status 0."""
        assert self.status == 0, self.describe()
        return self

    def within(self, ram_mib: int) -> Finished:
        """Assert the honest budget for every process of the tree."""
        limit = allowed_bytes(ram_mib)
        assert self.highest <= limit, (
            f"{self.highest / MIB:.0f} MiB held, {limit / MIB:.0f} allowed\n{self.describe()}"
        )
        return self


@dataclass(frozen=True)
class Managed:
    """One way to run a program under vswap."""

    ram_mib: int
    swap: str = "auto"
    faults: str = "thread"
    codec: str = "lz4"
    options: tuple[str, ...] = ()

    def command(self, command: Sequence[str], report: Path | None) -> list[str]:
        """The whole command line."""
        line = [*vswap_command(), "run", "--ram", f"{self.ram_mib}M", "--swap", self.swap]
        line += ["--faults", self.faults, "--codec", self.codec, *self.options]
        if report is not None:
            line += ["--report-json", str(report)]
        return [*line, "--", *command]


def vswap_command() -> list[str]:
    """`vswap` of the environment the tests run in."""
    script = Path(sys.executable).with_name("vswap")
    return [str(script)] if script.exists() else [sys.executable, "-m", "vswap"]


def run(
    command: Sequence[object],
    managed: Managed | None = None,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes = b"",
) -> Finished:
    """Run to the end; past `timeout` the whole session is killed and the test fails."""
    words = [str(word) for word in command]
    with tempfile.TemporaryDirectory(prefix="vswap-test-") as folder:
        report = Path(folder) / "report.json"
        line = managed.command(words, report) if managed else words
        finished = _run(
            line, Path(folder), timeout * TIME_FACTOR, {**os.environ, **(env or {})}, cwd, stdin
        )
        if managed and report.exists() and report.stat().st_size:
            finished.report = json.loads(report.read_text())
    return finished


def _run(
    line: list[str],
    folder: Path,
    timeout: float,
    env: dict[str, str],
    cwd: Path | None,
    stdin: bytes,
) -> Finished:
    given, out, err = folder / "stdin", folder / "stdout", folder / "stderr"
    given.write_bytes(stdin)
    start = time.monotonic()
    status: int | str = "interrupted"
    with given.open("rb") as source, out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            line,
            stdin=source,
            stdout=stdout,
            stderr=stderr,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
        with Sampler(process.pid) as sampler:
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                status = f"still running after {timeout:.0f} s, killed"
            finally:
                kill_session(process.pid, sampler.seen if isinstance(status, str) else ())
                process.wait()
    finished = Finished(
        line,
        status if isinstance(status, int) else -1,
        out.read_bytes(),
        err.read_text(errors="replace"),
        time.monotonic() - start,
        sampler.peaks,
    )
    assert isinstance(status, int), f"{status}\n{finished.describe()}"
    return finished


def kill_session(leader: int, others: Collection[int] = ()) -> None:
    """SIGKILL to every process of `leader`'s session, and to those of `others` still there."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader or int(entry.name) in others:
                os.kill(int(entry.name), signal.SIGKILL)
        except (OSError, ValueError, IndexError):
            continue
