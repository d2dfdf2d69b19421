"""Wait for a command like ``time`` does, and end the way it ended.

Signals: those a terminal sends reach the whole foreground group, so the
command has them already and they are not sent again; those somebody sends to
us alone are passed on.  The kernel tells which is which in ``si_code``.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # without enum, which is slow
import os
import resource
import sys
import time

from vswap.run.resolve import Command, CommandError, execute, restore_python_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_FROM_TERMINALS = (signal.SIGINT, signal.SIGQUIT)
_SENT_BY_A_PROCESS = 0
"""Largest si_code of kill, tgkill and sigqueue; the kernel's own are above."""


class Ended:
    """How a command ended."""

    def __init__(self, status: int, wall_seconds: float, max_rss_bytes: int) -> None:
        """Keep wait status, time, and the highest RSS the kernel saw."""
        self.status = status
        self.wall_seconds = wall_seconds
        self.max_rss_bytes = max_rss_bytes

    @property
    def exit_status(self) -> int:
        """Exit status as a shell shows it: 128 + signal for a death by signal."""
        if os.WIFSIGNALED(self.status):
            return 128 + os.WTERMSIG(self.status)
        return os.WEXITSTATUS(self.status)

    @property
    def signal(self) -> int | None:
        """The signal the command died by."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None


def run_and_wait(
    command: Command, environ: Mapping[str, str], meanwhile: Callable[[], None]
) -> Ended:
    """Start the command and wait; CommandError where it cannot be executed.

    ``meanwhile`` is called once the command runs.
    """
    watched = {*_PASSED_ON, *_FROM_TERMINALS, signal.SIGCHLD}
    # An ignored SIGCHLD, which can be inherited, would throw the exit status away.
    child_handling = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.signal(signal.SIGCHLD, child_handling)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _become(command, environ, writing)
    os.close(writing)
    failure = _failure(reading)
    if failure is not None:
        os.waitpid(child, 0)
        raise failure
    meanwhile()
    status, usage = _wait(child, watched)
    return Ended(status, time.monotonic() - started, usage.ru_maxrss * 1024)


def _become(command: Command, environ: Mapping[str, str], writing: int) -> NoReturn:
    """In the child: execute, or tell the parent why not."""
    try:
        restore_python_signals()
        execute(command, environ)
    except CommandError as error:
        os.write(writing, f"{error.status} {error}".encode(errors="replace"))
    finally:
        os._exit(125)


def _failure(reading: int) -> CommandError | None:
    """Read why the command could not be executed; the pipe closes when it was."""
    with open(reading, "rb") as pipe:
        told = pipe.read().decode(errors="replace")
    if not told:
        return None
    status, _, sentence = told.partition(" ")
    return CommandError(int(status), sentence)


def _wait(child: int, watched: set[int]) -> tuple[int, resource.struct_rusage]:
    """Pass signals on until the command has ended."""
    while True:
        info = signal.sigwaitinfo(watched)
        if info.si_signo == signal.SIGCHLD:
            pid, status, usage = os.wait4(child, os.WNOHANG)
            if pid == child:
                return status, usage
        elif info.si_code <= _SENT_BY_A_PROCESS:
            try:
                os.kill(child, info.si_signo)
            except ProcessLookupError:
                continue


def end_like(ended: Ended) -> int:
    """Die by the command's signal, or return its exit status."""
    number = ended.signal
    if number is None:
        return ended.exit_status
    sys.stderr.flush()
    # One core dump of the command is enough.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return ended.exit_status
