"""Forks while the environment and the loader's record of a library with thread-local storage are swapped out.

The child's first threads are made from that record, and whoever serves the child's faults is one of them; what it
reads of its memory before that is lost.
"""

import ctypes
import os
import sys

import numpy as np

import vswap
from vswap import _loader

data = np.arange(4 << 20)
space = vswap.current()
assert space is not None, "no engine"
ffi, lib = _loader.engine().ffi, _loader.engine().lib
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
os.putenv("VSWAP_TEST_WORD", "still here")


def evict(address: int, what: str) -> None:
    """Swap out what is at an address."""
    start = ffi.cast("void *", address & ~4095)
    assert lib.vswap_owns(space._handle, start), f"{what} is not managed"
    assert lib.vswap_evict(space._handle, start, 8192) > 0, f"{what} stayed in memory"


assert space.evict(data) > 0
# dlopen's handle is the record's address.
record = ctypes.CDLL(sys.argv[1])._handle
variables = ctypes.c_void_p.in_dll(libc, "environ").value
evict(record, "the loader's record")
evict(variables, "the environment")
child = os.fork()
broken = space.check()
assert broken == (), (child, broken)
assert libc.getenv(b"VSWAP_TEST_WORD") == b"still here", child
assert np.array_equal(data, np.arange(4 << 20)), child
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("both have everything")
