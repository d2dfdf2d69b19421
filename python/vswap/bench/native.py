"""The library behind the timed loops: the one the package itself uses."""

from __future__ import annotations

from functools import cache
from typing import Any

from cffi import FFI

from vswap import _loader

_DECLARATIONS = """
int vswap_touch_pages(void *base, const uint32_t *order, size_t n, uint32_t *latency_ns);
int vswap_write_pages(void *base, const uint32_t *order, size_t n, uint32_t *latency_ns);
"""


@cache
def timing_library() -> tuple[FFI, Any]:
    """cffi's view of the two timing loops (dlopen of the same file gives the same library)."""
    ffi = FFI()
    ffi.cdef(_DECLARATIONS)
    return ffi, ffi.dlopen(_loader.engine().path)
