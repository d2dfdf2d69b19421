"""Which engine thread serves a fault, in thread delivery: the one on the CPU of the thread that faulted."""

from __future__ import annotations

import json
import os
from textwrap import dedent
from typing import Any

from support.capability import delivery, lacking
from support.child import Child

PRELUDE = """
import json
import os
import time
from pathlib import Path
import numpy as np
import vswap
PAGE = 4096
CPUS = sorted(os.sched_getaffinity(0))[:2]
space = vswap.SwapSpace("64M", devices=[], faults="thread")
PAGES = 8192
array = space.empty((PAGES, PAGE // 8), "u8")
array[:] = np.arange(PAGES * (PAGE // 8), dtype="u8").reshape(array.shape)
def touch(page):
    assert array[page, 0] == page * (PAGE // 8), page
def end():
    wrong = array != np.arange(PAGES * (PAGE // 8), dtype="u8").reshape(array.shape)
    assert not wrong.any()
    assert space.check() == (), space.check()
def handlers_by_cpu():
    found, until = {}, time.monotonic() + 30
    while not found.keys() >= set(CPUS):  # each names itself and goes to its CPU when it first runs
        assert time.monotonic() < until, found
        for task in Path("/proc/self/task").iterdir():
            cpus = os.sched_getaffinity(int(task.name))
            if len(cpus) == 1 and (task / "comm").read_text().startswith("vswap-fault/"):
                found[cpus.pop()] = task
    return found
def sleeps(task):
    lines = (task / "status").read_text().splitlines()
    return int(next(l for l in lines if l.startswith("voluntary_ctxt")).split()[1])
"""


def told_by(body: str) -> Any:
    delivery("thread")
    if len(os.sched_getaffinity(0)) < 2:
        lacking("two CPUs to run on")
    return json.loads(Child(None)(PRELUDE + dedent(body), timeout=150))


def test_faults_are_served_on_the_cpu_where_they_happen_also_beside_a_busy_engine_thread() -> None:
    """What is read ahead keeps the other CPU awake, and its handler quick."""
    here, there = told_by(
        """
        handlers = handlers_by_cpu()
        os.sched_setaffinity(0, {CPUS[1]})
        space.evict(array)
        before = [sleeps(handlers[cpu]) for cpu in reversed(CPUS)]
        for _ in range(20):
            for page in range(PAGES):
                touch(page)
            space.evict(array)
        after = [sleeps(handlers[cpu]) for cpu in reversed(CPUS)]
        end()
        print(json.dumps([then - now for now, then in zip(before, after)]))
        """
    )
    print(here, there)
    assert here > 1000, "too few faults to tell"
    assert there * 2 < here


def test_a_thread_that_moves_from_cpu_to_cpu_is_served_wherever_it_is() -> None:
    faults = told_by(
        """
        order = np.random.default_rng(7).permutation(PAGES)
        before = space.stats().faults
        for round, start in enumerate(range(0, PAGES, 64)):
            if start % 2048 == 0:
                space.evict(array)
            os.sched_setaffinity(0, {CPUS[round % 2]})
            for page in order[start:start + 64]:
                touch(page)
        faults = space.stats().faults - before
        end()
        print(json.dumps(faults))
        """
    )
    assert faults > 4000
