"""The record of one bench: what `--json` prints and what the table is drawn from."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from typing import Any

from vswap.bench.metrics import BASELINE, METRICS, Figure, figure

Said = dict[str, Any]
"""What a worker says of one turn, and what :func:`joined` makes of all."""


@dataclass(frozen=True)
class Result:
    """One contender's outcome: figures by metric, or why there are none."""

    contender: str
    status: str
    reason: str
    figures: dict[str, Figure]
    latencies_us: dict[str, dict[str, float]]
    overhead_per_page: dict[str, float]


@dataclass(frozen=True)
class Record:
    """One run, side by side."""

    machine: dict[str, str | int | float]
    pages: int
    repeats: int
    cpu: int
    results: list[Result]

    def as_json(self) -> dict[str, Any]:
        """Plain dictionaries; each figure says whether its target is met."""
        document = dataclasses.asdict(self)
        for result, plain in zip(self.results, document["results"], strict=True):
            for key, value in result.figures.items():
                plain["figures"][key]["met"] = value.met
        return document


def joined(turns: list[Said]) -> Said:
    """All turns of one contender as one: every sample in order, the last latencies, medians of what bytes are for."""
    last = turns[-1]
    if last["status"] != "ok":
        return last
    samples: dict[str, list[float]] = {}
    overhead: dict[str, list[float]] = {}
    for turn in turns:
        for key, values in turn["samples"].items():
            samples.setdefault(key, []).extend(values)
        for key, value in turn["overhead_per_page"].items():
            overhead.setdefault(key, []).append(value)
    medians = {key: statistics.median(values) for key, values in overhead.items()}
    return {**last, "samples": samples, "overhead_per_page": medians}


def results_of(raw: dict[str, Said]) -> list[Result]:
    """From what the workers said, by contender, to figures against the baseline."""
    baseline = raw.get(BASELINE, {}).get("samples", {})
    return [_result(name, said, baseline) for name, said in raw.items()]


def _result(name: str, said: Said, baseline: dict[str, list[float]]) -> Result:
    samples = said.get("samples", {})
    figures = {
        metric.key: figure(metric, name, samples[metric.key], baseline.get(metric.key))
        for metric in METRICS
        if metric.key in samples
    }
    return Result(
        name,
        said["status"],
        said.get("reason", ""),
        figures,
        said.get("latencies_us", {}),
        said.get("overhead_per_page", {}),
    )
