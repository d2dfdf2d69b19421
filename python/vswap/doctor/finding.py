"""One thing looked at: what was found, and the line that mends it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

OK, LIMITED, MISSING = "ok", "limited", "missing"


class Finding(NamedTuple):
    """The result of one check; ``data`` is for ``--json``."""

    name: str
    status: str
    found: str
    fix: str = ""
    data: Mapping[str, Any] = MappingProxyType({})

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {**self._asdict(), "data": dict(self.data)}
