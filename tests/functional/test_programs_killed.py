"""After kill -9 nothing is left behind: no file, no socket, no shared memory, no process."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.capability import delivery
from support.program import Managed, kill_session

if TYPE_CHECKING:
    from support.compile import Compiler

HELD_MIB = "128"
RAM_MIB = 32


def leftovers(session: int, folder: Path) -> dict[str, set[str]]:
    """Everything a program could leave: names in shared places, sockets, processes."""
    places = (Path("/var/tmp"), Path("/dev/shm"), Path("/run"), folder)
    names = {str(p) for place in places for p in place.iterdir() if "vswap" in p.name.lower()}
    sockets = {line for line in Path("/proc/net/unix").read_text().splitlines() if "vswap" in line}
    return {"names": names, "sockets": sockets, "processes": processes_of(session)}


def processes_of(session: int) -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.add(entry.name)
    return found


def child_of(parent: int) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(parent):
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                return int(entry.name)
    return parent


@pytest.mark.parametrize("reported", [False, True], ids=["exec", "with-report"])
@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_kill_9_leaves_nothing_behind(
    compiled: Compiler, tmp_path: Path, faults: str, reported: bool
) -> None:
    delivery(faults)
    report = tmp_path / "report.json" if reported else None
    command = Managed(RAM_MIB, faults=faults).command(
        [str(compiled("holds_memory")), HELD_MIB], report
    )
    before = leftovers(-1, tmp_path)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "VSWAP_TEST_MANAGED": "1"},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        victim = child_of(process.pid) if reported else process.pid
        os.kill(victim, signal.SIGKILL)
        status = process.wait(20)
        assert status in (-signal.SIGKILL, 128 + signal.SIGKILL)
        deadline = time.monotonic() + 5
        while (after := leftovers(process.pid, tmp_path)) != before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert after == before
    finally:
        kill_session(process.pid)
        process.wait()
