"""`vswap bench metadata`: the kernel's cells to the digit, and ours measured."""

from __future__ import annotations

import pytest

from vswap.bench.kernel_metadata import COLUMNS, USES
from vswap.bench.metadata import Measured

CELLS = {
    0: (25, 0, 25, 2),
    25: (57, 48.25, 41, 66.25),
    50: (89, 96.5, 57, 130.5),
    75: (121, 144.75, 73, 194.75),
    100: (153, 193, 89, 259),
}


@pytest.mark.parametrize("use", USES)
def test_every_cell_of_the_kernels_table_is_reproduced(use: int) -> None:
    assert tuple(column.megabytes(use) for column in COLUMNS) == CELLS[use]


def test_a_row_says_whether_its_target_is_met() -> None:
    small = Measured("dense", 100, 8 << 20, 0, 0, 0, 0, 8 << 20, 0)
    assert small.met(1 << 20)
    assert not Measured("dense", 100, 13 << 20, 0, 0, 0, 0, 0, 0).met(1 << 20)
    assert not Measured("dense", 0, 2 << 20, 0, 0, 0, 0, 0, 0).met(1 << 20)
