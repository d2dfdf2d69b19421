"""What `vswap bench writes` makes of its counters."""

from __future__ import annotations

import pytest

from vswap.bench.kernel_swap import Written
from vswap.bench.writes import Outcome, percent_of


def test_bytes_are_told_for_each_page_that_left_memory() -> None:
    kernel = Outcome("kernel swap", "x", 1000, 4_096_000, 400, 600, None)
    ours = Outcome("vswap", "x", 4000, 4_096_000, 16, 0, 100.0)
    assert (kernel.bytes_per_page, ours.bytes_per_page) == (4096, 1024)
    assert ours.bytes_per_request == 256_000
    assert percent_of(kernel, ours) == pytest.approx(25.0)


def test_a_job_that_swaps_nothing_is_no_division_by_zero() -> None:
    nothing = Outcome("vswap", "", 0, 0, 0, 0, 0.0)
    assert (nothing.bytes_per_page, nothing.bytes_per_request) == (0, 0)


def test_what_a_device_was_given_is_a_difference() -> None:
    assert Written(5, 3, 4096) - Written(1, 1, 512) == Written(4, 2, 3584)
