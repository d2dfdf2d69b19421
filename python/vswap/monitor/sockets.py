"""Find the control sockets of running vswap programs.

An engine listens at an abstract name made of its process's number and start,
which nobody needs a file for and which is gone with the process.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from vswap.errors import ConfigError, VswapError
from vswap.monitor.discover import command_of, living, programs, programs_of

_LISTENING = 0x10000
"""The flag of a listening socket in /proc/PID/net/unix."""

_START_FIELD = 19
"""Where the start is in /proc/PID/stat, behind the name."""


class Endpoint(NamedTuple):
    """One engine that may be asked: its process, and which of the process's it is."""

    pid: int
    space: int
    command: str
    name: str

    def __str__(self) -> str:
        """Return it as ``--pid`` takes it."""
        return f"{self.pid}/{self.space}" if self.space else str(self.pid)


def parse_target(text: str) -> tuple[int, int | None]:
    """Split ``PID`` or ``PID/SPACE``; ConfigError where it is neither."""
    found = re.fullmatch(r"([0-9]{1,10})(?:/([0-9]{1,3}))?", text)
    if found is None:
        raise ConfigError(f"not a process: {text!r} (give its number, or NUMBER/SPACE)")
    return int(found[1]), None if found[2] is None else int(found[2])


def endpoint(target: str | None, proc: str = "/proc") -> Endpoint:
    """Return the one engine that is meant; VswapError with the choices where that is not clear."""
    found = endpoints(target, proc)
    if len(found) > 1:
        choices = ", ".join(str(one) for one in found)
        raise VswapError(
            f"process {found[0].pid} has {len(found)} spaces; name one with --pid: {choices}"
        )
    return found[0]


def endpoints(target: str | None, proc: str = "/proc") -> list[Endpoint]:
    """Return the engines of the program that is meant, at least one."""
    pid, space = (only_program(proc), None) if target is None else parse_target(target)
    found = endpoints_of(pid, proc)
    if space is not None:
        found = [one for one in found if one.space == space]
    if found:
        return found
    programs_of(pid, proc)
    if space is not None:
        raise VswapError(f"process {pid} has no space {space}")
    raise VswapError(_why_unreachable(pid, proc))


def only_program(proc: str = "/proc") -> int:
    """Return the one vswap program of this user; VswapError where there are none or several."""
    commands = {found.pid: found.command for found in programs(proc)}
    if len(commands) == 1:
        return next(iter(commands))
    if not commands:
        raise VswapError("no vswap program of yours is running")
    choices = ", ".join(f"{pid} ({command})" for pid, command in commands.items())
    raise VswapError(f"several vswap programs are running; name one with --pid: {choices}")


def endpoints_of(pid: int, proc: str = "/proc") -> list[Endpoint]:
    """Return the engines of one process, none where it has none or is not seen."""
    try:
        base = f"vswap/{_inner_pid(pid, proc)}/{_start_ticks(pid, proc)}"
        unix = f"{living(pid, proc)}/net/unix"
        with open(unix, encoding="utf-8", errors="replace") as file:
            names = set(_listening(file.read()))
    except (OSError, ValueError, IndexError):
        return []
    found = []
    for name in names:
        head, _, tail = name.partition(base)
        if head == "" and re.fullmatch(r"(?:/[1-9][0-9]{0,2})?", tail):
            number = int(tail[1:] or "0")
            found.append(Endpoint(pid, number, command_of(pid, proc), name))
    return sorted(found)


def _listening(table: str) -> list[str]:
    """Return the abstract names somebody listens at, from /proc/PID/net/unix."""
    names = []
    for line in table.splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7].startswith("@") and int(fields[3], 16) & _LISTENING:
            names.append(fields[7][1:])
    return names


def _inner_pid(pid: int, proc: str) -> int:
    """Return the number the process knows itself by: another one in a container."""
    with open(f"{proc}/{pid}/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return pid


def _start_ticks(pid: int, proc: str) -> int:
    """Return when the process started, in clock ticks since boot."""
    with open(f"{proc}/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[_START_FIELD])


def _why_unreachable(pid: int, proc: str) -> str:
    """Say why a program with an engine has no socket for us."""
    try:
        theirs = os.readlink(f"{living(pid, proc)}/ns/net")
        elsewhere = theirs != os.readlink(f"{proc}/self/ns/net")
    except OSError:
        elsewhere = False
    if elsewhere:
        return (
            f"process {pid} is in another network namespace; "
            f"ask from there (nsenter --net --target {pid})"
        )
    return f"process {pid} offers no control socket"
