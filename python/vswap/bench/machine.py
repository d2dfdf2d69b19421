"""Which machine the figures are from."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from vswap import __version__


def machine() -> dict[str, str | int | float]:
    """Kernel, CPU, cores, RAM and versions: without these a figure means nothing."""
    return {
        "vswap": __version__,
        "kernel": platform.release(),
        "cpu": _field(Path("/proc/cpuinfo"), "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "ram_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "huge_pages": _read(Path("/sys/kernel/mm/transparent_hugepage/enabled")),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def _field(path: Path, name: str) -> str:
    for line in _read(path).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return platform.machine()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
