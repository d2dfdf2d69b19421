"""The record as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from vswap.bench.metrics import BASELINE, METRICS, Metric

if TYPE_CHECKING:
    from vswap.bench.record import Record, Result

BUSY = 0.5
"""Load per core from which other programs show in the figures."""
_MARKS = {True: "[green]", False: "[red]", None: ""}


def show(record: Record) -> None:
    """Print the whole record."""
    console = Console(width=None if Console().is_terminal else 160)
    machine = record.machine
    console.print(
        f"vswap {machine['vswap']} · Linux {machine['kernel']} · {machine['cpu']} · "
        f"{machine['cores']} cores · {record.pages * 4096 >> 20} MiB of Python-heap-like pages · "
        f"one thread on CPU {record.cpu} · medians of {record.repeats} "
        f"(swap-out: {3 * record.repeats}), contents verified after every swap-in"
    )
    if float(machine["load"]) > BUSY * int(machine["cores"]):
        console.print(
            f"[yellow]The machine is busy (load {machine['load']} before the start): "
            "times are those of a thread that has to wait for its CPU.[/]"
        )
    console.print(_figures(record))
    _details(console, record)


def _figures(record: Record) -> Table:
    table = Table(
        title=f"± is half the range of the turns; in brackets, against {BASELINE}: the median of the turns' own"
    )
    table.add_column("")
    for result in record.results:
        table.add_column(result.contender, justify="right")
    table.add_column("target", justify="right")
    for metric in METRICS:
        cells = [_cell(metric, result) for result in record.results]
        table.add_row(f"{metric.title}, {metric.unit}", *cells, _targets(metric))
    return table


def _cell(metric: Metric, result: Result) -> str:
    figure = result.figures.get(metric.key)
    if figure is None:
        return "–"
    spread = (figure.high - figure.low) / 2 / figure.median * 100 if figure.median else 0.0
    text = f"{figure.median:.2f} ±{spread:.0f}%"
    if figure.against_baseline is not None and result.contender != BASELINE:
        text += f" ({figure.against_baseline:.2f}{metric.compared.value})"
    mark = _MARKS[figure.met]
    return f"{mark}{text}[/]" if mark else text


def _targets(metric: Metric) -> str:
    wanted = {str(target) for target in metric.targets.values()}
    if len(wanted) <= 1:
        return next(iter(wanted), "")
    return ", ".join(
        f"{name.removeprefix('vswap-')} {target}" for name, target in metric.targets.items()
    )


def _details(console: Console, record: Record) -> None:
    """Latencies at the tail, where the metadata goes, and why a column is empty."""
    for result in record.results:
        if result.status != "ok":
            console.print(f"{result.contender}: {result.status}: {result.reason}", markup=False)
            continue
        tails = "; ".join(
            f"{name.removeprefix('swap_in_')} {values['p50']:.1f} / {values['p99']:.1f}"
            for name, values in result.latencies_us.items()
        )
        console.print(f"{result.contender}: p50 / p99 of one touch in µs: {tails}")
        if result.overhead_per_page:
            parts = ", ".join(
                f"{what} {size:.1f}" for what, size in result.overhead_per_page.items()
            )
            console.print(f"    bytes per page beyond the compressed ones: {parts}")
