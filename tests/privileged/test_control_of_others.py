"""Who may ask a running program: its own user and root, nobody else."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.capability import root, tool
from support.child import Child
from support.sizes import MIB
from vswap._library import packaged_library
from vswap.monitor.control import Control
from vswap.monitor.sockets import Endpoint, endpoint, endpoints_of

if TYPE_CHECKING:
    from support.compile import Compiler

pytestmark = pytest.mark.privileged
NOBODY = 65534
PROGRAM = "rows = bytes(48 << 20); print('ready', flush=True); input(); print(sum(rows[::4096]))"


def asked_as(uid: int, target: Endpoint, line: bytes) -> list[bytes]:
    """The lines a process of another user gets for one of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(10)
                client.connect("\0" + target.name)
                client.send(line)
                os.write(writing, client.recv(4096))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as told:
        lines = told.read().splitlines()
    os.waitpid(child, 0)
    return lines


def test_another_user_is_refused_and_the_program_goes_on() -> None:
    root()
    run = [sys.executable, "-m", "vswap", "run", "--ram", "32M", "--swap", "none"]
    process = subprocess.Popen(
        [*run, sys.executable, "-c", PROGRAM],
        env=Child(None).environ(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        target = endpoint(str(process.pid))
        for _ in range(20):
            (answer,) = asked_as(NOBODY, target, b"ram 16M\n")
            refusal = json.loads(answer)
            assert refusal["ok"] is False
            assert "only this program's user and root" in refusal["error"]
        assert json.loads(asked_as(0, target, b"hello\n")[0])["ok"] is True
        with Control(target) as control:
            assert control.ask("ram", "32M")["before_bytes"] == 32 * MIB
        assert process.communicate("\n")[0] == "0\n"
    finally:
        process.kill()
        process.wait()


def test_root_may_ask_a_program_of_an_ordinary_user(compiled: Compiler) -> None:
    root()
    folder = Path("/var/tmp/vswap-test-control-nobody")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    try:
        library = shutil.copy(packaged_library(), folder / "libvswap.so.1")
        binary = shutil.copy(compiled("random_writers"), folder / "random_writers")
        command = [tool("setpriv", "util-linux"), f"--reuid={NOBODY}", f"--regid={NOBODY}"]
        command += ["--clear-groups", "--no-new-privs", "--bounding-set=-all", tool("env")]
        command += [f"LD_PRELOAD={library}", f"VSWAP_RAM={48 * MIB}", "VSWAP_SWAP=none"]
        command += ["VSWAP_TEST_MANAGED=1", str(binary), "4", "96"]
        process = subprocess.Popen(command, env={"HOME": "/"})
        try:
            while not (found := endpoints_of(process.pid)):
                assert process.poll() is None
            assert json.loads(asked_as(NOBODY, found[0], b"hello\n")[0])["ok"] is True
            for _ in range(5):
                with Control(found[0]) as control:
                    assert control.ask("check")["broken"] == []
            assert process.wait(120) == 0
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder)
