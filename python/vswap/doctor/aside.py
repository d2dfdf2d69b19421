"""Try what the engine does on kernels without UFFDIO_MOVE.

It takes pages away from under their mapping (mremap) and lets the kernel say that nobody else holds
them, a device that still writes to them for one (mbind, which a container may forbid).
"""

from __future__ import annotations

import errno
import importlib
import mmap
import os
from typing import Any

_MBIND = 237 if os.uname().machine == "x86_64" else 235
_MREMAP_MAYMOVE, _MREMAP_DONTUNMAP = 1, 4
_MPOL_LOCAL = 4
_MPOL_MF_STRICT, _MPOL_MF_MOVE = 1, 2


def obstacle() -> str:
    """Return '' where it works, else the call that does not, and its errno."""
    ffi: Any = importlib.import_module("cffi").FFI()
    ffi.cdef(
        "long syscall(long number, ...); void *mremap(void *, size_t, size_t, int, ...);"
        "int munmap(void *, size_t);"
    )
    libc = ffi.dlopen(None)
    page = mmap.PAGESIZE
    with mmap.mmap(-1, page, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[0] = 1
        with ffi.from_buffer(memory) as here:
            aside = libc.mremap(here, page, page, _MREMAP_MAYMOVE | _MREMAP_DONTUNMAP, ffi.NULL)
            if aside == ffi.cast("void *", -1):
                return f"mremap: {errno.errorcode.get(ffi.errno, str(ffi.errno))}"
        number = ffi.cast("long", 0)
        flags = ffi.cast("long", _MPOL_MF_MOVE | _MPOL_MF_STRICT)
        length, mode = ffi.cast("long", page), ffi.cast("long", _MPOL_LOCAL)
        done = libc.syscall(_MBIND, aside, length, mode, number, number, flags)
        # EIO: somebody held the page at that moment, and that is what was asked.
        error = ffi.errno if done < 0 and ffi.errno != errno.EIO else 0
        libc.munmap(aside, page)
    return f"mbind: {errno.errorcode.get(error, str(error))}" if error else ""
