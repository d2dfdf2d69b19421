"""Measures what SPECIFICATION.md promises of speed: docs/figures.json, and the README's one number.

Nobody types these numbers in. `make figures` runs the flights job, a job that fits its budget and
one that does nothing, plainly and under vswap, turn by turn, and `vswap bench`; tests/unit/test_docs.py fails where the
README says anything else than the file, or the file anything else than was promised.
"""

import json
import os
import platform
import re
import statistics
import subprocess
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
FITTING = [sys.executable, str(ROOT / "examples" / "temporaries.py")]
FITTING_BUDGET = "2G"
FITTING_TURNS = 11
NOTHING = ["/bin/true"]
NOTHING_TURNS = 21
BENCH = ("vswap-thread", "vswap-signal", "zram-lz4")
BENCH_TURNS = 15
"""Of five turns the medians still differ by a twentieth from run to run, on a machine that others use too."""


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


def _turn_by_turn(
    plainly: list[str], managed: list[str], turns: int
) -> tuple[list[Run], list[Run], str]:
    """Run both ways turn by turn, after one run of each that nobody counts; and the common result."""
    run(plainly)
    run(managed)
    plain, swapped = [], []
    for turn in range(turns):
        plain.append(run(plainly))
        swapped.append(run(managed))
        print(
            f"turn {turn + 1}: {plain[-1].seconds:.2f} s, {swapped[-1].seconds:.2f} s", flush=True
        )
    digests = {done.digest for done in plain + swapped}
    if any(done.status for done in plain + swapped) or len(digests) != 1:
        raise SystemExit("figures: a run failed or the results differ; nothing was written")
    return plain, swapped, str(digests.pop())


def measure_fitting() -> dict[str, Any]:
    """A job that fits its budget, plainly and under vswap."""
    managed = [VSWAP[0], "run", "--ram", FITTING_BUDGET, "--", *FITTING]
    plain, swapped, digest = _turn_by_turn(FITTING, managed, FITTING_TURNS)
    ratios = sorted(b.seconds / a.seconds for a, b in zip(plain, swapped, strict=True))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "turns": FITTING_TURNS,
        "budget": FITTING_BUDGET,
        "sha256": digest,
        "plain": _medians(plain),
        "vswap": _medians(swapped),
        "ratio_of_turns": round(statistics.median(ratios), 4),
        "machine": _machine(),
    }


def measure_start() -> dict[str, Any]:
    """Milliseconds that `vswap run` adds to a command that does nothing: the median of turns."""
    managed = [VSWAP[0], "run", "--ram", FITTING_BUDGET, "--", *NOTHING]
    plain, swapped = [], []
    for _ in range(NOTHING_TURNS):
        plain.append(run(NOTHING))
        swapped.append(run(managed))
    if any(done.status for done in plain + swapped):
        raise SystemExit("figures: a run failed; nothing was written")
    added = statistics.median(b.seconds - a.seconds for a, b in zip(plain, swapped, strict=True))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "turns": NOTHING_TURNS,
        "added_ms": round(added * 1000, 1),
        "machine": _machine(),
    }


def measure_bench() -> dict[str, Any]:
    """Medians of `vswap bench` against the kernel's zram, measured in one run."""
    command = [VSWAP[0], "bench", "--json", "--repeats", str(BENCH_TURNS), *BENCH]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"figures: the bench failed\n{done.stderr}")
    record = json.loads(done.stdout)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "turns": BENCH_TURNS,
        "machine": record["machine"],
        "contenders": {
            result["contender"]: {
                key: {
                    "median": round(figure["median"], 3),
                    "against_zram_lz4": round(figure["against_baseline"] or 0.0, 3),
                    "met": figure["met"],
                }
                for key, figure in result["figures"].items()
            }
            for result in record["results"]
        },
    }


def measure() -> dict[str, Any]:
    """Run the flights job both ways and return the medians."""
    plain, swapped, digest = _turn_by_turn(PLAIN, VSWAP + PLAIN, TURNS)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "turns": TURNS,
        "budget_mib": BUDGET_MIB,
        "sha256": digest,
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
        figures["fits"] = measure_fitting()
        figures["start"] = measure_start()
        figures["bench"] = measure_bench()
        FIGURES.write_text(json.dumps(figures, indent=2) + "\n")
    write_readme(figures)
    print(sentence(figures), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
