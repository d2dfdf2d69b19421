"""What the doctor says of kernels without UFFDIO_MOVE."""

from __future__ import annotations

import pytest

from vswap.doctor import aside, checks
from vswap.doctor.finding import LIMITED, MISSING, OK
from vswap.doctor.userfaultfd import FEATURES, Attempt, Userfaultfd

SIGBUS, MOVE = (
    next(bit for bit in FEATURES if FEATURES[bit] == name) for name in ("SIGBUS", "MOVE")
)


def kernel_with(*bits: int) -> Userfaultfd:
    works = Attempt(sum(1 << bit for bit in bits), 0)
    return Userfaultfd(works, works, works)


def test_where_pages_cannot_be_moved_they_are_copied_and_the_doctor_says_so() -> None:
    assert aside.obstacle() == ""
    assert checks.kernel(kernel_with(SIGBUS, MOVE)).status == OK
    old = kernel_with(SIGBUS)
    finding = checks.kernel(old)
    assert (finding.status, finding.data["without_move"]) == (LIMITED, "works")
    assert "pages are copied out" in finding.found
    works, told = checks.verdict(old, [finding])
    assert works
    assert "copies pages" in told


def test_where_they_cannot_be_copied_safely_either_vswap_cannot_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "obstacle", lambda: "mbind: EPERM")
    finding = checks.kernel(kernel_with(SIGBUS))
    assert finding.status == MISSING
    assert "mbind: EPERM" in finding.found
    assert "SYS_NICE" in finding.fix
    assert checks.verdict(kernel_with(SIGBUS), [finding])[0] is False
    assert checks.kernel(kernel_with(SIGBUS, MOVE)).status == OK
