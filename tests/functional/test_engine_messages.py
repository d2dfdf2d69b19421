"""What an engine has to say reaches the program's stderr, whatever that is; shown with a page that is lost."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest

from support.capability import delivery
from support.running import Running, under_vswap

ROWS = """
import os, random, sys
rows = [random.Random(n).randbytes(1 << 19) for n in range(128)]
print("ready", flush=True)
if sys.stdin.readline() == "redirect\\n":
    os.dup2(os.open(sys.argv[1], os.O_WRONLY), 2)
print("goes on", flush=True)
sys.stdin.readline()
print(sum(map(sum, rows)), flush=True)
"""
LOST = "vswap: a swapped page cannot be read back correctly: it is poisoned\n"


def run_to_the_loss(disk: Path, stderr: int, faults: str, word: str = "", path: str = "") -> None:
    """Have a program under vswap meet a swap file that somebody emptied."""
    swap = disk / "swap"
    options = under_vswap("--ram", "32M", "--swap", f"{swap}:128M", "--faults", faults)
    running = Running(*options, sys.executable, "-c", ROWS, path, stderr=stderr)
    try:
        assert running.work(word) == "goes on"
        assert swap.stat().st_blocks * 512 > 16 << 20
        os.truncate(swap, 0)
        assert running.work() == ""
        assert running.process.wait(30) == -signal.SIGBUS
    finally:
        running.end()


def said(reader: int) -> str:
    """What has been written, all ends of the writing side being closed."""
    with open(reader, "rb", closefd=False) as stream:
        return stream.read().decode()


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_a_line_reaches_a_stderr_that_is_a_socket(disk: Path, faults: str) -> None:
    delivery(faults)
    reader, writer = socket.socketpair()
    with closing(reader), closing(writer):
        run_to_the_loss(disk, writer.fileno(), faults)
        writer.close()
        assert LOST in said(reader.fileno())


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_a_line_reaches_a_stderr_that_is_a_pipe(disk: Path, faults: str) -> None:
    delivery(faults)
    reader, writer = os.pipe()
    try:
        run_to_the_loss(disk, writer, faults)
    finally:
        os.close(writer)
    assert LOST in said(reader)
    os.close(reader)


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_a_line_follows_the_program_where_it_redirected_its_stderr(disk: Path, faults: str) -> None:
    delivery(faults)
    log, first = disk / "log", disk / "first"
    log.touch()
    with first.open("wb") as out:
        run_to_the_loss(disk, out.fileno(), faults, "redirect", str(log))
    assert LOST in log.read_text()
    assert LOST not in first.read_text()
