"""Runs a command and measures it: wall time, peak memory by the kernel's account, and how it ended."""

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class Run:
    """One finished run of a command."""

    status: int  # as subprocess tells it: negative for a signal
    seconds: float
    max_rss_bytes: int  # ru_maxrss of wait4: everything, file pages too, of its largest process
    anonymous_bytes: int  # highest anonymous + shared RSS seen of any one process, by sampling
    stdout: str
    stderr: str

    @property
    def ending(self) -> str:
        """Say how the command ended, in words."""
        if self.status < 0:
            return f"killed by {signal.Signals(-self.status).name}"
        return "finished" if self.status == 0 else f"failed with status {self.status}"

    @property
    def digest(self) -> str | None:
        """Return the hash the flights job printed, if it got that far."""
        found = re.search(r"sha256 ([0-9a-f]{64})", self.stdout)
        return found.group(1) if found else None


def run(command: list[str], cgroup: Path | None = None) -> Run:
    """Run `command`, inside the kernel cgroup at `cgroup` if given, and wait for its end."""
    if cgroup is not None:
        join = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
        command = ["/bin/sh", "-c", join, str(cgroup), *command]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        sampler = _Sampler(child.pid)
        _, wait_status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - started
        child.returncode = os.waitstatus_to_exitcode(wait_status)  # reaped here, not by Popen
        sampler.stop()
        return Run(
            status=child.returncode,
            seconds=seconds,
            max_rss_bytes=usage.ru_maxrss * 1024,
            anonymous_bytes=sampler.peak_bytes,
            stdout=_content(out),
            stderr=_content(err),
        )


def _content(file: IO[bytes]) -> str:
    """Return everything that was written to an open temporary file."""
    file.seek(0)
    return file.read().decode(errors="replace")


class _Sampler:
    """Looks at a process and its descendants every few milliseconds for their highest memory."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            for pid in _descendants(self._pid):
                self.peak_bytes = max(self.peak_bytes, anonymous_bytes(pid))


def anonymous_bytes(pid: int) -> int:
    """Return the anonymous + shared RSS of a process now, or 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(int(kib) * 1024 for kib in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+)", status, re.M))


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found
