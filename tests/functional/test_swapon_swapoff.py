"""Swap devices come and go while a program runs, by the command line; every byte is verified."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.child import Child
from support.running import Running, under_vswap
from support.sizes import MIB
from vswap.errors import VswapError
from vswap.monitor.control import CancelledError, Control, RefusedError
from vswap.monitor.sockets import endpoint, endpoints_of

if TYPE_CHECKING:
    from support.compile import Compiler

CLI = Child(None)
ROWS = 320
RANDOM_ROWS = f"""
import hashlib, random, sys
source = random.Random(7)
rows = [source.randbytes(1 << 19) for _ in range({ROWS})]
sums = [hashlib.sha256(row).digest() for row in rows]
print("ready", flush=True)
for line in sys.stdin:
    if line == "free\\n":
        del rows[40:]
    wrong = [i for i, row in enumerate(rows) if hashlib.sha256(row).digest() != sums[i]]
    print(len(rows), wrong, flush=True)
"""
ALL_RIGHT = f"{ROWS} []"
FORKING_ROWS = f"""
import hashlib, os, random, sys
source = random.Random(7)
rows = [source.randbytes(1 << 19) for _ in range({ROWS // 2})]
sums = [hashlib.sha256(row).digest() for row in rows]
def wrong(step):
    return [i for i in range(0, len(rows), step) if hashlib.sha256(rows[i]).digest() != sums[i]]
print("ready", flush=True)
for line in sys.stdin:
    ends = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            os._exit(1 if wrong(4) else 0)
        ends.append(os.waitpid(child, 0)[1])
    print(set(ends), wrong(1), flush=True)
"""
SPACES = """
import numpy as np, sys, vswap
spaces = [vswap.SwapSpace("32M", devices=[]) for _ in range(2)]
arrays = [space.array(np.random.default_rng(i).random(6 << 19)) for i, space in enumerate(spaces)]
sums = [float(a.sum()) for a in arrays]
print("ready", flush=True)
for line in sys.stdin:
    print([float(a.sum()) == s for a, s in zip(arrays, sums)], [s.check() for s in spaces], flush=True)
"""


@contextmanager
def random_rows(swap: str, faults: str = "auto") -> Iterator[Running]:
    """160 MiB of random bytes in 48, so most of it is on the device."""
    options = under_vswap("--ram", "48M", "--swap", swap, "--faults", faults)
    running = Running(*options, sys.executable, "-c", RANDOM_ROWS)
    try:
        yield running
    finally:
        running.end()


def cli(running: Running, *words: str) -> subprocess.CompletedProcess[str]:
    """A sub-command for this program."""
    name, *rest = words
    return CLI.cli(name, "--pid", str(running.pid), *rest)


def shown(running: Running) -> dict[str, dict[str, Any]]:
    """The devices by path."""
    done = cli(running, "swapon", "--show", "--json")
    assert done.returncode == 0, done.stderr
    return {device["path"]: device for device in json.loads(done.stdout)}


def is_clean(running: Running) -> bool:
    """Whether every law holds."""
    done = cli(running, "check")
    assert done.returncode == 0, done.stdout + done.stderr
    return "every law holds" in done.stdout


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_a_device_is_exchanged_for_another_and_every_byte_stays(disk: Path, faults: str) -> None:
    first, second = str(disk / "first"), str(disk / "a second one")
    with random_rows(f"{first}:256M", faults) as running:
        assert shown(running)[first]["used_bytes"] > 80 * MIB
        done = cli(running, "swapon", f"{second}:256M", "--priority", "5", "--kind", "file")
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{running.pid}: {second} is on (file, 256.0 MiB, priority 5)\n"
        assert running.work() == ALL_RIGHT
        assert next(iter(shown(running))) == second
        table = cli(running, "swapon", "--show").stdout.splitlines()
        assert len(table) == 3
        assert "a second one" in table[1]
        done = cli(running, "swapoff", first)
        assert done.returncode == 0, done.stderr
        assert f"{first} is off" in done.stdout
        devices = shown(running)
        assert list(devices) == [second]
        assert devices[second]["used_bytes"] > 80 * MIB
        Path(first).unlink()
        assert running.work() == ALL_RIGHT
        assert is_clean(running)


def test_a_device_leaves_for_ram_when_the_program_has_freed_enough(disk: Path) -> None:
    with random_rows(f"{disk}/only:256M") as running:
        assert running.work("free") == "40 []"
        done = cli(running, "swapoff", f"{disk}/only")
        assert done.returncode == 0, done.stderr
        assert shown(running) == {}
        assert running.work() == "40 []"
        assert is_clean(running)


def test_where_it_fits_nowhere_swapoff_refuses_and_nothing_changes(disk: Path) -> None:
    with random_rows(f"{disk}/only:256M") as running:
        before = shown(running)[f"{disk}/only"]["used_bytes"]
        done = cli(running, "swapoff", f"{disk}/only")
        assert done.returncode == 1
        assert "fit nowhere else" in done.stderr
        after = shown(running)[f"{disk}/only"]
        assert (after["state"], after["used_bytes"] >= before * 0.9) == ("on", True)
        assert running.work() == ALL_RIGHT
        assert is_clean(running)


def test_swapoff_of_a_file_without_a_name_is_by_its_name_auto(disk: Path) -> None:
    with random_rows("auto") as running:
        assert list(shown(running)) == ["auto"]
        assert cli(running, "swapon", f"{disk}/named:256M").returncode == 0
        done = cli(running, "swapoff", "auto", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["moved_bytes"] > 0
        assert list(shown(running)) == [f"{disk}/named"]
        assert running.work() == ALL_RIGHT
        assert is_clean(running)


@pytest.mark.parametrize("told_by", ["option", "environment"])
def test_the_file_without_a_name_may_have_a_limit_and_comes_back(disk: Path, told_by: str) -> None:
    words, environ = ["--ram", "48M"], {"VSWAP_SWAP": "auto:224M"}
    if told_by == "option":
        words, environ = [*words, "--swap", "auto:224M"], {}
    options = under_vswap(*words)
    running = Running(*options, sys.executable, "-c", RANDOM_ROWS, cwd=disk, **environ)
    try:
        on = shown(running)["auto"]
        assert (on["capacity_bytes"], on["priority"]) == (224 * MIB, -1)
        assert on["used_bytes"] > 80 * MIB
        assert cli(running, "swapon", f"{disk}/named:256M").returncode == 0
        assert cli(running, "swapoff", "auto").returncode == 0
        assert running.work() == ALL_RIGHT
        done = cli(running, "swapon", "auto:240M", "--priority", "3")
        assert done.stdout == f"{running.pid}: auto is on (file, 240.0 MiB, priority 3)\n", done
        assert "on already" in cli(running, "swapon", "auto").stderr
        assert cli(running, "swapoff", f"{disk}/named").returncode == 0
        assert running.work() == ALL_RIGHT
        assert is_clean(running)
        assert not (disk / "auto").exists()
    finally:
        running.end()


def test_a_file_truly_called_auto_is_named_with_its_directory(disk: Path) -> None:
    options = under_vswap("--ram", "48M", "--swap", "./auto:256M")
    running = Running(*options, sys.executable, "-c", RANDOM_ROWS, cwd=disk)
    try:
        assert list(shown(running)) == [f"{disk}/auto"]
        assert running.work() == ALL_RIGHT
        assert is_clean(running)
    finally:
        running.end()


def test_eight_threads_write_while_devices_come_and_go(disk: Path, compiled: Compiler) -> None:
    options = under_vswap("--ram", "40M", "--swap", f"{disk}/0:256M")
    process = subprocess.Popen(
        [*options, str(compiled("random_writers")), "8", "128"],
        env={**CLI.environ(), "VSWAP_TEST_MANAGED": "1"},
    )
    try:
        while not endpoints_of(process.pid):
            assert process.poll() is None
        rounds = 0
        while process.poll() is None:
            try:
                exchange(process.pid, disk, rounds)
            except RefusedError:
                raise
            except VswapError:
                break  # its time was over
            rounds += 1
        assert process.wait(120) == 0
        assert rounds >= 3
    finally:
        process.kill()
        process.wait()


def exchange(pid: int, disk: Path, number: int) -> None:
    """Put one more device on and take the one before off."""
    with Control(endpoint(str(pid))) as control:
        control.ask("swapon", f"{disk}/{number + 1}", "size=256M")
        control.ask("swapoff", f"{disk}/{number}")
        assert [d["path"] for d in control.ask("devices")["devices"]] == [f"{disk}/{number + 1}"]
        assert control.ask("check")["broken"] == []


def test_a_program_forks_while_devices_come_and_go(disk: Path) -> None:
    options = under_vswap("--ram", "48M", "--swap", f"{disk}/0:256M")
    running = Running(*options, sys.executable, "-c", FORKING_ROWS)
    try:
        assert running.process.stdin
        running.process.stdin.write("fork\n")
        for number in range(4):
            exchange(running.pid, disk, number)
        assert running.read() == "{0} []"
        assert is_clean(running)
    finally:
        running.end()


def test_one_space_of_a_python_program_gets_a_device(disk: Path) -> None:
    running = Running(sys.executable, "-c", SPACES)
    try:
        right = "[True, True] [(), ()]"
        assert running.work() == right
        refused = cli(running, "swapon", f"{disk}/for-one:256M")
        assert refused.returncode == 1
        assert f"name one with --pid: {running.pid}, {running.pid}/1" in refused.stderr
        done = CLI.cli("swapon", "--pid", f"{running.pid}/1", f"{disk}/for-one:256M")
        assert done.returncode == 0, done.stderr
        told = json.loads(cli(running, "swapon", "--show", "--json").stdout)
        assert [(one["space"], one["path"]) for one in told] == [(1, f"{disk}/for-one")]
        with Control(endpoint(f"{running.pid}/1")) as control:
            control.ask("ram", "16M")
        assert running.work() == right
        used = [d["used_bytes"] for d in shown(running).values()]
        assert used[0] > 0
        done = CLI.cli("swapon", "--pid", f"{running.pid}/1", f"{disk}/next:256M")
        assert done.returncode == 0, done.stderr
        done = CLI.cli("swapoff", "--pid", f"{running.pid}/1", f"{disk}/for-one")
        assert done.returncode == 0, done.stderr
        assert running.work() == right
    finally:
        running.end()


def test_an_interrupt_ends_swapoff_and_nothing_is_lost(disk: Path) -> None:
    first = f"{disk}/first"
    with random_rows(f"{first}:256M") as running:
        assert cli(running, "swapon", f"{disk}/second:256M").returncode == 0
        command = [sys.executable, "-m", "vswap", "swapoff", "--pid", str(running.pid), first]
        with Control(endpoint(str(running.pid))) as control:
            leaving = subprocess.Popen(
                command, env=CLI.environ(), stderr=subprocess.PIPE, text=True
            )
            while all(d["state"] == "on" for d in control.ask("devices")["devices"]):
                assert leaving.poll() is None
            os.kill(running.pid, signal.SIGSTOP)
            leaving.send_signal(signal.SIGINT)
            time.sleep(0.2)
            os.kill(running.pid, signal.SIGCONT)
        _, told = leaving.communicate(timeout=60)
        assert leaving.returncode == 130, told
        assert "still on" in told
        devices = shown(running)
        assert devices[first]["state"] == "on"
        assert devices[first]["used_bytes"] > 0
        assert running.work() == ALL_RIGHT
        assert is_clean(running)
        # What was begun can be done again, to the end.
        assert cli(running, "swapoff", first).returncode == 0
        assert running.work() == ALL_RIGHT
        assert is_clean(running)


def test_a_client_that_hangs_up_ends_its_swapoff(disk: Path) -> None:
    first = f"{disk}/first"
    with random_rows(f"{first}:256M") as running:
        assert cli(running, "swapon", f"{disk}/second:256M").returncode == 0
        with Control(endpoint(str(running.pid))) as control:
            with pytest.raises(CancelledError, match="still on"):
                control.ask("swapoff", first, on_progress=lambda *_: control.cancel())
            assert control.ask("devices")["devices"]

        def leave(*_: int) -> None:
            raise ConnectionAbortedError

        with suppress(ConnectionAbortedError), Control(endpoint(str(running.pid))) as control:
            control.ask("swapoff", first, on_progress=leave)
        while any(device["state"] != "on" for device in shown(running).values()):
            time.sleep(0.01)
        assert shown(running)[first]["used_bytes"] > 0
        assert running.work() == ALL_RIGHT
        assert is_clean(running)


def test_bad_devices_are_refused_in_a_sentence_and_change_nothing(disk: Path) -> None:
    (disk / "data").write_bytes(b"somebody's" * 1000)
    (disk / "folder").mkdir()
    try:
        with random_rows(f"{disk}/only:256M") as running:
            before = list(shown(running))
            for device, sentence in [
                (f"{disk}/only", "on already"),
                (f"{disk}/data", "data"),
                (f"{disk}/folder", "directory"),
                (f"{disk}/no/such", "does not exist"),
                ("/dev/shm/vswap-test-swap", "RAM"),
                ("/dev/null", "not a"),
            ]:
                done = cli(running, "swapon", device)
                assert done.returncode == 1, (device, done)
                assert sentence in done.stderr, (device, done.stderr)
            assert cli(running, "swapon", f"{disk}/x:0").returncode == 2
            done = cli(running, "swapoff", f"{disk}/other")
            assert done.returncode == 1
            assert "not a swap device" in done.stderr
            assert list(shown(running)) == before
            assert (disk / "data").read_bytes() == b"somebody's" * 1000
            assert running.work() == ALL_RIGHT
            assert is_clean(running)
    finally:
        (disk / "folder").rmdir()
