"""What a test run of somebody else's suite came to."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def outcomes(junit: Path) -> dict[str, str]:
    """What became of each test: its name and whether it passed, was skipped or failed."""
    found: dict[str, str] = {}
    for case in ElementTree.parse(junit).iter("testcase"):
        name = f"{case.get('classname', '')} {case.get('name', '')}"
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        found[name] = ",".join(sorted(kinds)) or "passed"
    return found
