"""The control socket of live engines: who may ask, what is answered, and that nothing disturbs the program."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.capability import delivery
from support.child import Child
from support.running import Running, under_vswap
from support.sizes import MIB
from vswap.errors import VswapError
from vswap.monitor.control import Control, RefusedError
from vswap.monitor.sockets import Endpoint, endpoint, endpoints, endpoints_of

if TYPE_CHECKING:
    from support.compile import Compiler

CLI = Child(None)
FILL = "rows = [bytes([i % 7, i % 251]) * (1 << 19) for i in range(96)]\n"
WORK = """
import hashlib, sys
print("ready", flush=True)
for line in sys.stdin:
    whole = hashlib.sha256()
    for row in rows:
        whole.update(row)
    print(whole.hexdigest(), flush=True)
"""
LEADERLESS = f"""
import ctypes, threading
{FILL}
def work():
{textwrap.indent(WORK, "    ")}
threading.Thread(target=work).start()
ctypes.CDLL(None).pthread_exit(None)
"""
SPACES = """
import numpy as np, sys, vswap
spaces = [vswap.SwapSpace("64M", devices=[]), vswap.SwapSpace("48M", devices=[])]
arrays = [space.array(np.arange(1 << 21)) for space in spaces]
print("ready", flush=True)
for line in sys.stdin:
    print(sum(int(a.sum()) for a in arrays), flush=True)
"""


@pytest.fixture
def program() -> Iterator[Running]:
    """A program in a quarter of its memory."""
    running = Running(
        *under_vswap("--ram", "32M", "--swap", "none"), sys.executable, "-c", FILL + WORK
    )
    yield running
    running.end()


def connected(target: Endpoint) -> socket.socket:
    """A raw connection."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect("\0" + target.name)
    return client


def everything(client: socket.socket) -> bytes:
    """What comes until the other side hangs up."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            got += piece
    return got


def test_a_running_program_says_who_it_is_and_takes_another_budget(program: Running) -> None:
    before = program.work()
    with Control(endpoint(str(program.pid))) as control:
        assert control.about["pid"] == program.pid
        assert control.about["build_id"]
        told = control.ask("ram", "40M")
        assert told == {"before_bytes": 32 * MIB, "ram_bytes": 40 * MIB}
        with pytest.raises(RefusedError, match="too small"):
            control.ask("ram", "1M")
    with Control(endpoint(str(program.pid))) as control:
        assert control.ask("ram", "32M")["before_bytes"] == 40 * MIB
    assert program.work() == before


def test_the_self_check_of_a_running_program_is_clean(program: Running) -> None:
    before = program.work()
    done = CLI.cli("check", "--pid", str(program.pid))
    assert done.returncode == 0, done.stderr
    assert "every law holds" in done.stdout
    told = json.loads(CLI.cli("check", "--pid", str(program.pid), "--json").stdout)
    assert [(one["pid"], one["broken"]) for one in told] == [(program.pid, [])]
    assert program.work() == before


def test_every_space_of_a_program_is_asked_by_its_own_name() -> None:
    running = Running(sys.executable, "-c", SPACES)
    try:
        total = running.work()
        found = endpoints(str(running.pid))
        assert [one.space for one in found] == [0, 1]
        before = []
        for one in found:
            with Control(one) as control:
                assert control.about["space"] == one.space
                before.append(control.ask("ram", "96M")["before_bytes"])
        assert before == [64 * MIB, 48 * MIB]
        done = CLI.cli("check", "--pid", str(running.pid))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("every law holds") == 2
        assert running.work() == total
    finally:
        running.end()


def test_a_space_that_is_given_back_is_not_listening_any_more() -> None:
    program = (
        "import vswap, sys, os\n"
        "from vswap.monitor.sockets import endpoints_of\n"
        "def spaces(): return [one.space for one in endpoints_of(os.getpid())]\n"
        "first, second = vswap.SwapSpace('32M', devices=[]), vswap.SwapSpace('32M', devices=[])\n"
        "both = spaces(); first.close(); one = spaces()\n"
        "third = vswap.SwapSpace('32M', devices=[]); again = spaces()\n"
        "second.close(); third.close()\n"
        "print(both, one, again, spaces())"
    )
    assert CLI(program).strip() == "[0, 1] [1] [0, 1] []"


def test_a_forked_child_listens_at_a_name_of_its_own() -> None:
    program = (
        "import os, sys, time\n"
        "from vswap.monitor.control import Control\n"
        "from vswap.monitor.sockets import endpoint\n" + FILL + "go, done = os.pipe(), os.pipe()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.close(go[1]); os.write(done[1], b'x'); os.read(go[0], 1); os._exit(0)\n"
        "os.read(done[0], 1)\n"
        "for pid in (child, os.getpid()):\n"
        "    with Control(endpoint(str(pid))) as control:\n"
        "        assert control.about['pid'] == pid\n"
        "        print(control.ask('check')['broken'])\n"
        "os.write(go[1], b'x'); print(os.waitpid(child, 0)[1])"
    )
    words = ["run", "--ram", "32M", "--swap", "none", sys.executable, "-c", program]
    done = CLI.cli(*words)
    assert done.stdout.split("\n")[:3] == ["[]", "[]", "0"], done.stderr


GARBAGE = [b"\n", b"GET / HTTP/1.1\r\n", b"\x00\xff\xfe\n", b"ram\n", b"ram 1 2 3 4 5 6 7 8 9\n", b"cancel\n",
           b"ram  32M\n", b"ram %\n", b"swapoff %00\n", b"x" * 200_000, b"\n" * 100]  # fmt: skip


@pytest.mark.parametrize("line", GARBAGE, ids=lambda line: repr(line[:12]))
def test_garbage_is_refused_in_a_sentence_and_the_program_goes_on(
    program: Running, line: bytes
) -> None:
    before = program.work()
    with connected(endpoint(str(program.pid))) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(line)
            client.shutdown(socket.SHUT_WR)
        answers = [json.loads(part) for part in everything(client).splitlines()]
    assert answers
    assert all(answer["ok"] is False and answer["error"] for answer in answers)
    assert program.work() == before
    with Control(endpoint(str(program.pid))) as control:
        assert control.ask("check")["broken"] == []


def test_clients_that_hang_hold_nobody_up(program: Running) -> None:
    before = program.work()
    target = endpoint(str(program.pid))
    with contextlib.ExitStack() as hanging:
        for beginning in (b"", b"hel", b"check"):
            hanging.enter_context(connected(target)).sendall(beginning)
        with Control(target) as control:
            assert control.ask("check")["broken"] == []
        assert program.work() == before
        hanging.enter_context(connected(target))
        one_more = hanging.enter_context(connected(target))
        assert "try again" in json.loads(everything(one_more))["error"]
    # They are let go of, and there is room again.
    until = time.monotonic() + 20
    while True:
        try:
            with Control(target) as control:
                assert control.ask("check")["broken"] == []
            break
        except RefusedError:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_client_that_never_speaks_is_let_go(program: Running) -> None:
    with connected(endpoint(str(program.pid))) as client:
        assert everything(client) == b""


def come_and_leave(target: Endpoint) -> None:
    """A client that says nothing; waits for its place in the backlog."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + target.name)


def asked(target: Endpoint) -> str:
    """What one client is told: `whole`, or that it may come again."""
    try:
        with Control(target) as control:
            assert control.ask("check")["broken"] == []
    except RefusedError as refusal:
        assert "try again" in str(refusal)
        return "again"
    return "whole"


def test_many_clients_at_once_are_answered_or_told_to_come_again(program: Running) -> None:
    target = endpoint(str(program.pid))
    before = program.work()
    with ThreadPoolExecutor(8) as clients:
        told = list(clients.map(lambda _: asked(target), range(160)))
    assert set(told) == {"whole", "again"}
    assert program.work() == before


def test_clients_that_leave_at_once_do_not_end_a_program_of_one_thread(program: Running) -> None:
    # A thread of the engine ends for each, while one for the next begins: the C library counts both.
    target = endpoint(str(program.pid))
    before = program.work()
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda _: come_and_leave(target), range(5000)))
    assert program.work() == before


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_a_program_ends_with_its_last_thread_while_clients_come_and_go(
    compiled: Compiler, faults: str
) -> None:
    delivery(faults)
    command = [*under_vswap("--ram", "32M", "--faults", faults), compiled("last_thread"), "main"]
    environ = CLI.environ(VSWAP_TEST_MANAGED="1")
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:

        def ask_while_it_runs() -> int:
            answers = 0
            while process.poll() is None:
                with contextlib.suppress(VswapError):
                    for target in endpoints_of(process.pid):
                        answers += asked(target) == "whole"
            return answers

        with ThreadPoolExecutor(3) as clients:
            asking = [clients.submit(ask_while_it_runs) for _ in range(3)]
            try:
                said, _ = process.communicate(timeout=120)
            finally:
                process.kill()
            assert sum(one.result() for one in asking) > 0
    assert said == "memory is whole\nand exit was called\n"
    assert process.returncode == 0


def test_a_program_whose_first_thread_has_ended_is_found_and_told_of_like_any_other() -> None:
    running = Running(
        *under_vswap("--ram", "32M", "--swap", "none"), sys.executable, "-c", LEADERLESS
    )
    try:
        before = running.work()
        until = time.monotonic() + 20
        while ") Z " not in (Path("/proc") / str(running.pid) / "stat").read_text():
            assert time.monotonic() < until
            time.sleep(0.05)
        done = CLI.cli("check", "--pid", str(running.pid))
        assert done.returncode == 0, done.stderr
        assert "every law holds" in done.stdout
        told = CLI.cli("stat", "--pid", str(running.pid))
        assert told.returncode == 0, told.stderr
        assert "python" in told.stdout
        assert CLI.cli("set", "--pid", str(running.pid), "--ram", "40M").returncode == 0
        assert running.work() == before
    finally:
        running.end()


def test_a_program_that_closes_every_descriptor_can_still_be_asked() -> None:
    program = FILL + "import os\nos.closerange(3, 1 << 16)\n" + WORK
    running = Running(*under_vswap("--ram", "32M", "--swap", "none"), sys.executable, "-c", program)
    try:
        before = running.work()
        with Control(endpoint(str(running.pid))) as control:
            assert control.ask("check")["broken"] == []
        assert running.work() == before
    finally:
        running.end()


def test_a_stopped_program_is_named_as_one_whether_or_not_others_wait_for_it(
    program: Running,
) -> None:
    target = endpoint(str(program.pid))
    before = program.work()
    os.kill(program.pid, signal.SIGSTOP)
    with contextlib.ExitStack() as waiting:
        with pytest.raises(VswapError, match=r"does not answer \(is it stopped\?\)"):
            Control(target, patience=0.1)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting.enter_context(connected(target))
        with pytest.raises(VswapError, match=r"does not answer \(is it stopped\?\)"):
            Control(target, patience=0.1)
    os.kill(program.pid, signal.SIGCONT)
    assert program.work() == before


def test_a_killed_program_leaves_no_name_behind(program: Running) -> None:
    target = endpoint(str(program.pid))
    program.end()
    assert f"@{target.name}\n" not in Path("/proc/net/unix").read_text()
    assert endpoints_of(program.pid) == []
    done = CLI.cli("check", "--pid", str(program.pid))
    assert done.returncode == 1
    assert f"no process {program.pid}" in done.stderr


def test_wrong_arguments_of_check_are_named() -> None:
    assert CLI.cli("check", "--pid", "one").returncode == 2
    assert CLI.cli("check", "--all").returncode == 2
    nothing = CLI.cli("check", "--pid", str(os.getpid()))
    assert nothing.returncode == 1
    assert "does not run under vswap" in nothing.stderr
