"""The figures shown, how each compares with zram-lz4, and what was promised for each."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from enum import Enum

BASELINE = "zram-lz4"


class Compared(Enum):
    """How a figure relates to the baseline's."""

    TIME = "x time"
    THROUGHPUT = "x throughput"
    RATIO = "x"

    def ratio(self, value: float, baseline: float) -> float | None:
        """`value` against `baseline`, None when there is nothing to divide by."""
        top, bottom = (baseline, value) if self is Compared.THROUGHPUT else (value, baseline)
        return top / bottom if bottom else None


@dataclass(frozen=True)
class Target:
    """A promise: the ratio to the baseline, or the figure itself, is at most or at least this."""

    bound: float
    at_least: bool
    of_ratio: bool

    def met_by(self, value: float, ratio: float | None) -> bool | None:
        """Whether the promise is kept; None when there is no baseline to say so."""
        judged = ratio if self.of_ratio else value
        if judged is None:
            return None
        return judged >= self.bound if self.at_least else judged <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}{'x' if self.of_ratio else ''}"


@dataclass(frozen=True)
class Metric:
    """One line of the table."""

    key: str
    title: str
    unit: str
    compared: Compared
    targets: dict[str, Target] = field(default_factory=dict)


def _both(target: Target) -> dict[str, Target]:
    return {"vswap-thread": target, "vswap-signal": target}


METRICS = (
    Metric(
        "swap_in_random",
        "swap-in, random (every page once)",
        "µs/page",
        Compared.TIME,
        {"vswap-thread": Target(2.2, False, True), "vswap-signal": Target(1.35, False, True)},
    ),
    Metric("swap_in_sparse", "swap-in, one page per 64 KiB, random", "µs/page", Compared.TIME),
    Metric(
        "swap_in_sequential",
        "swap-in, sequential",
        "µs/page",
        Compared.THROUGHPUT,
        _both(Target(1.8, True, True)),
    ),
    Metric("swap_out", "swap-out, wall", "µs/page", Compared.THROUGHPUT),
    Metric(
        "swap_out_cpu",
        "swap-out, CPU of all threads",
        "µs/page",
        Compared.THROUGHPUT,
        _both(Target(1.5, True, True)),
    ),
    Metric("first_touch", "first touch, far from the budget", "µs/page", Compared.TIME),
    Metric("ratio", "compression", "x", Compared.RATIO),
    Metric(
        "metadata",
        "beyond the compressed bytes",
        "B/page",
        Compared.RATIO,
        _both(Target(40.0, False, False)),
    ),
)


@dataclass(frozen=True)
class Figure:
    """One cell: the median of the turns, its spread, and what it means."""

    median: float
    low: float
    high: float
    against_baseline: float | None
    target: Target | None

    @property
    def met(self) -> bool | None:
        """Whether the target, if any, is reached."""
        return self.target.met_by(self.median, self.against_baseline) if self.target else None


def figure(
    metric: Metric, contender: str, samples: list[float], baseline: list[float] | None
) -> Figure:
    """Summarise one contender's samples of one metric.

    The comparison is the median of the turns' own, sample by sample: what was measured minutes apart may have
    been measured at different speeds of the machine.
    """
    ratios = [
        metric.compared.ratio(value, beside)
        for value, beside in zip(samples, baseline or (), strict=False)
    ]
    told = [ratio for ratio in ratios if ratio is not None]
    against = statistics.median(told) if told else None
    target = metric.targets.get(contender)
    return Figure(statistics.median(samples), min(samples), max(samples), against, target)
