"""NumPy's memory handler (NEP 49): the only file that uses ctypes.

``PyDataMem_SetHandler`` must be called with the GIL held and speaks in Python
objects, which cffi cannot pass; ``ctypes.PYFUNCTYPE`` can.  The functions come
from NumPy's C-API table, whose numbering NumPy never changes.

Stable while: an array may outlive the interpreter's modules, and NumPy then
still reads the handler through the array's capsule.  So the handler and the
capsule's name live in memory that is never given back: 248 bytes for each
space that was ever used with NumPy.
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Any, NamedTuple

SET_HANDLER = 304
"""Place of PyDataMem_SetHandler in ``_ARRAY_API`` (NumPy 1.22 and later)."""

GET_HANDLER = 305
"""Place of PyDataMem_GetHandler."""

_CAPSULE_NAME = b"mem_handler"
_HANDLER_VERSION = 1


class HandlerFunctions(NamedTuple):
    """Addresses of the four C functions, and the context they are called with."""

    context: int
    malloc: int
    calloc: int
    realloc: int
    free: int


class _Allocator(ctypes.Structure):
    """``PyDataMemAllocator``."""

    _fields_ = [
        ("ctx", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    ]


class _Handler(ctypes.Structure):
    """``PyDataMem_Handler``."""

    _fields_ = [
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("allocator", _Allocator),
    ]


_python = ctypes.pythonapi
_raw_malloc = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)(("PyMem_RawMalloc", _python))
_capsule_new = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)(("PyCapsule_New", _python))
_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _python)
)


def new_handler(functions: HandlerFunctions, name: str = "vswap") -> object:
    """Return a capsule that NumPy takes as a memory handler."""
    size = ctypes.sizeof(_Handler)
    address = _raw_malloc(size + len(_CAPSULE_NAME) + 1)
    if not address:
        raise MemoryError("no memory for NumPy's memory handler")
    ctypes.memmove(address + size, _CAPSULE_NAME + b"\0", len(_CAPSULE_NAME) + 1)
    handler = _Handler.from_address(address)
    handler.name = name.encode()
    handler.version = _HANDLER_VERSION
    handler.allocator = _Allocator(
        functions.context, functions.malloc, functions.calloc, functions.realloc, functions.free
    )
    capsule: object = _capsule_new(address, address + size, None)
    return capsule


def set_handler(capsule: object) -> object:
    """Make ``capsule`` the handler of this context and return the one before."""
    previous: object = _api().set_handler(capsule)
    return previous


def get_handler() -> object:
    """Return the handler of this context."""
    current: object = _api().get_handler()
    return current


def handler_name(capsule: object) -> str:
    """Return the name written in a handler."""
    address = _capsule_pointer(capsule, _CAPSULE_NAME)
    name: bytes = _Handler.from_address(address).name
    return name.decode()


class _Api(NamedTuple):
    """The two functions of NumPy's table that are used."""

    set_handler: Any
    get_handler: Any


_found: _Api | None = None


def _api() -> _Api:
    """Find NumPy's table once; importing NumPy is the caller's wish by now."""
    global _found
    if _found is None:
        table = ctypes.cast(
            _capsule_pointer(_multiarray()._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p)
        )
        setter = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)
        getter = ctypes.PYFUNCTYPE(ctypes.py_object)
        _found = _Api(_entry(setter, table[SET_HANDLER]), _entry(getter, table[GET_HANDLER]))
    return _found


def _entry(prototype: Any, address: int | None) -> Any:
    """Return a callable for one entry of the table."""
    if not address:
        raise ImportError("this NumPy has no memory handlers; vswap needs NumPy 1.22 or later")
    return prototype(address)


def _multiarray() -> Any:
    """Return NumPy's C module, under its name of 2.x or of 1.x."""
    try:
        return importlib.import_module("numpy._core._multiarray_umath")
    except ModuleNotFoundError:
        return importlib.import_module("numpy.core._multiarray_umath")
