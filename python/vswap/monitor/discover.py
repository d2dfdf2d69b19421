"""Find running vswap programs by the names of their engine's threads.

Only those threads keep the engine's descriptors (the program may have closed
every descriptor of its own), so the memory is opened through one of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from vswap.errors import VswapError

THREAD_PREFIX = "vswap-"
STATS_NAME = "memfd:vswap-stats"
CONTROL_NAME = "memfd:vswap-control"


class Program(NamedTuple):
    """One engine of a running program: where its shared memory can be opened.

    A program has one under ``vswap run``, and one for each SwapSpace.
    """

    pid: int
    command: str
    stats_path: str
    control_path: str | None


def programs(proc: str = "/proc") -> list[Program]:
    """Return the engines of this user's programs, in order of pid."""
    return [engine for pid in sorted(_pids(proc, os.geteuid())) for engine in _engines(proc, pid)]


def programs_of(pid: int, proc: str = "/proc") -> list[Program]:
    """Return the engines of one program, at least one; else VswapError."""
    found = _engines(proc, pid)
    if not found:
        raise VswapError(_why_not(proc, pid))
    return found


def program(pid: int | None, proc: str = "/proc") -> Program:
    """Return the only engine of a pid, or the only one there is; else VswapError."""
    running = programs(proc) if pid is None else programs_of(pid, proc)
    if len(running) == 1:
        return running[0]
    if not running:
        raise VswapError("no vswap program of yours is running")
    if len({engine.pid for engine in running}) == 1:
        raise VswapError(
            f"process {running[0].pid} has {len(running)} spaces, each with a budget of its own; "
            f"set space.ram in the program"
        )
    choices = ", ".join(f"{p.pid} ({p.command})" for p in running)
    raise VswapError(f"several vswap programs are running; name one with --pid: {choices}")


def _why_not(proc: str, pid: int) -> str:
    """Say why nothing was found at a pid."""
    if not os.path.isdir(f"{proc}/{pid}"):
        return f"there is no process {pid}"
    if not os.access(f"{living(pid, proc)}/fd", os.R_OK):
        return f"process {pid} belongs to somebody else; ask as its owner or as root"
    return f"process {pid} does not run under vswap, or has not allocated anything managed yet"


def _pids(proc: str, uid: int) -> Iterator[int]:
    """Yield the processes of one user."""
    for entry in os.scandir(proc):
        try:
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                yield int(entry.name)
        except OSError:  # it has ended meanwhile
            continue


def _engines(proc: str, pid: int) -> list[Program]:
    """Return what the engine threads of one process hold.

    The threads of an engine share a table of descriptors, so the same memory
    is met several times, told by its inode; an engine's two memories are in
    the same table.
    """
    found: dict[int, Program] = {}
    for thread in _engine_threads(f"{proc}/{pid}/task"):
        links = list(_links(f"{thread}/fd"))
        stats = next((path for path, link in links if STATS_NAME in link), None)
        control = next((path for path, link in links if CONTROL_NAME in link), None)
        inode = _inode(stats) if stats else None
        if stats and inode is not None and inode not in found:
            found[inode] = Program(pid, command_of(pid, proc), stats, control)
    return list(found.values())


def _inode(path: str) -> int | None:
    """Return the inode behind a descriptor; None where it is gone."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _engine_threads(tasks: str) -> Iterator[str]:
    """Yield the directories of the threads named by the engine."""
    for name in sorted(_names(tasks), key=int):
        if _read(f"{tasks}/{name}/comm").startswith(THREAD_PREFIX):
            yield f"{tasks}/{name}"


def _links(directory: str) -> Iterator[tuple[str, str]]:
    """Yield descriptors and what they are open on."""
    for name in _names(directory):
        path = f"{directory}/{name}"
        try:
            yield path, os.readlink(path)
        except OSError:
            continue


def _names(directory: str) -> list[str]:
    """Return the entries of a directory, none where it cannot be read."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _read(path: str) -> str:
    """Return a small file of /proc, '' where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def living(pid: int, proc: str = "/proc") -> str:
    """Return the directory that tells of a process: its own, or a thread's where the first thread has ended.

    The kernel tells hardly anything of a thread that has ended, although the process lives until its last.
    """
    own = f"{proc}/{pid}"
    if not _ended(own):
        return own
    threads = (f"{own}/task/{name}" for name in _names(f"{own}/task"))
    return next((thread for thread in threads if not _ended(thread)), own)


def _ended(directory: str) -> bool:
    """Say whether a thread waits for no more than to be forgotten."""
    return _read(f"{directory}/stat").rpartition(")")[2].lstrip()[:1] in {"Z", "X"}


def command_of(pid: int, proc: str = "/proc") -> str:
    """Return the command of a process, as short as it can be told apart by."""
    directory = living(pid, proc)
    words = _read(f"{directory}/cmdline").rstrip("\0").split("\0")
    if not words[0]:
        return _read(f"{directory}/comm").strip()
    # On one line: a program given by -c may have many.
    return " ".join(" ".join([os.path.basename(words[0]), *words[1:3]]).split())[:60]
