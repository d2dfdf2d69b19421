"""Tables: by rich where it is installed and somebody looks, else plain columns."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> None:
    """Print a table; ``right`` has an ``r`` at each column that is aligned right."""
    if sys.stdout.isatty() and _print_rich(titles, rows, right):
        return
    print(plain_table(titles, rows, right))


def plain_table(titles: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> str:
    """Return a table of aligned columns, for pipes and tests."""
    table = [list(titles), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(titles))]
    lines = []
    for row in table:
        cells = [
            text.rjust(width) if _is_right(right, i) else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _is_right(right: str, index: int) -> bool:
    """Whether a column is aligned right."""
    return right[index : index + 1] == "r"


def _print_rich(titles: Sequence[str], rows: Sequence[Sequence[str]], right: str) -> bool:
    """Print with rich; False where it is not installed."""
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        return False
    table = Table(box=SIMPLE_HEAD)
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if _is_right(right, index) else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    return True
