"""The report of a run: what was held, what moved, what it cost.

Counts of all processes of the tree are added.  A peak is the highest of one
process, since the budget is one of each process.
"""

from __future__ import annotations

from vswap.histogram import merge, quantile
from vswap.sizes import MIB, PAGE_SIZE, format_count, format_duration, format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from vswap.run.supervise import Ended
    from vswap.run.tree import ProcessRecord

TOLERABLE_WAITING = 0.05
"""Share of its time a program may wait for vswap before a larger budget is named."""

FORMAT_VERSION = 1
_SHOWN_PROCESSES = 8
_DELIVERY = {1: "thread", 2: "signal"}


class Summary:
    """Everything the report tells, one number each, in the order of the JSON.

    Not a NamedTuple: ``typing`` costs more time than all of the report.
    """

    processes: int
    fault_delivery: str
    ram_budget_bytes: int
    held_peak_bytes: int
    unmanaged_peak_bytes: int
    swapped_peak_bytes: int
    compression_ratio: float | None
    same_word_pages: int
    faults: int
    fault_p50_ns: int
    fault_p99_ns: int
    swap_out_pages: int
    swap_in_pages: int
    workingset_refault_pages: int
    workingset_activate_pages: int
    device_written_bytes: int
    device_read_bytes: int
    waited_seconds: float
    alloc_failures: int
    poisoned_pages: int
    device_errors: int
    suggested_ram_bytes: int | None

    def __init__(self, **values: Any) -> None:
        """Keep the values, which are all of those above."""
        self.__dict__.update({name: values[name] for name in self.__annotations__})


def summarise(records: Sequence[ProcessRecord], budget: int, wall_seconds: float) -> Summary:
    """Return the summary of all processes."""
    latencies = merge([record.latencies for record in records])
    waited = _sum(records, "waited_ns") / 1e9
    swapped = _most(records, "swapped_peak_pages") * PAGE_SIZE
    modes = {_DELIVERY.get(r.counters["mode"], "") for r in records} - {""}
    return Summary(
        processes=len(records),
        fault_delivery="+".join(sorted(modes)) or "none",
        ram_budget_bytes=_most(records, "ram_budget_bytes") or budget,
        held_peak_bytes=_most(records, "held_peak_bytes"),
        unmanaged_peak_bytes=_most(records, "unmanaged_peak_bytes"),
        swapped_peak_bytes=swapped,
        compression_ratio=_ratio(records),
        same_word_pages=_sum(records, "swap_out_same_pages"),
        faults=_sum(records, "faults"),
        fault_p50_ns=quantile(latencies, 0.50),
        fault_p99_ns=quantile(latencies, 0.99),
        swap_out_pages=_sum(records, "swap_out_pages"),
        swap_in_pages=_sum(records, "swap_in_pages"),
        workingset_refault_pages=_sum(records, "workingset_refault_pages"),
        workingset_activate_pages=_sum(records, "workingset_activate_pages"),
        device_written_bytes=_sum(records, "device_written_bytes"),
        device_read_bytes=_sum(records, "device_read_bytes"),
        waited_seconds=waited,
        alloc_failures=_sum(records, "alloc_failures"),
        poisoned_pages=_sum(records, "poisoned_pages"),
        device_errors=_sum(records, "device_errors"),
        suggested_ram_bytes=suggest_ram(budget, swapped, waited, wall_seconds),
    )


def suggest_ram(budget: int, swapped_peak: int, waited: float, wall: float) -> int | None:
    """Return a budget that would have cost less than 5 % waiting; None if this one did.

    If this is wrong it is too high: waiting is taken to fall in a straight line
    from what it was to nothing when everything fits, but the pages used least
    are the first to fit without cost.
    """
    working = max(wall - waited, wall * 0.05)
    if waited <= TOLERABLE_WAITING * working or swapped_peak == 0:
        return None
    share = 1.0 - TOLERABLE_WAITING * working / waited
    return -(-int(budget + swapped_peak * share) // MIB) * MIB


def _ratio(records: Sequence[ProcessRecord]) -> float | None:
    """Return how many times smaller pages became that were compressed at all."""
    pages = _sum(records, "swap_out_pages") - _sum(records, "swap_out_same_pages")
    stored = _sum(records, "swap_out_bytes")
    return pages * PAGE_SIZE / stored if pages > 0 and stored > 0 else None


def _sum(records: Sequence[ProcessRecord], name: str) -> int:
    """Add a counter over all processes."""
    return sum(record.counters[name] for record in records)


def _most(records: Sequence[ProcessRecord], name: str) -> int:
    """Return the highest value of one process."""
    return max((record.counters[name] for record in records), default=0)


def render_text(summary: Summary, ended: Ended, records: Sequence[ProcessRecord]) -> str:
    """Return the report for people."""
    rows = _rows(summary, ended)
    width = max(len(name) for name, _ in rows)
    lines = ["vswap report", *(f"  {name:<{width}}  {value}" for name, value in rows)]
    if summary.processes > 1:
        lines.append(f"  highest RAM held by each of {summary.processes} processes:")
        held = sorted(records, key=lambda r: r.counters["held_peak_bytes"], reverse=True)
        lines += [
            f"    {format_size(r.counters['held_peak_bytes']):>10}  {r.exe or '?'} ({r.pid})"
            for r in held[:_SHOWN_PROCESSES]
        ]
    return "\n".join([*lines, *_warnings(summary)]) + "\n"


def _rows(summary: Summary, ended: Ended) -> list[tuple[str, str]]:
    """Return the lines that are always there."""
    s = summary
    ratio = f"{s.compression_ratio:.2f}" if s.compression_ratio else "-"
    share = s.waited_seconds / ended.wall_seconds * 100 if ended.wall_seconds > 0 else 0.0
    return [
        ("RAM budget", format_size(s.ram_budget_bytes)),
        ("highest RAM held", format_size(s.held_peak_bytes)),
        ("of that unmanaged", f"{format_size(s.unmanaged_peak_bytes)} at most"),
        ("most swapped out", f"{format_size(s.swapped_peak_bytes)} at once"),
        ("compression ratio", ratio),
        ("pages of one word", format_count(s.same_word_pages)),
        ("faults", f"{format_count(s.faults)} ({s.fault_delivery})"),
        ("fault p50, p99", f"{format_duration(s.fault_p50_ns)}, {format_duration(s.fault_p99_ns)}"),
        ("pages out, in", f"{format_count(s.swap_out_pages)}, {format_count(s.swap_in_pages)}"),
        (
            "refaults, active",
            f"{format_count(s.workingset_refault_pages)} pages came back, "
            f"{format_count(s.workingset_activate_pages)} so soon that they were spared since",
        ),
        ("devices written", format_size(s.device_written_bytes)),
        ("devices read", format_size(s.device_read_bytes)),
        (
            "waited for vswap",
            f"{s.waited_seconds:.2f} s of {ended.wall_seconds:.2f} s ({share:.1f} %, all threads)",
        ),
        ("budget for < 5 %", _advice(s)),
    ]


def _advice(summary: Summary) -> str:
    """Say which budget would have cost little."""
    if summary.suggested_ram_bytes is None:
        return "this one"
    return f"about {format_size(summary.suggested_ram_bytes)} (estimated)"


def _warnings(summary: Summary) -> list[str]:
    """Say what went wrong, one line each."""
    lines = []
    if summary.processes == 0:
        lines.append("  no engine was needed: no process asked for enough memory to start one")
    if summary.alloc_failures:
        lines.append(
            f"  {format_count(summary.alloc_failures)} allocations were refused: nothing more "
            f"could be moved out (give more --ram, or --swap with more room)"
        )
    if summary.device_errors:
        lines.append(
            f"  {format_count(summary.device_errors)} errors of swap devices: a device that "
            f"fails is not written again"
        )
    if summary.poisoned_pages:
        lines.append(
            f"  {format_count(summary.poisoned_pages)} pages could not be read back and were "
            f"poisoned: the program got SIGBUS there, never wrong bytes"
        )
    return lines


def render_json(
    summary: Summary, ended: Ended, records: Sequence[ProcessRecord], command: Sequence[str]
) -> dict[str, Any]:
    """Return the report for programs."""
    return {
        "format": FORMAT_VERSION,
        "command": list(command),
        "exit_status": ended.exit_status,
        "signal": ended.signal,
        "wall_seconds": ended.wall_seconds,
        "max_rss_bytes": ended.max_rss_bytes,
        **vars(summary),
        "per_process": [
            {"pid": record.pid, "exe": record.exe, "counters": record.counters}
            for record in records
        ],
    }
