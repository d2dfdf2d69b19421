"""Measures the README's one number and writes it: docs/figures.json, and the README's place for it.

Nobody types this number in. `make figures` runs the flights job plainly and under vswap, turn by turn;
tests/unit/test_docs.py fails where the README says anything else than the file.
"""

import json
import os
import platform
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from demo import BUDGET_MIB, MIB, PLAIN, VSWAP
from measure import Run, run

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- figure: begin -->\n", "<!-- figure: end -->\n"
TURNS = 5


def sentence(figures: dict[str, Any]) -> str:
    """Return what the README says about the figures, the way of measuring included."""
    flights = figures.get("flights")
    if not flights:
        return "*Not measured yet: `make figures` measures it and writes it here.*\n"
    plain, vswap, machine = flights["plain"], flights["vswap"], flights["machine"]
    return (
        f"**A pandas job that peaks at {plain['peak_mib']:.0f} MiB runs in {flights['budget_mib']} MiB "
        f"(peak {vswap['peak_mib']:.0f} MiB) with the same result, in "
        f"{vswap['seconds'] / plain['seconds']:.2f} × its time.**\n"
        f"{plain['seconds']:.2f} s plainly, {vswap['seconds']:.2f} s under "
        f"`vswap run --ram {flights['budget_mib']}M`: medians of {flights['turns']} runs each, turn by turn,\n"
        f"with `examples/flights.py` by `make figures` on {machine['cpus']} × {machine['cpu']}, "
        f"Linux {machine['kernel']}, {flights['date']}.\n"
        f"Peaks are anonymous + shared RSS, sampled every 20 ms. `make demo` shows it on your machine.\n"
    )


def write_readme(figures: dict[str, Any]) -> None:
    """Put the sentence between the README's two marks."""
    text = README.read_text()
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    README.write_text(head + BEGIN + sentence(figures) + END + tail)


def measure() -> dict[str, Any]:
    """Run both ways turn by turn and return the medians, after one run nobody counts."""
    run(PLAIN)
    plain, swapped = [], []
    for turn in range(TURNS):
        plain.append(run(PLAIN))
        swapped.append(run(VSWAP + PLAIN))
        print(
            f"turn {turn + 1}: {plain[-1].seconds:.2f} s, {swapped[-1].seconds:.2f} s", flush=True
        )
    digests = {done.digest for done in plain + swapped}
    if any(done.status for done in plain + swapped) or len(digests) != 1:
        raise SystemExit("figures: a run failed or the results differ; nothing was written")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "turns": TURNS,
        "budget_mib": BUDGET_MIB,
        "sha256": digests.pop(),
        "plain": _medians(plain),
        "vswap": _medians(swapped),
        "machine": _machine(),
    }


def _medians(runs: list[Run]) -> dict[str, Any]:
    return {
        "seconds": round(statistics.median(done.seconds for done in runs), 3),
        "all_seconds": [round(done.seconds, 3) for done in runs],
        "peak_mib": round(max(done.anonymous_bytes for done in runs) / MIB, 1),
    }


def _machine() -> dict[str, Any]:
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": model.group(1) if model else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
    }


def main() -> int:
    """Measure unless `--write-only`, then write the file and the README."""
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    if "--write-only" not in sys.argv:
        figures["flights"] = measure()
        FIGURES.write_text(json.dumps(figures, indent=2) + "\n")
    write_readme(figures)
    print(sentence(figures), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
