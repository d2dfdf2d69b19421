"""Wheel build hook: the wheel carries a shared library, so it is for one platform but for any Python."""

import os
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "python/vswap/_lib/libvswap.so.1"


class LibraryHook(BuildHookInterface[Any]):
    """Tags the wheel py3-none-<platform>; an editable install needs no library yet."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Refuse a wheel without its library, and name the platform it was built for."""
        if version == "editable":
            return
        if not (Path(self.root) / LIBRARY).is_file():
            raise FileNotFoundError(
                f"{LIBRARY} is missing: run `make wheel`, which builds it first"
            )
        platform = os.environ.get("VSWAP_WHEEL_PLATFORM", sysconfig.get_platform())
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-" + platform.replace("-", "_").replace(".", "_")
