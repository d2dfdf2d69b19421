"""Ask the running kernel for userfaultfd: which modes, which features.

Asked by trying, never by version: a distribution may have more or less than
its number says, and a container may forbid what the kernel has.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib
import os
import struct
from typing import Any, NamedTuple

SYSCALL = 323 if os.uname().machine == "x86_64" else 282
USER_MODE_ONLY = 1
DEVICE = "/dev/userfaultfd"

_UFFDIO_API = 0xC018AA3F
_USERFAULTFD_IOC_NEW = 0xAA00
_API = struct.Struct("<QQQ")
_API_NUMBER = 0xAA

FEATURES = {
    0: "PAGEFAULT_FLAG_WP",
    1: "EVENT_FORK",
    2: "EVENT_REMAP",
    3: "EVENT_REMOVE",
    4: "MISSING_HUGETLBFS",
    5: "MISSING_SHMEM",
    6: "EVENT_UNMAP",
    7: "SIGBUS",
    8: "THREAD_ID",
    9: "MINOR_HUGETLBFS",
    10: "MINOR_SHMEM",
    11: "EXACT_ADDRESS",
    12: "WP_HUGETLBFS_SHMEM",
    13: "WP_UNPOPULATED",
    14: "POISON",
    15: "WP_ASYNC",
    16: "MOVE",
}


class Attempt(NamedTuple):
    """One way to get a userfaultfd: its features, or the errno it failed with."""

    features: int
    error: int

    @property
    def works(self) -> bool:
        """Whether a userfaultfd was had."""
        return self.error == 0

    def has(self, name: str) -> bool:
        """Whether a feature is among those of the kernel."""
        return any(label == name and self.features >> bit & 1 for bit, label in FEATURES.items())

    @property
    def feature_names(self) -> list[str]:
        """Every feature by name; those this version does not know by number."""
        bits = [bit for bit in range(64) if self.features >> bit & 1]
        return [FEATURES.get(bit, f"bit {bit}") for bit in bits]

    @property
    def why(self) -> str:
        """Name the errno."""
        return errno.errorcode.get(self.error, str(self.error)) if self.error else ""


class Userfaultfd(NamedTuple):
    """All three ways."""

    kernel_mode: Attempt
    user_mode: Attempt
    device: Attempt

    @property
    def best(self) -> Attempt:
        """The first way that works, in the engine's order."""
        ways = (self.kernel_mode, self.device, self.user_mode)
        return next((way for way in ways if way.works), self.user_mode)

    @property
    def handles_kernel_faults(self) -> bool:
        """Whether system calls into swapped memory just work (thread mode)."""
        return self.kernel_mode.works or self.device.works


def probe() -> Userfaultfd:
    """Try all three ways; nothing stays open."""
    return Userfaultfd(_by_syscall(0), _by_syscall(USER_MODE_ONLY), _by_device())


def _by_syscall(flags: int) -> Attempt:
    """Try the system call, through cffi since Python has no ``syscall``."""
    ffi: Any = importlib.import_module("cffi").FFI()
    ffi.cdef("long syscall(long number, ...);")
    libc = ffi.dlopen(None)
    descriptor = libc.syscall(SYSCALL, ffi.cast("int", flags | os.O_CLOEXEC | os.O_NONBLOCK))
    if descriptor < 0:
        return Attempt(0, int(ffi.errno))
    return _handshake(int(descriptor))


def _by_device() -> Attempt:
    """Try /dev/userfaultfd, which file permissions rule instead of privilege."""
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return Attempt(0, error.errno or errno.EIO)
    try:
        return _handshake(fcntl.ioctl(device, _USERFAULTFD_IOC_NEW, os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        return Attempt(0, error.errno or errno.EIO)
    finally:
        os.close(device)


def _handshake(descriptor: int) -> Attempt:
    """Ask a userfaultfd for its features, and close it."""
    try:
        answer = bytearray(_API.pack(_API_NUMBER, 0, 0))
        fcntl.ioctl(descriptor, _UFFDIO_API, answer)
        return Attempt(_API.unpack(answer)[1], 0)
    except OSError as error:
        return Attempt(0, error.errno or errno.EIO)
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)
