"""Spaces of signal delivery in a program that merely imports vswap: what its calls do, and who gets SIGBUS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent

import pytest

from support.capability import tool
from support.child import Child
from support.program import Managed, run

PRELUDE = """
import os
import signal
import tempfile
import numpy as np
import vswap
MIB = 1 << 20
def content(seed, mib=96):
    return np.repeat(np.random.default_rng(seed).integers(0, 255, mib * MIB // 64, "u1"), 64)
def out(array):
    space.evict(array)
    assert space.stats().swapped_pages > 0
    return array
def same(array, seed=1):
    wanted = content(seed, len(array) // MIB)
    assert np.array_equal(array, wanted), np.flatnonzero(array != wanted)[:9]
    return True
space = vswap.SwapSpace("32M", faults="signal")
"""
END = """
stats = space.stats()
assert stats.held_peak_bytes <= stats.ram_budget_bytes + 24 * MIB, str(stats)
assert space.check() == (), space.check()
print("done")
"""

FILES = """
with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
    path = f"{folder}/file"
    a = space.array(content(1))
    out(a).tofile(path)
    same(np.fromfile(path, "u1"))
    np.save(f"{path}.npy", out(a))
    b = np.load(f"{path}.npy")
    same(b)
    with open(path, "r+b", buffering=0) as file:
        assert file.write(out(b)) == len(b)
        file.seek(0)
        never_touched = np.empty(len(b), "u1")
        assert file.readinto(never_touched) == len(b)
        same(never_touched)
        number = file.fileno()
        half = len(b) // 2
        assert os.pwritev(number, [out(b)[:half], b[half:]], 0) == len(b)
        c = np.empty(len(b), "u1")
        assert os.preadv(number, [c[:half], c[half:]], 0) == len(b)
        same(c)
    with open(path, "wb") as buffered:
        buffered.write(out(c))
    same(np.fromfile(path, "u1"))
"""

SOCKETS = """
import socket
import threading
a = space.array(content(1))
b = space.empty(len(a), "u1")
one, other = socket.socketpair()
out(a)
sender = threading.Thread(target=one.sendall, args=(a,))
sender.start()
got = 0
while got < len(b):
    got += other.recv_into(memoryview(b)[got:])
sender.join()
same(b)
one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
for at in range(0, len(a), 8 * MIB):
    piece = slice(at, at + 32768)
    out(a), out(b)
    b[piece] = 0
    space.evict(b)
    assert one.sendmsg([memoryview(a)[piece]]) == 32768
    count, _, flags, _ = other.recvmsg_into([memoryview(b)[piece]])
    assert (count, flags) == (32768, 0)
same(b)
"""

MODULES = """
import gzip
import pickle
with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
    a = space.array(content(1))
    with gzip.open(f"{folder}/a.gz", "wb", compresslevel=1) as packed:
        packed.write(out(a))
    b = space.empty(len(a), "u1")
    with gzip.open(f"{folder}/a.gz", "rb") as packed:
        assert packed.readinto(memoryview(b)) == len(b)
    same(b)
    with open(f"{folder}/a.pickle", "wb") as file:
        pickle.dump(out(a), file, protocol=5)
    with open(f"{folder}/a.pickle", "rb") as file:
        same(pickle.load(file))
"""

BEFORE_AND_AFTER = """
import faulthandler
a = space.array(content(1))
faulthandler.enable()
same(out(a))
seen = []
signal.signal(signal.SIGBUS, lambda number, frame: seen.append(number))
same(out(a))
assert seen == []
os.kill(os.getpid(), signal.SIGBUS)
assert seen == [signal.SIGBUS], seen
assert signal.getsignal(signal.SIGBUS).__name__ == "<lambda>"
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
same(out(a))
assert signal.SIGBUS in signal.pthread_sigmask(signal.SIG_BLOCK, [])
"""

JOBS = {
    "files": FILES,
    "sockets": SOCKETS,
    "modules": MODULES,
    "signals": BEFORE_AND_AFTER,
}


def job(body: str) -> str:
    """A program that does `body` inside the space, and then checks it."""
    return f"{PRELUDE}with space:\n{indent(body, '    ')}\n{END}"


@pytest.mark.parametrize("name", JOBS)
def test_calls_take_and_fill_arrays_that_are_out_and_sigbus_stays_the_spaces(name: str) -> None:
    assert Child(None)(job(JOBS[name]), timeout=150) == "done\n"


@pytest.mark.parametrize("name", ["files", "signals"])
def test_it_is_the_same_for_a_space_in_a_program_under_vswap_run(tmp_path: Path, name: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(job(JOBS[name]))
    done = run([sys.executable, program], Managed(256)).succeeded()
    assert done.out == b"done\n", done.describe()


WRITER = """
#include <unistd.h>
long put(int fd, const void *from, unsigned long bytes) { return write(fd, from, bytes); }
long (*const by_pointer)(int, const void *, unsigned long) = write;
long put_by_pointer(int fd, const void *from, unsigned long bytes) {
    return by_pointer(fd, from, bytes);
}
"""


@pytest.mark.parametrize("binding", ["now", "lazy"])
def test_a_library_that_is_loaded_after_the_space_was_made_is_served_too(
    tmp_path: Path, binding: str
) -> None:
    library = shared(tmp_path, "writer", WRITER, f"-Wl,-z,{binding}", "-Wl,-z,relro")
    body = f"""
    import ctypes
    a = space.array(content(1))
    writer = ctypes.CDLL({str(library)!r})
    b = space.array(content(2))
    for put in (writer.put, writer.put_by_pointer):
        with tempfile.TemporaryFile(dir="/var/tmp") as file:
            out(a)
            n = ctypes.c_size_t(len(a))
            assert put(file.fileno(), ctypes.c_void_p(a.ctypes.data), n) == len(a)
            file.seek(0)
            same(np.fromfile(file, "u1"))
    same(b, 2)
    """
    assert Child(None)(job(dedent(body)), timeout=150) == "done\n"


IN_FRONT = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
long calls;
ssize_t write(int fd, const void *from, size_t bytes) {
    calls++;
    return ((ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(fd, from, bytes);
}
"""


def test_calls_that_another_library_has_taken_over_stay_its_own(tmp_path: Path) -> None:
    library = shared(tmp_path, "front", IN_FRONT)
    body = f"""
    import ctypes
    a = space.array(content(1))
    calls = ctypes.c_long.in_dll(ctypes.CDLL({str(library)!r}), "calls")
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        before = calls.value
        assert os.write(file.fileno(), b"plain") == 5
        assert calls.value == before + 1
    same(out(a))
    """
    told = Child(None)(job(dedent(body)), timeout=150, LD_PRELOAD=str(library))
    assert told == "done\n"


def test_when_the_last_space_is_gone_calls_go_on_and_a_new_space_is_served() -> None:
    body = """
    a = space.array(content(1))
    out(a)
    """
    after = """
    del a
    space.close()
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        content(1).tofile(file)
        file.seek(0)
        same(np.fromfile(file, "u1"))
        space = vswap.SwapSpace("32M", faults="signal")
        with space:
            b = space.array(content(2))
            file.seek(0)
            out(b).tofile(file)
        file.seek(0)
        same(np.fromfile(file, "u1"), 2)
    """
    program = f"{PRELUDE}with space:\n{indent(dedent(body), '    ')}{dedent(after)}{END}"
    assert Child(None)(program, timeout=150) == "done\n"


def shared(folder: Path, name: str, text: str, *flags: str) -> Path:
    """A shared library made of C."""
    source, library = folder / f"{name}.c", folder / f"lib{name}.so"
    source.write_text(text)
    command = [tool("cc", "gcc"), "-shared", "-fPIC", *flags, source, "-o", library]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library
