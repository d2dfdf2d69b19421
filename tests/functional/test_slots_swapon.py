"""Devices of plain slots come and go while a program runs; every byte is verified."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from support.capability import delivery
from support.child import Child
from support.running import Running, under_vswap
from support.sizes import MIB
from vswap.monitor.control import CancelledError, Control
from vswap.monitor.sockets import endpoint

CLI = Child(None)
MODES = ["thread", "signal"]
ROWS = 256
MIXED_ROWS = f"""
import hashlib, os, random, sys, threading
def make(i, salt=0):
    if i % 2:
        return random.Random(i + 1000 * salt).randbytes(1 << 19)
    return b"%d of %d, %s" % (i, salt, b"text" * 8) * (((1 << 19) // 40) - 8)
rows = [make(i) for i in range({ROWS})]
sums = [hashlib.sha256(row).digest() for row in rows]
def wrong(step=1):
    return [i for i in range(0, len(rows), step) if hashlib.sha256(rows[i]).digest() != sums[i]]
stop = threading.Event()
def churn():
    at = salt = 1
    while not stop.is_set():
        at, salt = (at + 7) % {ROWS}, salt + 1
        if hashlib.sha256(rows[at]).digest() != sums[at]:
            print("wrong", at, flush=True)
        row = make(at, salt)
        rows[at], sums[at] = row, hashlib.sha256(row).digest()
writer = threading.Thread(target=churn, daemon=True)
print("ready", flush=True)
for line in sys.stdin:
    line = line.strip()
    if line == "churn":
        writer.start()
        print("churning", flush=True)
        continue
    if line == "stop":
        stop.set()
        writer.join()
    if line == "fork":
        child = os.fork()
        if child == 0:
            os._exit(1 if wrong() else 0)
        print(os.waitpid(child, 0)[1], wrong(), flush=True)
        continue
    print(len(rows), wrong(), flush=True)
"""
ALL_RIGHT = f"{ROWS} []"


@contextmanager
def mixed_rows(swap: str, faults: str = "auto", ram: str = "48M") -> Iterator[Running]:
    """128 MiB, half of them random bytes, under vswap."""
    options = under_vswap("--ram", ram, "--swap", swap, "--faults", faults)
    running = Running(*options, sys.executable, "-c", MIXED_ROWS)
    try:
        yield running
    finally:
        running.end()


def told(running: Running, *words: str) -> str:
    """What a sub-command for this program says when it succeeds."""
    name, *rest = words
    done = CLI.cli(name, "--pid", str(running.pid), *rest)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(running: Running, *words: str) -> str:
    """The sentence with which a sub-command is refused."""
    name, *rest = words
    done = CLI.cli(name, "--pid", str(running.pid), *rest)
    assert done.returncode in (1, 2), done
    return done.stderr


def devices(running: Running) -> dict[str, dict[str, Any]]:
    """The devices by path."""
    listed = json.loads(told(running, "swapon", "--show", "--json"))
    return {device["path"]: device for device in listed}


def is_right(running: Running) -> None:
    """Every byte is what it was, and every law holds."""
    assert running.work() == ALL_RIGHT
    assert "every law holds" in told(running, "check")


@pytest.mark.parametrize("faults", MODES)
def test_a_file_is_exchanged_for_slots_and_back_while_the_program_runs(
    disk: Path, faults: str
) -> None:
    delivery(faults)
    file, slots, last = (str(disk / name) for name in ("file", "slots", "last"))
    with mixed_rows(f"{file}:256M", faults) as running:
        assert devices(running)[file]["used_bytes"] > 20 * MIB
        said = told(running, "swapon", f"{slots}:256M", "--kind", "slots", "--priority", "7")
        assert said == f"{running.pid}: {slots} is on (slots, 256.0 MiB, priority 7)\n"
        is_right(running)
        both = devices(running)
        assert (list(both), both[slots]["kind"]) == ([slots, file], "slots")
        assert both[slots]["used_bytes"] > 4 * MIB
        assert both[slots]["written_bytes"] >= both[slots]["used_bytes"]
        assert "slots" in told(running, "swapon", "--show")
        # Together: the file goes, the slots take what does not compress.
        told(running, "swapoff", file)
        is_right(running)
        assert list(devices(running)) == [slots]
        told(running, "swapon", f"{last}:256M")
        assert f"{slots} is off" in told(running, "swapoff", slots)
        assert list(devices(running)) == [last]
        Path(slots).unlink()
        is_right(running)


@pytest.mark.parametrize("faults", MODES)
def test_slots_come_and_go_under_a_program_that_writes(disk: Path, faults: str) -> None:
    delivery(faults)
    with mixed_rows(f"{disk}/file:256M", faults) as running:
        assert running.work("churn") == "churning"
        moved = 0
        for number in range(4):
            told(running, "swapon", f"{disk}/{number}:256M", "--kind", "slots")
            if number:
                done = told(running, "swapoff", f"{disk}/{number - 1}", "--json")
                moved += json.loads(done)["moved_bytes"]
            with Control(endpoint(str(running.pid))) as control:
                assert control.ask("check")["broken"] == []
        assert list(devices(running)) == [f"{disk}/file", f"{disk}/3"]
        assert running.work("stop") == ALL_RIGHT
        moved += json.loads(told(running, "swapoff", f"{disk}/3", "--json"))["moved_bytes"]
        assert moved > MIB
        is_right(running)


@pytest.mark.parametrize("faults", MODES)
def test_parent_and_child_have_slots_and_the_parent_takes_them_off(disk: Path, faults: str) -> None:
    delivery(faults)
    with mixed_rows(f"{disk}/file:512M", faults) as running:
        told(running, "swapon", f"{disk}/slots:256M", "--kind", "slots")
        is_right(running)
        assert running.work("fork") == "0 []"
        told(running, "swapoff", f"{disk}/slots")
        assert running.work("fork") == "0 []"
        is_right(running)


def test_a_child_takes_slots_off_for_itself_and_its_parent_keeps_them(disk: Path) -> None:
    program = """
    import os, sys
    import numpy as np
    import vswap
    slots, other = sys.argv[1:]
    def content(row):
        return np.random.default_rng(row).integers(0, 1 << 63, 1 << 17)
    def verify(a):
        for row in range(64):
            assert np.array_equal(a[row], content(row)), row
    space = vswap.SwapSpace("32M", devices=[])
    assert space.swapon(slots, size="256M", kind="slots").kind == "slots"
    a = space.empty((64, 1 << 17), "i8")
    for row in range(64):
        a[row] = content(row)
    on, = space.devices()
    assert on.used_bytes > 16 << 20 and on.writes > 0, on
    assert space.stats().device_bytes >= 16 << 20
    child = os.fork()
    if child == 0:
        space.swapon(other, size="256M", kind="slots")
        space.swapoff(slots)
        assert [d.path for d in space.devices()] == [other]
        verify(a)
        assert space.check() == ()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert [d.path for d in space.devices()] == [slots]
    verify(a)
    assert space.check() == ()
    del a
    space.close()
    """
    head = f"import sys; sys.argv[1:] = {[str(disk / 'slots'), str(disk / 'other')]!r}\n"
    CLI(head + dedent(program), timeout=150)


def test_what_fits_nowhere_is_refused_and_a_swapoff_given_up_leaves_slots_on(disk: Path) -> None:
    slots = f"{disk}/slots"
    with mixed_rows(f"slots:{slots}:256M") as running:
        before = devices(running)[slots]
        assert before["used_bytes"] > 16 * MIB
        assert "fit nowhere else" in refused(running, "swapoff", slots)
        after = devices(running)[slots]
        assert (after["state"], after["read_bytes"]) == ("on", before["read_bytes"])
        told(running, "swapon", f"{disk}/file:256M")
        with Control(endpoint(str(running.pid))) as control:
            seen: list[tuple[int, int]] = []

            def give_up(done: int, total: int) -> None:
                seen.append((done, total))
                control.cancel()

            with pytest.raises(CancelledError, match="still on"):
                control.ask("swapoff", slots, on_progress=give_up)
            assert seen[0][1] >= seen[0][0]
        after = devices(running)[slots]
        assert (after["state"], after["used_bytes"] > 0) == ("on", True)
        is_right(running)
        told(running, "swapoff", slots)
        is_right(running)


def test_bad_slots_are_refused_in_a_sentence_and_change_nothing(disk: Path) -> None:
    (disk / "data").write_bytes(b"somebody's" * 1000)
    only = f"{disk}/only"
    with mixed_rows(f"slots:{only}:256M") as running, mixed_rows(f"{disk}/theirs:256M"):
        os.symlink(only, disk / "link")
        before = list(devices(running))
        for device, sentence in [
            (only, "on already"),
            (f"{disk}/link", "on already"),
            (f"{disk}/theirs", "in use"),
            (f"{disk}/data", "data"),
            (str(disk), "directory"),
            (f"{disk}/no/such", "does not exist"),
            ("/dev/shm/vswap-test-slots", "RAM"),
            ("/dev/null", "not a"),
            (f"{disk}/x:0", "too small"),
            (f"{disk}/x:64K", "too small"),
        ]:
            said = refused(running, "swapon", device, "--kind", "slots")
            assert sentence in said, (device, said)
        assert "not a swap device" in refused(running, "swapoff", f"{disk}/other")
        assert list(devices(running)) == before
        assert (disk / "data").read_bytes() == b"somebody's" * 1000
        assert not (disk / "x").exists()
        is_right(running)


def test_there_is_an_end_to_how_many_slots_devices_there_are(disk: Path) -> None:
    with mixed_rows(f"{disk}/file:256M") as running:
        for number in range(8):
            told(running, "swapon", f"{disk}/{number}:16M", "--kind", "slots")
        said = refused(running, "swapon", f"{disk}/8:16M", "--kind", "slots")
        assert "too many" in said
        told(running, "swapoff", f"{disk}/3")
        told(running, "swapon", f"{disk}/8:16M", "--kind", "slots")
        assert len(devices(running)) == 9
        is_right(running)


def test_stat_counts_what_is_in_slots_with_the_other_devices(disk: Path) -> None:
    with mixed_rows(f"slots:{disk}/slots:256M") as running:
        is_right(running)
        with Control(endpoint(str(running.pid))) as control:
            used = control.ask("devices")["devices"][0]["used_bytes"]
        (seen,) = json.loads(CLI.cli("stat", "--pid", str(running.pid), "--json").stdout)
        assert used > 16 * MIB
        assert seen["counters"]["device_bytes"] > used // 2, seen
