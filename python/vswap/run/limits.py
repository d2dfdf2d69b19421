"""How much memory this process may use: the cgroup's limit, or the machine's.

A cgroup may be nested in others that are tighter, and a container shows only a
part of the tree; so every level that can be seen counts, and the least wins.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_SHARE = 70
"""Percent of the limit that is the default budget.

The rest is for file pages, page tables and what the program holds unmanaged
and touches faster than it can be noticed.
"""

_NO_LIMIT = 1 << 62


class MemoryLimit:
    """The least limit and the file that sets it."""

    __slots__ = ("bytes", "source")

    def __init__(self, bytes: int, source: str) -> None:
        """Keep both."""
        self.bytes = bytes
        self.source = source


class _Mount:
    """One line of mountinfo."""

    __slots__ = ("kind", "options", "point", "root")

    def __init__(self, root: str, point: str, kind: str, options: str) -> None:
        """Keep the fields a lookup needs."""
        self.root = root
        self.point = point
        self.kind = kind
        self.options = options


def memory_limit(root: str = "") -> MemoryLimit:
    """Return the least of machine and cgroup limits; ``root`` is for tests."""
    limits = [_machine(root), *_cgroup_limits(root)]
    return min(limits, key=lambda limit: limit.bytes)


def default_budget(root: str = "") -> int:
    """Return the RAM budget used where none is given."""
    return memory_limit(root).bytes * DEFAULT_SHARE // 100 // 4096 * 4096


def _machine(root: str) -> MemoryLimit:
    """Return MemTotal."""
    for line in _lines(f"{root}/proc/meminfo"):
        if line.startswith("MemTotal:"):
            return MemoryLimit(int(line.split()[1]) * 1024, "the machine's memory")
    return MemoryLimit(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "the machine")


def _cgroup_limits(root: str) -> Iterator[MemoryLimit]:
    """Yield the limit of every level of every hierarchy that counts memory."""
    mounts = list(_cgroup_mounts(root))
    for line in _lines(f"{root}/proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            names: tuple[str, ...] = ("memory.max", "memory.high")
            chosen = [m for m in mounts if m.kind == "cgroup2"]
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes",)
            chosen = [m for m in mounts if m.kind == "cgroup" and "memory" in m.options.split(",")]
        else:
            continue
        for mount in chosen:
            for directory in _levels(root, mount, path):
                yield from _limits_in(root, directory, names)


def _levels(root: str, mount: _Mount, path: str) -> Iterator[str]:
    """Yield the directories from our own cgroup up to the mount point."""
    base = "" if mount.root == "/" else mount.root
    inside = path[len(base) :] if path == base or path.startswith(f"{base}/") else ""
    parts = [part for part in inside.split("/") if part and part != ".."]
    for count in range(len(parts), -1, -1):
        yield "/".join([root + mount.point.rstrip("/"), *parts[:count]])


def _limits_in(root: str, directory: str, names: tuple[str, ...]) -> Iterator[MemoryLimit]:
    """Yield the limits one cgroup sets."""
    for name in names:
        path = f"{directory}/{name}"
        for line in _lines(path):
            if line.isdigit() and int(line) < _NO_LIMIT:
                yield MemoryLimit(int(line), path[len(root) :])


def _cgroup_mounts(root: str) -> Iterator[_Mount]:
    """Yield the mounted cgroup hierarchies."""
    for line in _lines(f"{root}/proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if len(fields) >= 5 and tail and tail[0] in ("cgroup", "cgroup2"):
            yield _Mount(fields[3], fields[4], tail[0], tail[-1])


def _lines(path: str) -> list[str]:
    """Return the lines of a file, none where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []
