"""jupyter nbconvert --execute of a pandas notebook: the kernel is a child with sockets and threads."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

from support.capability import delivery, lacking
from support.compile import PROGRAMS
from support.program import Finished, Managed, run
from support.sizes import budget_for, sized

if TYPE_CHECKING:
    from pathlib import Path

ROWS = sized(400_000, 2_500_000)
WITHOUT_SWAP = 0.8
"""Random numbers shrink a little more than two times."""


def execute(folder: Path, how: Managed | None) -> tuple[str, Finished]:
    """The digest the notebook printed."""
    book = folder / ("managed.ipynb" if how else "plain.ipynb")
    run([sys.executable, PROGRAMS / "notebook.py", book, str(ROWS)]).succeeded()
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace"]
    done = run([*command, book], how, timeout=sized(120, 900), cwd=folder).succeeded()
    printed = re.search(r"RESULT (\w{64})", json.dumps(json.loads(book.read_text())))
    assert printed, done.describe()
    return printed[1], done


@pytest.mark.parametrize("swap", ["auto", "none"])
def test_a_notebook_gives_the_same_result(tmp_path: Path, swap: str) -> None:
    delivery("thread")
    for module in ("nbconvert", "ipykernel", "pandas"):
        if importlib.util.find_spec(module) is None:
            lacking(f"the Python package {module}")
    wanted, plain = execute(tmp_path, None)
    ram = max(64, budget_for(plain.touched, swap, WITHOUT_SWAP))
    found, done = execute(tmp_path, Managed(ram, swap=swap))
    assert found == wanted, done.describe()
    done.within(ram)
