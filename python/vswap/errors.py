"""Every exception vswap raises: one base, and the built-in each one also is."""

from __future__ import annotations


class VswapError(Exception):
    """Base of all errors of vswap."""


class SpaceInUseError(VswapError):
    """A space was closed while arrays still live in it.

    ``blocks`` and ``bytes`` say how much is still held.
    """

    def __init__(self, message: str, *, blocks: int = 0, bytes: int = 0) -> None:
        """Keep the counts beside the sentence."""
        super().__init__(message)
        self.blocks = blocks
        self.bytes = bytes


class UnsupportedKernelError(VswapError, OSError):
    """This kernel, container or privilege does not let vswap work here."""

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        """Set ``errno`` as OSError does, without changing the sentence."""
        super().__init__(message)
        self.errno = errno
        self._message = message

    def __str__(self) -> str:
        """Show the sentence alone; it names what to do."""
        return self._message


class CapacityError(VswapError, MemoryError):
    """Neither RAM budget nor swap devices have room for what was asked."""


class EngineMismatchError(VswapError):
    """The engine already in this process is not the one this package belongs to."""


class ConfigError(VswapError, ValueError):
    """A size, path or option that cannot be used; the sentence says which."""
