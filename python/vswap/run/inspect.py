"""Say before it starts whether a command can come under vswap at all.

The loader drops a preload silently for static, setuid and foreign programs;
"never silently unmanaged" means looking at the file first.  What cannot be
seen here (a program that clears its environment and executes itself again)
the engine's absence in the report's slots shows afterwards.
"""

from __future__ import annotations

import os
import stat

from vswap.run.elf import MAGIC, Elf, parse_elf
from vswap.run.resolve import find_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HEAD_BYTES = 64 << 10
_MAX_SCRIPTS = 5
"""The kernel follows as many ``#!`` lines before it gives up with ELOOP."""

_UNMANAGED_BY_ENV = frozenset({"-i", "-", "--ignore-environment"})


def unmanaged_reason(
    path: str, argv: Sequence[str], environ: Mapping[str, str], library: str
) -> str | None:
    """Return why ``path`` would run without vswap, or None where it will not.

    ``path`` is the resolved file, ``argv`` the command as typed.
    """
    return _dropped_path(library) or _inspect(path, list(argv), environ, library, 0)


def _dropped_path(library: str) -> str | None:
    """Say whether the loader would split the path of the library."""
    for character, name in ((" ", "a space"), (":", "a colon")):
        if character in library:
            return (
                f"the path of the engine contains {name} ({library}), where the loader splits "
                f"LD_PRELOAD; install vswap elsewhere or point VSWAP_LIB at a copy"
            )
    return None


def _inspect(
    path: str, argv: list[str], environ: Mapping[str, str], library: str, depth: int
) -> str | None:
    """Look at one file, and at its interpreter where it is a script."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        # A file that may be executed but not read: its kind cannot be told, and
        # the loader of an unreadable program still honours the preload.
        return _elevated(path)
    if head.startswith(b"#!"):
        if depth >= _MAX_SCRIPTS:
            return f"{path} is a script of scripts more than {_MAX_SCRIPTS} deep"
        words = shebang(head)
        if not words:
            return f"the first line of {path} names no interpreter"
        script_argv = [*words, path, *argv[1:]]
        return _inspect(words[0], script_argv, environ, library, depth + 1)
    if not head.startswith(MAGIC):
        return None  # execvp's fallback: a script without a first line, run by /bin/sh
    return (
        _elevated(path)
        or _inspect_elf(path, head, library)
        or _inspect_env(path, argv, environ, library, depth)
    )


def shebang(head: bytes) -> list[str]:
    """Return interpreter and optional single argument, as the kernel splits them."""
    line = head[2:].split(b"\n", 1)[0].strip(b" \t")
    return [os.fsdecode(word) for word in line.split(None, 1)]


def _inspect_elf(path: str, head: bytes, library: str) -> str | None:
    """Say whether the loader of this program will take our library."""
    elf = parse_elf(head)
    if elf is None:
        return f"{path} is a damaged ELF file"
    ours = _own_target(library)
    if ours is not None and (elf.machine, elf.bits) != (ours.machine, ours.bits):
        return f"{path} is a program for {elf.target}, and the engine is for {ours.target}"
    name = os.path.basename(path)
    if elf.interpreter is None:
        if elf.dynamic and name.startswith(("ld-linux", "ld-2.", "ld.so")):
            return None  # the loader called by hand: it honours the preload
        return f"{path} is statically linked, so nothing can be preloaded into it"
    loader = os.path.basename(elf.interpreter)
    if loader.startswith("ld-musl"):
        return f"{path} uses musl's loader ({elf.interpreter}), and the engine needs glibc"
    if not loader.startswith(("ld-linux", "ld64.so", "ld.so")):
        return f"{path} uses a loader that is not glibc's ({elf.interpreter})"
    return None


def _own_target(library: str) -> Elf | None:
    """Return the engine's own ELF header; the running Python's where it is missing."""
    for file in (library, "/proc/self/exe"):
        try:
            with open(file, "rb") as opened:
                found = parse_elf(opened.read(_HEAD_BYTES))
        except OSError:
            continue
        if found is not None:
            return found
    return None


def _elevated(path: str) -> str | None:
    """Say whether the kernel would start this file in secure-execution mode."""
    try:
        status, system = os.stat(path), os.statvfs(path)
    except OSError:
        return None
    if system.f_flag & os.ST_NOSUID:
        return None
    if status.st_mode & stat.S_ISUID and status.st_uid != os.getuid():
        return f"{path} is setuid, and the loader drops preloads there"
    setgid = stat.S_ISGID | stat.S_IXGRP
    if status.st_mode & setgid == setgid and status.st_gid != os.getgid():
        return f"{path} is setgid, and the loader drops preloads there"
    if os.getuid() != 0 and _has_capabilities(path):
        return f"{path} has file capabilities, and the loader drops preloads there"
    return None


def _has_capabilities(path: str) -> bool:
    """Say whether the file grants capabilities."""
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def _inspect_env(
    path: str, argv: list[str], environ: Mapping[str, str], library: str, depth: int
) -> str | None:
    """Look through ``env``, which most scripts name as their interpreter."""
    if os.path.basename(path) != "env" or depth > _MAX_SCRIPTS:
        return None
    words = [part for word in argv[1:2] for part in _split_s(word)] + argv[2:]
    for index, word in enumerate(words):
        if word in _UNMANAGED_BY_ENV:
            return f"'env {word}' clears LD_PRELOAD from the environment"
        if word.startswith("-"):
            if word not in ("--", "-0", "-v", "--debug"):
                return None  # an option with an argument: too clever to follow
        elif "=" not in word:
            found = find_command(word, environ)
            if found is None or os.path.basename(found) == "env":
                return None
            return _inspect(found, words[index:], environ, library, depth + 1)
    return None


def _split_s(word: str) -> list[str]:
    """Split what ``env -S`` splits; a first line gives it as one argument."""
    if word.startswith("-S"):
        return word[2:].split()
    return [word]
