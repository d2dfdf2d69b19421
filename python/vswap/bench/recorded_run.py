"""A command run under `vswap run` while every event of it is read from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vswap.bench.event_rings import PATH_VARIABLE, EventRings, Events
from vswap.bench.layers_replay import crossings_of
from vswap.bench.sequence import SWAP_IN_EVENT

if TYPE_CHECKING:
    from collections.abc import Sequence

OWN_FAILURE = 125
LOOK_SECONDS = 0.002
"""A ring holds a tenth of a second of the busiest process, so its reader may be late."""
EVENT_NAMES = {1: "zero-fill", 2: "take-back", 3: "swap-in", 4: "swap-out", 5: "free"}
FREE_EVENT = 5


class RunFailed(Exception):
    """There is nothing to measure, for this reason; the status says whose fault it was."""

    def __init__(self, status: int, reason: str) -> None:
        """Keep both; an empty reason was told already."""
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Process:
    """One process of the command: what it noted and what it counted."""

    exe: str
    events: Events
    counters: dict[str, int]

    @property
    def moved_pages(self) -> int:
        """Pages swapped out and in."""
        return self.counters["swap_out_pages"] + self.counters["swap_in_pages"]

    def times(self) -> dict[str, dict[str, float]]:
        """What each kind of event took, by its name."""
        return {
            name: _times(self.events.took_ns[self.events.kinds == kind])
            for kind, name in EVENT_NAMES.items()
        }

    def pages_of(self, name: str) -> int:
        """Pages that events of this kind were about; a swap-in brings neighbours too."""
        if name == "swap-in":
            return self.counters["swap_in_pages"]
        kind = next(number for number, word in EVENT_NAMES.items() if word == name)
        of = self.events.kinds == kind
        return int(self.events.pages[of].sum()) if kind == FREE_EVENT else int(of.sum())

    def as_json(self) -> dict[str, Any]:
        """Everything known of it."""
        crossings = crossings_of(self.counters)
        moved = max(self.moved_pages, 1)
        return {
            "pid": self.events.pid,
            "exe": self.exe,
            "events": int(self.events.kinds.size),
            "lost_events": self.events.lost,
            "swap_out_pages": self.counters["swap_out_pages"],
            "swap_in_pages": self.counters["swap_in_pages"],
            "waited_ns": self.counters["waited_ns"],
            "times": {name: {"pages": self.pages_of(name), **told} for name, told in self.times().items()},
            "crossings": crossings,
            "crossings_per_moved_page": {name: n / moved for name, n in crossings.items()},
        }  # fmt: skip


def _times(took: Any) -> dict[str, float]:
    """Count, sum and spread of durations."""
    if not took.size:
        return {"events": 0, "sum_ns": 0, "p50_ns": 0.0, "p99_ns": 0.0, "most_ns": 0}
    return {
        "events": int(took.size),
        "sum_ns": int(took.sum(dtype=np.uint64)),
        "p50_ns": float(np.percentile(took, 50)),
        "p99_ns": float(np.percentile(took, 99)),
        "most_ns": int(took.max()),
    }


@dataclass(frozen=True)
class RecordedRun:
    """The command's processes that had an engine, the one that swapped in most first."""

    command: list[str]
    wall_seconds: float
    processes: list[Process]
    unknown_processes: int


def record_command(command: Sequence[str], run_options: Sequence[str]) -> RecordedRun:
    """Run it; RunFailed where it failed, or nothing of it was swapped in."""
    rings = EventRings()
    try:
        with tempfile.TemporaryDirectory(prefix="vswap-layers-") as folder:
            report = Path(folder) / "report.json"
            words = [sys.executable, "-m", "vswap", "run", *run_options]
            words += ["--report-json", str(report), "--", *command]
            status = _run(words, rings)
            told = _read_report(report, status)
        processes = _matched(rings.events(), told["per_process"])
        run = RecordedRun(list(command), told["wall_seconds"], processes, rings.without_ring)
    finally:
        rings.close()
    _require_something(run)
    return run


def _run(words: Sequence[str], rings: EventRings) -> int:
    """Start, read events until it has ended, and return its status; what it prints goes to stderr."""
    environ = {**os.environ, PATH_VARIABLE: rings.path}
    child = subprocess.Popen(words, env=environ, stdout=sys.stderr.fileno())
    try:
        while child.poll() is None:
            rings.read()
            time.sleep(LOOK_SECONDS)
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()
    rings.read(ended=True)
    return child.returncode


def _read_report(report: Path, status: int) -> dict[str, Any]:
    """Return what `vswap run` reported; RunFailed where the command did not start or failed."""
    try:
        told: dict[str, Any] = json.loads(report.read_text())
    except (OSError, ValueError):
        if status > 0:
            raise RunFailed(status, "") from None  # `vswap run` has said why
        reason = "the command ran without vswap (VSWAP=off?)"
        if status < 0:
            reason = f"vswap run was killed by signal {-status}"
        raise RunFailed(OWN_FAILURE, reason) from None
    if told["signal"] is not None:
        reason = f"the command was killed by signal {told['signal']}; nothing is measured of it"
        raise RunFailed(128 + int(told["signal"]), reason)
    if told["exit_status"]:
        reason = f"the command ended with status {told['exit_status']}; nothing is measured of it"
        raise RunFailed(int(told["exit_status"]), reason)
    return told


def _matched(events: Sequence[Events], reported: Sequence[dict[str, Any]]) -> list[Process]:
    """Each ring with the counters of its engine: a process that executed another has several of both, in order."""
    left = list(reported)
    processes = []
    for noted in events:
        at = next((i for i, told in enumerate(left) if told["pid"] == noted.pid), None)
        if at is not None:
            told = left.pop(at)
            processes.append(Process(told["exe"], noted, told["counters"]))
    return sorted(processes, key=lambda one: -int((one.events.kinds == SWAP_IN_EVENT).sum()))


def _require_something(run: RecordedRun) -> None:
    if not run.processes:
        reason = "no process of the command asked for enough memory to start an engine"
        raise RunFailed(OWN_FAILURE, f"{reason}: there is nothing to replay")
    if not run.processes[0].counters["swap_in_pages"]:
        reason = "no page of the command left memory and came back"
        raise RunFailed(OWN_FAILURE, f"{reason}: give it less with --ram")
