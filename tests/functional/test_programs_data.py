"""A database in memory, whose memory is glibc's heap, and a server that forks to save itself."""

from __future__ import annotations

import hashlib
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.capability import delivery, tool
from support.program import Managed, kill_session, run
from support.sampler import Sampler
from support.sizes import MIB, allowed_bytes, budget_for, sized

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = sized(400_000, 4_000_000)
REDIS_KEYS = sized(60_000, 500_000)
REDIS_VALUE = 1500

SQL = f"""
create table t (k integer primary key, a integer, b text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < {ROWS})
insert into t select i, (i * 7919) % 1000003, printf('row %d of a table %d', i, i * 31 % 977) || hex(i)
    || '................................................................................' from n;
create index by_a on t (a);
select count(*), sum(a), sum(length(b)) from t;
update t set b = b || 'x' where a % 7 = 0;
delete from t where a % 11 = 0;
select count(*), sum(a), sum(length(b)), min(b), max(b) from t;
select a, b from t order by a limit 5 offset 1000;
pragma integrity_check;
"""


@pytest.mark.parametrize("swap", ["auto", "none"])
def test_sqlite_in_memory_answers_the_same(swap: str) -> None:
    delivery("thread")
    command = [tool("sqlite3"), ":memory:"]
    timeout = sized(120, 1200)
    plain = run(command, stdin=SQL.encode(), timeout=timeout).succeeded()
    assert plain.out.endswith(b"ok\n")
    ram = budget_for(plain.touched, swap)
    done = run(command, Managed(ram, swap=swap), stdin=SQL.encode(), timeout=timeout).succeeded()
    assert done.out == plain.out, done.describe()
    done.within(ram)


def value_of(key: int) -> bytes:
    """Half digits, half filler: shrinks about three times."""
    seed = hashlib.sha256(str(key).encode()).hexdigest().encode()
    return (seed * (REDIS_VALUE // 2 // len(seed))) + b"=" * (REDIS_VALUE // 2) + seed


class Redis:
    """Just enough of the protocol, pipelined."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(120)
        self._socket.connect(str(path))
        self._stream = self._socket.makefile("rb")

    def ask(self, *commands: tuple[bytes, ...]) -> list[bytes]:
        message = bytearray()
        for command in commands:
            message += b"*%d\r\n" % len(command)
            for word in command:
                message += b"$%d\r\n%s\r\n" % (len(word), word)
        self._socket.sendall(message)
        return [self._answer() for _ in commands]

    def _answer(self) -> bytes:
        head = self._stream.readline()
        assert head[:1] != b"-", head
        if head[:1] == b"$":
            size = int(head[1:])
            return self._stream.read(size + 2)[:-2] if size >= 0 else b"(nil)"
        return head[1:].strip()

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


@contextmanager
def redis_server(folder: Path, how: Managed) -> Iterator[tuple[Redis, Sampler]]:
    """A server of our own on a socket of our own."""
    path = folder / "redis.sock"
    command = [tool("redis-server"), "--port", "0", "--unixsocket", str(path), "--save", ""]
    command += ["--dir", str(folder), "--appendonly", "no", "--daemonize", "no"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            how.command(command, None), stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 30
        while not path.exists():
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "redis-server does not come up"
            time.sleep(0.05)
        with Sampler(server.pid) as sampler:
            client = Redis(path)
            yield client, sampler
            client.close()
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0, (folder / "log").read_text()
    finally:
        kill_session(server.pid)
        server.wait()


@pytest.mark.parametrize("swap", ["auto", "none"])
def test_redis_gives_back_what_it_was_given_also_while_it_saves(tmp_path: Path, swap: str) -> None:
    delivery("thread")
    ram = budget_for(REDIS_KEYS * (REDIS_VALUE + 100), swap)
    with redis_server(tmp_path, Managed(ram, swap=swap)) as (client, sampler):
        keys = range(REDIS_KEYS)
        for start in range(0, REDIS_KEYS, 500):
            client.ask(*((b"SET", b"key:%d" % k, value_of(k)) for k in keys[start : start + 500]))
        client.ask((b"BGSAVE",))
        for start in range(0, REDIS_KEYS, 500):
            some = keys[start : start + 500]
            for key, found in zip(
                some, client.ask(*((b"GET", b"key:%d" % k) for k in some)), strict=True
            ):
                assert found == value_of(key), f"key {key}"
        assert client.ask((b"DBSIZE",)) == [b"%d" % REDIS_KEYS]
        wait_for_save(client)
        assert sampler.highest <= allowed_bytes(ram), f"{sampler.highest / MIB:.0f} of {ram} MiB"
    check = subprocess.run(
        [tool("redis-check-rdb", "redis-server"), tmp_path / "dump.rdb"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stdout
    assert f"{REDIS_KEYS} keys read" in check.stdout, check.stdout


def wait_for_save(client: Redis) -> None:
    deadline = time.monotonic() + 90
    while b"rdb_bgsave_in_progress:1" in client.ask((b"INFO", b"persistence"))[0]:
        assert time.monotonic() < deadline, "BGSAVE does not end"
        time.sleep(0.1)
    assert b"rdb_last_bgsave_status:ok" in client.ask((b"INFO", b"persistence"))[0]
