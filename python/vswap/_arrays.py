"""NumPy side of a space: spans of memory, and loading without system calls into it.

Imported only when an array is asked for, so that the run path stays free of NumPy.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from vswap.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

_COPY_BYTES = 8 << 20
"""Read this much of a file between two looks at it; the page cache keeps the rest."""


def memory_span(what: Any, ffi: Any) -> tuple[int, int]:
    """Return address and length of the memory behind an array or buffer.

    For a strided view this is the span from its first to its last byte.
    """
    if isinstance(what, np.ndarray):
        return _array_span(what)
    try:
        view = memoryview(what)
    except TypeError as error:
        raise ConfigError(
            f"a {type(what).__name__} has no memory to name; give an ndarray or a buffer "
            f"(for pandas: frame[column].to_numpy())"
        ) from error
    if not view.c_contiguous:
        raise ConfigError("a buffer must be contiguous; give the ndarray itself")
    return int(ffi.cast("uintptr_t", ffi.from_buffer(view))), view.nbytes


def _array_span(array: np.ndarray[Any, Any]) -> tuple[int, int]:
    """Return the span an array reaches over, negative strides included."""
    low = int(array.__array_interface__["data"][0])
    if array.size == 0:
        return low, 0
    high = low + array.itemsize
    for count, stride in zip(array.shape, array.strides, strict=True):
        reach = (count - 1) * stride
        low, high = (low + reach, high) if reach < 0 else (low, high + reach)
    return low, high - low


def load_npy(file: str | os.PathLike[str], empty: Callable[..., Any], *, allow_pickle: bool) -> Any:
    """Read an ``.npy`` file into an array made by ``empty``.

    The file is mapped and copied by ordinary loads and stores, because in
    signal mode ``read(2)`` into a page that is swapped out fails.
    """
    source = np.load(file, mmap_mode="r", allow_pickle=allow_pickle)
    if not isinstance(source, np.ndarray):
        source.close()
        raise ConfigError(f"{os.fspath(file)} is not an .npy file; open .npz inside 'with space:'")
    fortran = source.flags.f_contiguous and not source.flags.c_contiguous
    target = empty(source.shape, source.dtype, "F" if fortran else "C")
    # A transposed Fortran array is a C one, and both reshape without a copy.
    flat_to, flat_from = (a.T.reshape(-1) if fortran else a.reshape(-1) for a in (target, source))
    step = max(1, _COPY_BYTES // max(1, source.dtype.itemsize))
    for start in range(0, source.size, step):
        flat_to[start : start + step] = flat_from[start : start + step]
    return target
