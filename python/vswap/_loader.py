"""Load the engine once per process, whichever way it came in.

``vswap run`` preloads the library, other packages may carry a copy, and a path
may be a symlink.  Two engines in one process would both own SIGBUS and fork
handlers, so an instance that is already there is always used, and refused by
name where it is not the one this package was built with.
"""

from __future__ import annotations

import importlib
import mmap
import os
import subprocess
import sys
import threading
from typing import Any, NamedTuple

from vswap._abi import ABI_VERSION, SONAME, new_ffi
from vswap._library import packaged_library, require_library
from vswap.errors import EngineMismatchError, UnsupportedKernelError, VswapError


class Engine(NamedTuple):
    """The loaded library and the FFI that speaks to it."""

    ffi: Any
    lib: Any
    path: str
    version: str
    build_id: str
    abi: int


_lock = threading.Lock()
_engine: Engine | None = None


def engine() -> Engine:
    """Return the one engine of this process, loading it at first use."""
    global _engine
    with _lock:
        if _engine is None:
            _engine = _load()
        return _engine


def is_loaded() -> bool:
    """Say whether an engine is in this process, ours or one of ``vswap run``."""
    return _engine is not None or _already_loaded()


def _load() -> Engine:
    """Adopt the instance in the process, or open the packaged file."""
    if not sys.platform.startswith("linux"):
        raise UnsupportedKernelError(f"vswap needs Linux; this is {sys.platform}")
    ffi = new_ffi()
    if _already_loaded():
        found = _describe(ffi, ffi.dlopen(SONAME, os.RTLD_NOW | os.RTLD_NOLOAD))
        _refuse_strangers(found)
        return found
    path = require_library()
    try:
        lib = ffi.dlopen(path, os.RTLD_NOW | os.RTLD_LOCAL | os.RTLD_NODELETE)
    except OSError as error:
        raise UnsupportedKernelError(f"the engine cannot be loaded: {error}") from error
    opened = _describe(ffi, lib)
    if opened.abi != ABI_VERSION:
        raise EngineMismatchError(
            f"the engine at {opened.path} is version {opened.version} with interface "
            f"{opened.abi}, but this package ({_here()}) speaks interface {ABI_VERSION}; "
            f"reinstall vswap"
        )
    return opened


def _already_loaded() -> bool:
    """Say whether a library of our SONAME is in this process.

    Asked of cffi's C part: ``FFI.dlopen`` would look for the name with a
    compiler when it is not there.
    """
    backend: Any = importlib.import_module("_cffi_backend")
    try:
        backend.FFI().dlopen(SONAME, os.RTLD_NOW | os.RTLD_NOLOAD)
    except OSError:
        return False
    return True


def _describe(ffi: Any, lib: Any) -> Engine:
    """Ask a library who it is."""
    try:
        address = int(ffi.cast("uintptr_t", ffi.addressof(lib, "vswap_abi_version")))
        return Engine(
            ffi=ffi,
            lib=lib,
            path=path_of_address(address),
            version=ffi.string(lib.vswap_version()).decode(),
            build_id=ffi.string(lib.vswap_build_id()).decode(),
            abi=int(lib.vswap_abi_version()),
        )
    except AttributeError as error:
        raise EngineMismatchError(f"{SONAME} in this process is not vswap's: {error}") from error


def path_of_address(address: int) -> str:
    """Return the file mapped at ``address``, or a word that says there is none."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=5)
            start, end = (int(part, 16) for part in fields[0].split("-"))
            if start <= address < end:
                return fields[5] if len(fields) > 5 else "[no file]"
    return "[unknown]"


def _refuse_strangers(found: Engine) -> None:
    """Raise unless the loaded engine is of the same build as the packaged one."""
    packaged = packaged_library()
    unpackaged = not os.path.exists(packaged)
    if found.abi == ABI_VERSION and (unpackaged or _holds(packaged, found.build_id)):
        return
    theirs = _ask_in_a_child(packaged)
    raise EngineMismatchError(
        f"this process already runs the vswap engine {found.version} (interface {found.abi}, "
        f"build {found.build_id}) from {found.path}, but this package has {theirs} at "
        f"{packaged}; use the same vswap for 'vswap run' and for 'import vswap', and start "
        f"the program again after an upgrade"
    )


def _holds(path: str, build_id: str) -> bool:
    """Say whether the file at ``path`` contains this build id.

    The id is a string constant of the library, so looking for its bytes
    answers without loading a second engine.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(build_id.encode()) >= 0
    except (OSError, ValueError):
        return False


def _ask_in_a_child(path: str) -> str:
    """Return version and build of a library by loading it in a process of its own."""
    program = (
        "import vswap._loader as l, sys; f = l.new_ffi(); e = l._describe(f, f.dlopen(sys.argv[1]));"
        "print(f'the engine {e.version} (interface {e.abi}, build {e.build_id})')"
    )
    quiet = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    quiet["PYTHONPATH"] = os.path.dirname(_here())
    try:
        answer = subprocess.run(
            [sys.executable, "-c", program, path],
            env=quiet,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "an engine that cannot be asked"
    return answer.stdout.strip()


def _here() -> str:
    """Return the directory of this package."""
    return os.path.dirname(os.path.abspath(__file__))


def error_for(code: int, sentence: str) -> VswapError:
    """Return the exception for a negative errno of the engine."""
    import errno

    from vswap.errors import CapacityError, ConfigError

    number = -code
    text = sentence or os.strerror(number)
    if number == errno.ENOMEM:
        return CapacityError(text)
    if number in (
        errno.EINVAL,
        errno.ENOENT,
        errno.EISDIR,
        errno.EROFS,
        errno.ENOSPC,
        errno.EEXIST,
    ):
        return ConfigError(text)
    if number in (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENODEV):
        return UnsupportedKernelError(text, errno=number)
    return VswapError(f"{text} ({errno.errorcode.get(number, number)})")
