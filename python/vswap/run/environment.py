"""The environment a command is started with."""

from __future__ import annotations

import os

from vswap._library import SONAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from vswap.run.options import RunOptions

TREE_FD = "VSWAP_TREE_FD"
TREE_PATH = "VSWAP_TREE_PATH"


def is_off(environ: Mapping[str, str]) -> bool:
    """Whether ``VSWAP=off`` switches everything off."""
    return environ.get("VSWAP", "").strip().lower() == "off"


def command_environment(
    environ: Mapping[str, str], options: RunOptions, library: str, tree_fd: int | None
) -> dict[str, str]:
    """Return ``environ`` with the engine preloaded and told its configuration."""
    made = dict(environ)
    made["LD_PRELOAD"] = preload_list(environ.get("LD_PRELOAD", ""), library)
    made["VSWAP_RAM"] = str(options.ram)
    made["VSWAP_SWAP"] = ",".join(options.swap)
    made["VSWAP_CODEC"] = options.codec
    made["VSWAP_DEDUP"] = options.dedup
    made.pop("VSWAP_GROUP", None)
    if options.group:
        made["VSWAP_GROUP"] = options.group
    made["VSWAP_VIRTUAL"] = "no" if options.direct else "yes"
    made["VSWAP_FAULTS"] = options.faults
    made["VSWAP_MIN_ALLOC"] = "auto" if options.min_alloc is None else str(options.min_alloc)
    # A vswap run inside the command reports when it is asked to, not because we were.
    for name in ("VSWAP_REPORT", "VSWAP_REPORT_JSON", "VSWAP_ALLOW_UNMANAGED"):
        made.pop(name, None)
    if options.allow_unmanaged:
        made["VSWAP_ALLOW_UNMANAGED"] = "1"
    if tree_fd is not None:
        made[TREE_FD] = str(tree_fd)
        # For processes whose starter closes descriptors, as Python's subprocess does.
        made[TREE_PATH] = f"/proc/{os.getpid()}/fd/{tree_fd}"
    return made


def preload_list(existing: str, library: str) -> str:
    """Return LD_PRELOAD with our library first and no other engine in it.

    First, so that allocators preloaded besides are called by it and not instead.
    """
    others = [part for part in existing.replace(":", " ").split() if not _is_engine(part)]
    return ":".join([library, *others])


def _is_engine(path: str) -> bool:
    """Whether this entry is a vswap engine, of whichever version."""
    return os.path.basename(path).startswith(SONAME.rsplit(".", 1)[0])
