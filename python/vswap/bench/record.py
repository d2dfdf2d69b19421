"""The record of one bench: what `--json` prints and what the table is drawn from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from vswap.bench.metrics import BASELINE, METRICS, Figure, figure


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


def results_of(raw: dict[str, dict[str, Any]]) -> list[Result]:
    """From what the workers said, by contender, to figures against the baseline."""
    baseline = raw.get(BASELINE, {}).get("samples", {})
    return [_result(name, said, baseline) for name, said in raw.items()]


def _result(name: str, said: dict[str, Any], baseline: dict[str, list[float]]) -> Result:
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
