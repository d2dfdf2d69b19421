"""Where the packaged engine is, without loading it: the run path needs only this."""

from __future__ import annotations

import os

from vswap.errors import UnsupportedKernelError

SONAME = "libvswap.so.1"
LIBRARY_VARIABLE = "VSWAP_LIB"


def packaged_library() -> str:
    """Return the absolute path of the engine this package belongs to.

    ``VSWAP_LIB`` overrides it, for people who build the engine themselves.
    """
    override = os.environ.get(LIBRARY_VARIABLE)
    if override:
        return os.path.abspath(override)
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "_lib", SONAME)


def require_library() -> str:
    """Return that path, or raise UnsupportedKernelError naming what to do."""
    path = packaged_library()
    if os.path.isfile(path):
        return path
    if os.environ.get(LIBRARY_VARIABLE):
        raise UnsupportedKernelError(
            f"there is no engine at {path}, which {LIBRARY_VARIABLE} names; "
            f"point it at a built {SONAME} or unset it"
        )
    raise UnsupportedKernelError(
        f"there is no engine at {path}; install a wheel for this platform "
        f"(Linux, x86_64 or aarch64, glibc), or build it with 'make build'"
    )
