"""What reclaim spares, under programs that verify themselves: stress-ng, and the flights job."""

from __future__ import annotations

from typing import Any

import pytest

from support.capability import delivery, tool
from support.live import flights
from support.program import Managed, run
from support.sizes import sized

OPERATIONS = sized("300", "3000")
LOOP_MIB, RAM_MIB = 64, 56


def loop(policy: str, faults: str) -> dict[str, Any]:
    """Counters of a stressor that goes through its memory again and again, verifying it."""
    command = [
        tool("stress-ng"),
        "--vm",
        "1",
        "--vm-bytes",
        f"{LOOP_MIB}M",
        "--vm-keep",
        "--verify",
    ]
    command += ["--vm-method", "incdec", "--vm-ops", OPERATIONS, "--oomable"]
    how = Managed(RAM_MIB, faults=faults)
    done = run(command, how, env={"VSWAP_POLICY": policy}).succeeded().within(RAM_MIB)
    assert "successful run completed" in done.err, done.describe()
    assert "detected" not in done.err, done.describe()
    counted = [process["counters"] for process in done.report["per_process"]]
    return dict(max(counted, key=lambda counters: counters["swap_out_pages"]))


@pytest.mark.parametrize("faults", ["thread", "signal"])
def test_of_stress_ngs_loop_larger_than_its_budget_most_stays_in_memory(faults: str) -> None:
    delivery(faults)
    fifo, ours = loop("fifo", faults), loop("workingset", faults)
    assert fifo["workingset_activate_pages"] == 0
    assert fifo["workingset_refault_pages"] > 50_000, fifo
    assert ours["workingset_refault_pages"] > ours["workingset_activate_pages"] > 1000, ours
    assert ours["workingset_refault_pages"] * 3 < fifo["workingset_refault_pages"] * 2, (ours, fifo)
    assert ours["swap_out_pages"] * 3 < fifo["swap_out_pages"] * 2, (ours, fifo)


def test_the_flights_job_has_what_it_uses_again_spared(flights_line: str) -> None:
    with flights("--ram", "400M") as job:
        before = job.counters()
        assert job.work() == flights_line
        after = job.counters()
        refaults = after["workingset_refault_pages"] - before["workingset_refault_pages"]
        activated = after["workingset_activate_pages"] - before["workingset_activate_pages"]
        assert 0 < activated <= refaults, (before, after)
        assert after["active_blocks"] > 0
        assert job.is_lawful()
