"""The ways to make arrays, shared by a space and its groups.

Stable while: NumPy's handler of an owner is made once, and its memory is never
given back, because arrays outlive everything else (see ``_numpy_handler``).
"""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vswap import _context
from vswap._loader import Engine, error_for

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Array = NDArray[Any]


class ArrayMaker(ABC):
    """Makes arrays whose memory one owner pays for."""

    _engine: Engine
    _capsule: object | None = None

    @abstractmethod
    def _require_open(self) -> Any:
        """Return the space's handle, or say why nothing new can be made."""

    @abstractmethod
    def _new_np_context(self, out: Any) -> int:
        """Have the engine make the context NumPy's handler is called with."""

    def empty(self, shape: Any, dtype: DTypeLike = float, order: Any = "C") -> Array:
        """Return an uninitialised array in this space."""
        with self._taking() as np:
            return _as_array(np.empty(shape, dtype, order))

    def zeros(self, shape: Any, dtype: DTypeLike = float, order: Any = "C") -> Array:
        """Return an array of zeros in this space; untouched pages take no room."""
        with self._taking() as np:
            return _as_array(np.zeros(shape, dtype, order))

    def ones(self, shape: Any, dtype: DTypeLike | None = None, order: Any = "C") -> Array:
        """Return an array of ones in this space."""
        with self._taking() as np:
            return _as_array(np.ones(shape, dtype, order))

    def full(
        self, shape: Any, value: Any, dtype: DTypeLike | None = None, order: Any = "C"
    ) -> Array:
        """Return an array filled with ``value`` in this space."""
        with self._taking() as np:
            return _as_array(np.full(shape, value, dtype, order))

    def array(self, values: ArrayLike, dtype: DTypeLike | None = None, order: Any = "K") -> Array:
        """Return a copy of ``values`` in this space."""
        with self._taking() as np:
            return _as_array(np.array(values, dtype, copy=True, order=order))

    def load(self, file: str | os.PathLike[str], *, allow_pickle: bool = False) -> Array:
        """Return the array of an ``.npy`` file, read into this space."""
        from vswap._arrays import load_npy

        with self._taking():
            return _as_array(load_npy(file, self.empty, allow_pickle=allow_pickle))

    @contextlib.contextmanager
    def _taking(self) -> Iterator[Any]:
        """Put the handler in force for one call."""
        self._require_open()
        import numpy

        token = _context.enter(self, self._handler(), threads=False)
        try:
            yield numpy
        finally:
            _context.leave(token)

    def _handler(self) -> object:
        """Return NumPy's handler for this owner, made at first need."""
        if self._capsule is None:
            from vswap._numpy_handler import HandlerFunctions, new_handler

            ffi, lib = self._engine.ffi, self._engine.lib
            out = ffi.new("void **")
            self._check_code(self._new_np_context(out))
            addresses = [
                int(ffi.cast("uintptr_t", ffi.addressof(lib, f"vswap_np_{verb}")))
                for verb in ("malloc", "calloc", "realloc", "free")
            ]
            context = int(ffi.cast("uintptr_t", out[0]))
            self._capsule = new_handler(HandlerFunctions(context, *addresses))
        return self._capsule

    def _check_code(self, code: int) -> int:
        """Return a result, or raise the exception of a negative errno."""
        if code < 0:
            raise error_for(code, "")
        return int(code)


def _as_array(array: Any) -> Array:
    """Tell the type checker what NumPy gave."""
    result: Array = array
    return result
