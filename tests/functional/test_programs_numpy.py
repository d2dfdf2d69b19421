"""NumPy's own test suite inside a space, with the result it has without."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from support.capability import delivery
from support.compile import PROGRAMS
from support.junit import outcomes
from support.program import run
from support.sizes import sized

if TYPE_CHECKING:
    from pathlib import Path

SPACE_RAM = "64M"
WENT_TO_THE_END = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
LEAST_TESTS = sized(100, 40_000)
MODULES = sized(
    (
        "numpy._core.tests.test_indexing",
        "numpy._core.tests.test_mem_overlap",
        "numpy._core.tests.test_shape_base",
        "numpy.fft",
        "numpy.lib.tests.test_io",
        "numpy.lib.tests.test_format",
    ),
    ("numpy",),
)


def suite(junit: Path, ram: str, faults: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Outcomes by test, and what the space did."""
    command = [sys.executable, PROGRAMS / "numpy_suite.py", junit, ram, faults, *MODULES]
    done = run(command, timeout=sized(150, 3600), cwd=junit.parent)
    assert junit.exists(), done.describe()
    assert b"SELF-CHECK" not in done.out, done.describe()
    assert done.status in WENT_TO_THE_END, done.describe()
    marks = [line for line in done.out.decode().splitlines() if line.startswith("SPACE ")]
    return outcomes(junit), json.loads(marks[0][6:]) if marks else {}


@pytest.fixture(scope="module")
def plain(session_folder: Path) -> dict[str, str]:
    found, _ = suite(session_folder / "numpy-plain.xml", "-", "auto")
    assert len(found) > LEAST_TESTS
    return found


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_numpy_tests_itself_in_a_space_of_64_megabytes(
    tmp_path: Path, plain: dict[str, str], faults: str
) -> None:
    delivery(faults)
    found, did = suite(tmp_path / "numpy.xml", SPACE_RAM, faults)
    different = {k: (plain.get(k), found.get(k)) for k in plain.keys() | found.keys()}
    assert {k: v for k, v in different.items() if v[0] != v[1]} == {}
    assert did, "the space left no figures"
