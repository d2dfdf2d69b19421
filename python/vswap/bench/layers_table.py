"""What `vswap bench layers` prints."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vswap.bench.data import PAGE_SIZE
from vswap.bench.layers_replay import (
    CROSSINGS,
    OPERATIONS,
    STEP_PAGES,
    crossings_of,
    overhead_percent,
)
from vswap.bench.sequence import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence as SequenceOf

    from vswap.bench.layers_replay import Mode
    from vswap.bench.recorded_run import RecordedRun
    from vswap.bench.sequence import Sequence

MOST_OVERHEAD_PERCENT = 2.0
"""What the layer may add to the time of a swap-out and of a swap-in."""


def show(sequence: Sequence, modes: SequenceOf[Mode], run: RecordedRun | None) -> None:
    """Print the command's own run where there was one, then the replays: times, then crossings."""
    console = Console(width=None if Console().is_terminal else 140)
    if run is not None:
        _show_run(console, run)
        _show_part(console, sequence)
    console.print(_times(sequence, modes))
    console.print(_crossings(modes))
    console.print(
        "direct: the page's word holds its slot. virtual: the swap layer between, the same slots, nothing compressed.\n"
        "Medians of the repeats; in brackets the least and the most. In each repeat both go side by side, "
        f"{STEP_PAGES * PAGE_SIZE // MIB} MiB at a time;\n"
        "what the layer adds is the median of the repeats' own ratios. Contents verified where touched, and all at the end "
        "of each repeat.\n"
        f"Target: virtual at most {MOST_OVERHEAD_PERCENT:g} % above direct at swap-out and swap-in.",
        highlight=False,
    )


def _show_run(console: Console, run: RecordedRun) -> None:
    """The process that swapped in most: what its events took, and what it crossed in all."""
    process = run.processes[0]
    name = escape(f"{process.exe or '?'} ({process.events.pid})")
    took = Table(title=f"the command's own run, {run.wall_seconds:.2f} s: {name}")
    for head in (
        "event",
        "events",
        "pages",
        "in all, ms",
        "mean ns",
        "p50 ns",
        "p99 ns",
        "most ns",
    ):
        took.add_column(head, justify="left" if head == "event" else "right")
    for event, told in process.times().items():
        mean = told["sum_ns"] / max(told["events"], 1)
        figures = (mean, told["p50_ns"], told["p99_ns"], told["most_ns"])
        counts = (f"{told['events']:,.0f}", f"{process.pages_of(event):,}")
        took.add_row(
            event, *counts, f"{told['sum_ns'] / 1e6:,.1f}", *(f"{n:,.0f}" for n in figures)
        )
    console.print(took)
    crossed = Table(title=f"crossings, of {process.moved_pages:,} pages that went out or came in")
    crossings = crossings_of(process.counters)
    for crossing in ("", *crossings):
        crossed.add_column(crossing.replace("_", " "), justify="right" if crossing else "left")
    crossed.add_row("in all", *(f"{count:,}" for count in crossings.values()))
    per_page = (count / max(process.moved_pages, 1) for count in crossings.values())
    crossed.add_row("a page", *(f"{figure:.2f}" for figure in per_page))
    console.print(crossed)
    for line in _remarks(run):
        console.print(line, highlight=False)


def _remarks(run: RecordedRun) -> list[str]:
    """What the tables do not cover."""
    process = run.processes[0]
    lost, noted = process.events.lost, int(process.events.kinds.size)
    lines = []
    if lost:
        lines.append(
            f"{lost:,} of {lost + noted:,} events were lost, written over before they were read: times and "
            f"sequence are of the others. Crossings are counters, which lose nothing."
        )
    else:
        lines.append(f"All {noted:,} events were read; none was lost.")
    others = len(run.processes) - 1
    if others:
        lines.append(
            f"{others} more processes of the command had an engine; this one swapped in most."
        )
    if run.unknown_processes:
        lines.append(f"{run.unknown_processes} more found no ring, and nothing is known of them.")
    return lines


def _show_part(console: Console, sequence: Sequence) -> None:
    """Which part of the recording is replayed."""
    if sequence.kept_mib < sequence.recorded_mib:
        console.print(
            f"Replayed: {sequence.kept_mib} of {sequence.recorded_mib} MiB of its memory, evenly picked, with "
            f"everything that happened to them.",
            highlight=False,
        )


def _times(sequence: Sequence, modes: SequenceOf[Mode]) -> Table:
    """Nanoseconds a page, and what the layer adds."""
    mib = sequence.pages * PAGE_SIZE / MIB
    rounds = f"{len(sequence.rounds)} rounds, " if len(sequence.rounds) > 2 else ""
    table = Table(
        title=f"{mib:.0f} MiB, {rounds}{sequence.touches:,} touches as recorded: ns a page"
    )
    heads = ("operation", *(mode.name for mode in modes), "CPU direct/virtual", "layer adds", "")
    for head in heads:
        table.add_column(head, justify="left" if head == "operation" else "right")
    direct, virtual = modes[0], modes[1]
    for op in OPERATIONS:
        cells = []
        for mode in modes:
            wall = mode.spent[op].wall_ns
            cells.append(escape(f"{median(wall):,.0f} [{min(wall):,.0f}..{max(wall):,.0f}]"))
        cpu = "/".join(f"{median(mode.spent[op].cpu_ns):,.0f}" for mode in (direct, virtual))
        added = overhead_percent(direct.spent[op], virtual.spent[op])
        met = "[green]met[/]" if added <= MOST_OVERHEAD_PERCENT else "[red]not met[/]"
        table.add_row(op, *cells, cpu, f"{added:+.1f} %", "" if op == "free" else met)
    table.add_row("tables, bytes a page", *(f"{m.table_bytes_per_page:.1f}" for m in modes))
    return table


def _crossings(modes: SequenceOf[Mode]) -> Table:
    """How often a page crossed what, by mode and operation."""
    table = Table(title="crossings a page")
    table.add_column("mode")
    table.add_column("operation")
    for name in CROSSINGS:
        table.add_column(name.replace("_", " "), justify="right")
    for mode in modes:
        for operation in OPERATIONS:
            per_page = mode.spent[operation].crossings_per_page()
            table.add_row(mode.name, operation, *(f"{per_page[name]:.2f}" for name in CROSSINGS))
    return table
