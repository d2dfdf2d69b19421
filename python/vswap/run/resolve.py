"""Find the file a command names, the way execvp does."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_EXECUTABLE = 126
NOT_FOUND = 127


class CommandError(Exception):
    """A command that cannot be started, with the exit status that says so."""

    def __init__(self, status: int, sentence: str) -> None:
        """Keep status and sentence."""
        super().__init__(sentence)
        self.status = status


class Command:
    """A command ready to execute: the file, and the words it gets."""

    __slots__ = ("argv", "path")

    def __init__(self, path: str, argv: tuple[str, ...]) -> None:
        """Keep both."""
        self.path = path
        self.argv = argv


def find_command(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the executable file ``name`` means, or None."""
    if "/" in name:
        return name if _executable(name) else None
    for directory in _search_path(environ):
        candidate = os.path.join(directory or ".", name)
        if _executable(candidate):
            return candidate
    return None


def resolve(argv: tuple[str, ...], environ: Mapping[str, str]) -> Command:
    """Return the command to execute, or raise CommandError with 126 or 127."""
    name = argv[0]
    found = find_command(name, environ) if name else None
    if found is not None:
        return Command(found, argv)
    places = (
        [name] if "/" in name else [os.path.join(d or ".", name) for d in _search_path(environ)]
    )
    for place in places if name else ():
        if os.path.isdir(place):
            if "/" in name:
                raise CommandError(NOT_EXECUTABLE, f"{name} is a directory, not a program")
        elif os.path.exists(place):
            raise CommandError(NOT_EXECUTABLE, f"{place} is not executable")
    raise CommandError(NOT_FOUND, f"command not found: {name}")


def execute(command: Command, environ: Mapping[str, str]) -> None:
    """Replace this process by the command; returns only by CommandError."""
    try:
        os.execve(command.path, command.argv, environ)
    except OSError as error:
        if error.errno == 8:  # ENOEXEC: a script without a first line, as execvp takes it
            _execute_by_shell(command, environ)
        status = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        raise CommandError(status, f"cannot execute {command.path}: {error.strerror}") from error


def restore_python_signals() -> None:
    """Undo what Python's start did to signals that an exec would pass on.

    By the C module: ``signal`` itself imports enum, a tenth of the run path.
    """
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)


def _execute_by_shell(command: Command, environ: Mapping[str, str]) -> None:
    """Run a script that has no ``#!`` line."""
    try:
        os.execve("/bin/sh", ("/bin/sh", command.path, *command.argv[1:]), environ)
    except OSError:
        return


def _search_path(environ: Mapping[str, str]) -> list[str]:
    """Return the directories of PATH; the system's default where it is unset."""
    return environ.get("PATH", os.defpath).split(":")


def _executable(path: str) -> bool:
    """Say whether this is a file that may be executed."""
    return os.path.isfile(path) and os.access(path, os.X_OK)
