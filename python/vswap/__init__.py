"""More memory than the machine allows: a virtual swap space in user space.

Importing this package loads nothing but this file: neither the native library
nor NumPy.  A system on which vswap cannot work therefore still imports it, and
the first use says why.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vswap.devices import Device
    from vswap.errors import (
        CapacityError,
        ConfigError,
        EngineMismatchError,
        SpaceInUseError,
        UnsupportedKernelError,
        VswapError,
    )
    from vswap.groups import Group, GroupStats
    from vswap.space import SwapSpace, current
    from vswap.stats import SpaceStats

__version__ = "0.1.0"

__all__ = [
    "CapacityError",
    "ConfigError",
    "Device",
    "EngineMismatchError",
    "Group",
    "GroupStats",
    "SpaceInUseError",
    "SpaceStats",
    "SwapSpace",
    "UnsupportedKernelError",
    "VswapError",
    "__version__",
    "current",
]

_HOMES = {
    "CapacityError": "vswap.errors",
    "ConfigError": "vswap.errors",
    "Device": "vswap.devices",
    "EngineMismatchError": "vswap.errors",
    "Group": "vswap.groups",
    "GroupStats": "vswap.groups",
    "SpaceInUseError": "vswap.errors",
    "SpaceStats": "vswap.stats",
    "SwapSpace": "vswap.space",
    "UnsupportedKernelError": "vswap.errors",
    "VswapError": "vswap.errors",
    "current": "vswap.space",
}


def __getattr__(name: str) -> object:
    """Import a public name from its module when it is first asked for."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'vswap' has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
