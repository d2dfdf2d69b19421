"""Buffers larger than the budget through everything Python does input and output with.

Run plainly it prints the same lines as under `vswap run`.  Each line is a digest of what came back.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import socket
import sqlite3
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

Array = Any


def say(what: str, data: Array) -> None:
    """One line of the result."""
    print(what, hashlib.sha256(data).hexdigest()[:16], flush=True)


def numbers(mib: int) -> Array:
    """Compressible, but no page like another."""
    count = mib * (1 << 20) // 8
    return np.arange(count, dtype=np.int64) * 7919 % 1_000_003


def numpy_files(folder: Path, values: Array) -> None:
    np.save(folder / "values.npy", values)
    back = np.load(folder / "values.npy")
    say("np.load", back)
    values.tofile(folder / "values.bin")
    say("np.fromfile", np.fromfile(folder / "values.bin", dtype=np.int64))
    mapped = np.load(folder / "values.npy", mmap_mode="r")
    assert np.array_equal(mapped, values)


def plain_files(folder: Path, values: Array) -> None:
    path = folder / "plain.bin"
    with path.open("wb", buffering=0) as out:
        view = memoryview(values).cast("B")
        while view:
            view = view[out.write(view) :]
    target = bytearray(values.nbytes)
    with path.open("rb", buffering=0) as source:
        got, view = 0, memoryview(target)
        while got < len(target):
            step = source.readinto(view[got:])
            assert step, "file ended early"
            got += step
    say("readinto", target)
    with path.open("rb") as source:
        say("read", source.read())
    descriptor = os.open(path, os.O_RDONLY)
    halves = [bytearray(values.nbytes // 2), bytearray(values.nbytes - values.nbytes // 2)]
    got = os.preadv(descriptor, halves, 0)
    os.close(descriptor)
    say("preadv", bytes(halves[0])[: min(got, len(halves[0]))][:1024])


def pickles(folder: Path, values: Array) -> None:
    rows = [{"row": int(v), "text": f"row {v}", "half": float(v) / 2} for v in values[:20_000]]
    with (folder / "rows.pickle").open("wb") as out:
        pickle.dump((rows, values), out, protocol=5)
    with (folder / "rows.pickle").open("rb") as source:
        back_rows, back = pickle.load(source)
    assert back_rows == rows
    say("pickle", back)
    say("pickle in memory", pickle.loads(pickle.dumps(values, protocol=5)))


def gzips(folder: Path, values: Array) -> None:
    path = folder / "values.gz"
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write(memoryview(values).cast("B"))
    with gzip.open(path, "rb") as source:
        say("gzip", source.read())


def texts(folder: Path, values: Array) -> None:
    text = "\n".join(map(str, values[: values.size // 8]))
    (folder / "values.txt").write_text(text)
    say("text", (folder / "values.txt").read_text().encode())
    say("StringIO", io.StringIO(text).read().encode())


def databases(folder: Path, values: Array) -> None:
    path = folder / "values.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (k integer primary key, v integer, b blob)")
        connection.executemany(
            "insert into t values (?, ?, ?)",
            ((i, int(v), b"x" * (i % 300)) for i, v in enumerate(values[:100_000])),
        )
        connection.execute("insert into t values (-1, 0, ?)", (values.tobytes(),))
    with sqlite3.connect(path) as connection:
        (check,) = connection.execute("pragma integrity_check").fetchone()
        (total,) = connection.execute("select sum(v) from t").fetchone()
        (blob,) = connection.execute("select b from t where k = -1").fetchone()
    print("sqlite", check, total)
    say("sqlite blob", blob)


def streams(values: Array) -> None:
    left, right = socket.socketpair()
    data = memoryview(values).cast("B")

    def send() -> None:
        left.sendall(data)
        left.close()

    sender = threading.Thread(target=send)
    sender.start()
    target = bytearray(values.nbytes)
    view = memoryview(target)
    while view and (got := right.recv_into(view)):
        view = view[got:]
    sender.join()
    right.close()
    say("socket", target)


def datagrams(values: Array) -> None:
    """A datagram is taken off the queue whole or lost: every one must arrive, once, in order."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    size, digest = 60_000, hashlib.sha256()
    data = memoryview(values).cast("B")[: 200 * size]
    incoming = bytearray(values.nbytes)
    for start in range(0, len(data), size):
        assert left.send(data[start : start + size]) == size
        got = right.recv_into(memoryview(incoming)[start : start + 65536])
        assert got == size, f"datagram of {got} bytes"
        digest.update(incoming[start : start + got])
    left.close()
    right.close()
    print("datagrams", digest.hexdigest()[:16])


def pipes(values: Array) -> None:
    source, sink = os.pipe()
    data = memoryview(values).cast("B")

    def send() -> None:
        view = data
        while view:
            view = view[os.write(sink, view) :]
        os.close(sink)

    sender = threading.Thread(target=send)
    sender.start()
    with os.fdopen(source, "rb") as opened:
        say("pipe", opened.read())
    sender.join()


def main() -> None:
    values = numbers(int(sys.argv[1]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for step in (numpy_files, plain_files, pickles, gzips, texts, databases):
            step(folder, values)
    for last in (streams, datagrams, pipes):
        last(values)
    randoms = bytearray(os.getrandom(64 << 10)) + bytearray(4 << 20)
    assert any(randoms[:100])
    say("source", values)


main()
