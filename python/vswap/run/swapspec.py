"""Check ``--swap`` before anything starts: one clear sentence for each mistake.

A swap file on tmpfs would be RAM, and a file with somebody's data in it would
be lost, so both are refused here; the engine refuses them again when it opens.
"""

from __future__ import annotations

import os
import stat

from vswap.errors import ConfigError
from vswap.sizes import MIB, format_size, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HEADER_MAGIC = b"VSWAPSW1"
"""How a swap file of ours begins; any other content is somebody's data."""

LEAST_FREE = 16 * MIB
"""Less free disk than this and a swap file is not worth having."""

AUTO = "auto"
"""The file without a name; a file truly called so is ``./auto``."""

NONE = "none"
"""No device at all."""

SLOTS = "slots:"
"""Before what names a file: plain 4 KiB slots on it instead of segments."""

HIGHEST_PRIORITY = 32767
"""As with the kernel's swapon."""

MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})


class SwapDirectory:
    """A directory that may hold the automatic swap file, or why it may not."""

    __slots__ = ("free_bytes", "path", "refusal")

    def __init__(self, path: str, free_bytes: int, refusal: str | None) -> None:
        """Keep the judgement."""
        self.path = path
        self.free_bytes = free_bytes
        self.refusal = refusal


def check_swaps(specs: Sequence[str], environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return all specs checked; ``none`` stands alone."""
    checked = [check_swap(spec, environ) for spec in specs]
    if NONE in checked and len(checked) > 1:
        raise ConfigError("--swap none cannot be combined with another --swap")
    return checked


def check_swap(spec: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the spec as the engine takes it, or raise ConfigError.

    ``auto`` and ``none`` stay; a path becomes absolute, sizes bytes.
    ``slots:`` before a file stays too.
    """
    if spec.startswith(SLOTS):
        return SLOTS + _check_slots(spec.removeprefix(SLOTS), environ)
    rest, priority = split_priority(spec)
    path, size = split_spec(rest)
    if not path:
        raise ConfigError("a swap path is missing; use auto, none or PATH[:SIZE][@PRIORITY]")
    if path == NONE:
        return _check_none(spec)
    if "," in path or "\n" in path:
        raise ConfigError(f"a swap path may not contain a comma or a line break: {path!r}")
    if path == AUTO:
        _check_automatic(size, environ)
    else:
        path = device_name(path)
        _check_path(path, size)
    sized = path if size is None else f"{path}:{size}"
    return sized if priority is None else f"{sized}@{priority}"


def device_name(path: str | os.PathLike[str]) -> str:
    """Return what the engine calls the device at ``path``."""
    name = os.fspath(path)
    return name if name == AUTO else os.path.abspath(name)


def is_automatic(spec: str) -> bool:
    """Return whether a checked spec means the file without a name."""
    return split_spec(split_priority(spec.removeprefix(SLOTS))[0])[0] == AUTO


def _check_none(spec: str) -> str:
    """Refuse what can only be said of a device."""
    if spec != NONE:
        raise ConfigError(
            f"--swap none is no device, and {spec!r} gives it a size or a priority; "
            f"write none, or auto{spec.removeprefix(NONE)}, or ./none for a file called none"
        )
    return spec


def _check_automatic(size: int | None, environ: Mapping[str, str]) -> None:
    """Refuse a size of the file without a name that no disk has room for."""
    if size is None or automatic_directory(environ, size) is not None:
        return
    reasons = "; ".join(
        f"{d.path} {d.refusal or f'has only {format_size(d.free_bytes)} free'}"
        for d in automatic_directories(environ)
    )
    raise ConfigError(
        f"no place for a swap file of {format_size(size)} ({reasons}); "
        f"ask for less, or name a file on another disk"
    )


def split_priority(spec: str) -> tuple[str, int | None]:
    """Split what follows the last ``@`` off, if it is a number: the priority of the device."""
    rest, mark, tail = spec.rpartition("@")
    if not (mark and tail.isascii() and tail.isdigit()):
        return spec, None
    if int(tail) > HIGHEST_PRIORITY:
        raise ConfigError(f"a swap device's priority is 0 to {HIGHEST_PRIORITY}, not {tail}")
    return rest, int(tail)


def usual_swap(*, direct: bool) -> list[str]:
    """Return what is meant where no device is named; ``direct``: without the virtual layer."""
    return [f"{SLOTS}{AUTO}" if direct else AUTO]


def check_direct(specs: Sequence[str]) -> None:
    """Raise ConfigError unless these devices can do without the virtual layer."""
    if not specs or not all(spec.startswith(SLOTS) for spec in specs):
        raise ConfigError(
            f"without the virtual layer pages can only go to plain slots; give {SLOTS}auto or "
            f"{SLOTS}PATH and no other device"
        )


def _check_slots(file: str, environ: Mapping[str, str]) -> str:
    """Return the file of a slots device, or raise ConfigError."""
    if file == NONE or file.startswith(SLOTS):
        raise ConfigError(f"slots need a file: slots:auto or slots:PATH[:SIZE], not slots:{file}")
    return check_swap(file, environ)


def split_spec(spec: str) -> tuple[str, int | None]:
    """Split ``PATH[:SIZE]``; what follows the last colon is a size only if it reads as one."""
    path, colon, tail = spec.rpartition(":")
    if not colon:
        return spec, None
    if tail[:1].isdigit():
        size = parse_size(tail)
        if size < LEAST_FREE:
            raise ConfigError(f"a swap file of {format_size(size)} is too small; give at least 16M")
        return path, size
    return spec, None


def _check_path(path: str, size: int | None) -> None:
    """Raise ConfigError where no swap file can be at ``path``."""
    if os.path.isdir(path):
        raise ConfigError(f"swap path {path} is a directory; name a file in it, like {path}/vswap")
    if _is_block_device(path):
        return  # its size, contents and use are the engine's to judge
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        raise ConfigError(f"swap path {path}: the directory {parent} does not exist; create it")
    kind = file_system_of(parent)
    if kind in MEMORY_FILE_SYSTEMS:
        raise ConfigError(f"swap path {path} is on {kind}, which is RAM; name a file on a disk")
    room = os.statvfs(parent)
    if room.f_flag & os.ST_RDONLY:
        raise ConfigError(f"swap path {path} is on a read-only file system; name another place")
    held = _check_existing(path) if os.path.lexists(path) else _check_new(path, parent)
    free = room.f_bavail * room.f_frsize + held
    if free < (size or LEAST_FREE):
        wanted = f"{format_size(size)} asked for" if size else f"{format_size(LEAST_FREE)} needed"
        raise ConfigError(
            f"swap path {path}: the disk has {format_size(free)} free, {wanted}; "
            f"free some or name another disk"
        )


def _check_existing(path: str) -> int:
    """Refuse what is not a swap file of ours; return the bytes it already occupies."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise ConfigError(f"swap path {path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"swap path {path} is not a regular file; name a file")
    if not os.access(path, os.R_OK | os.W_OK):
        raise ConfigError(f"swap path {path} may not be written by you; change its owner or mode")
    if status.st_size and _head(path) != HEADER_MAGIC:
        raise ConfigError(
            f"swap path {path} holds data that is not vswap's, and would be overwritten; "
            f"name a new file or remove it"
        )
    return status.st_blocks * 512


def _is_block_device(path: str) -> bool:
    """Return whether a raw block device is at ``path``."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def _check_new(path: str, parent: str) -> int:
    """Refuse a directory in which no file can be made."""
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(f"swap path {path}: you may not make files in {parent}")
    return 0


def _head(path: str) -> bytes:
    """Return the bytes a header's magic would be in."""
    try:
        with open(path, "rb") as file:
            return file.read(len(HEADER_MAGIC))
    except OSError:
        return b""


def automatic_directories(environ: Mapping[str, str]) -> Iterator[SwapDirectory]:
    """Yield the places of ``--swap auto`` in order, each with what is against it."""
    for path in dict.fromkeys(("/var/tmp", environ.get("TMPDIR", ""))):
        if path:
            yield _automatic(path)


def automatic_directory(environ: Mapping[str, str], size: int = 0) -> SwapDirectory | None:
    """Return the directory ``--swap auto`` will use for a file of this size, or None."""
    usable = (d for d in automatic_directories(environ) if d.refusal is None)
    return next((d for d in usable if d.free_bytes >= size), None)


def _automatic(path: str) -> SwapDirectory:
    """Judge one directory."""
    try:
        room = os.statvfs(path)
    except OSError as error:
        return SwapDirectory(path, 0, error.strerror or "cannot be used")
    free = room.f_bavail * room.f_frsize
    kind = file_system_of(path)
    if kind in MEMORY_FILE_SYSTEMS:
        return SwapDirectory(path, free, f"is on {kind}, which is RAM")
    if room.f_flag & os.ST_RDONLY:
        return SwapDirectory(path, free, "is on a read-only file system")
    if not os.access(path, os.W_OK | os.X_OK):
        return SwapDirectory(path, free, "may not be written by you")
    if free < LEAST_FREE:
        return SwapDirectory(path, free, f"has only {format_size(free)} free")
    return SwapDirectory(path, free, None)


def file_system_of(path: str) -> str:
    """Return the type of the file system ``path`` is on, or '' where it cannot be told."""
    real = os.path.realpath(path)
    best, kind = -1, ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        point = _unescape(fields[4])
        inside = real == point or point == "/" or real.startswith(point + "/")
        if inside and len(point) >= best:
            best, kind = len(point), after.split()[0]
    return kind


def _unescape(field: str) -> str:
    """Undo mountinfo's octal escapes."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
