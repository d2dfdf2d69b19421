"""Several threads on one swap layer, against the model of what each of them did."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from support.contending import Contest
from support.sizes import model_seconds

ROUNDS = 6
OPERATIONS = 250
SWITCH_SECONDS = 1e-5
"""Python's threads take turns this often between calls of the engine, which run at once anyway."""


@pytest.fixture(autouse=True)
def short_turns() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.model_seconds
@pytest.mark.parametrize("threads", [2, 3, 4])
@pytest.mark.parametrize("ram_segments", [3, 12])
def test_threads_on_one_layer_get_what_each_would_have_got_alone(
    threads: int, ram_segments: int
) -> None:
    seed, until = 1, time.monotonic() + model_seconds() / 6
    while seed <= 2 or time.monotonic() < until:
        contest = Contest(threads, seed, ram_segments)
        for _ in range(ROUNDS):
            contest.round(OPERATIONS)
        contest.end()
        seed += 1
