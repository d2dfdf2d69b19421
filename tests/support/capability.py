"""What a test needs of the machine; a missing capability is named in the skip.

As root with the packages of tools/packages.txt installed none of these may be missing, so there a
missing one is a failure, not a skip.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def lacking(what: str) -> NoReturn:
    """Skip, naming the capability; as root that is a failure, unless VSWAP_TEST_MAY_SKIP is set."""
    if os.geteuid() == 0 and not os.environ.get("VSWAP_TEST_MAY_SKIP"):
        pytest.fail(f"this machine lacks {what}; as root no test may be skipped")
    pytest.skip(f"needs {what}")


def tool(name: str, package: str = "") -> str:
    """Full path of a program."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        lacking(f"{name} (package {package or name})")
    return found


def privileged_userfaultfd() -> None:
    """Thread mode: kernel faults too must reach the handler."""
    if os.geteuid() == 0 or os.access("/dev/userfaultfd", os.R_OK | os.W_OK):
        return
    allowed = Path("/proc/sys/vm/unprivileged_userfaultfd")
    if not allowed.exists() or allowed.read_text().strip() != "1":
        lacking("a privileged userfaultfd (root, /dev/userfaultfd or the sysctl)")


def delivery(faults: str) -> None:
    """What the fault delivery `faults` needs."""
    if faults == "thread":
        privileged_userfaultfd()


def root() -> None:
    """Root."""
    if os.geteuid() != 0:
        lacking("root")
