"""What a contender is: memory that can be pushed out and faulted back in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from vswap.bench.data import Bytes


class Unavailable(Exception):
    """This contender cannot run here; the message is the reason shown in the table."""


@dataclass(frozen=True)
class Held:
    """What pages that are out cost, as the contender itself accounts for it."""

    pages_out: int
    compressed_bytes: int
    overhead_bytes: dict[str, int] = field(default_factory=dict)
    """Everything beyond the compressed bytes, by what it is for."""


class Contender(Protocol):
    """One way to have more memory than RAM."""

    name: str

    def open(self, pages: int, data: Path) -> None:
        """Get ready for `pages` pages; raises `Unavailable` with the reason."""

    def fresh(self) -> Bytes:
        """Never touched memory of the full size."""

    def drop(self, memory: Bytes) -> None:
        """Give `fresh` memory back."""

    def push_out(self, memory: Bytes) -> None:
        """Swap everything out; returns when the last page is out."""

    def held(self) -> Held:
        """The cost of what is out now."""

    def close(self) -> None:
        """Give everything back."""
