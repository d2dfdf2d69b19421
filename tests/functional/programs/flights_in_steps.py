"""The flights job (examples/flights.py), with a line in and a line out between making its tables and using them."""

from __future__ import annotations

import runpy
import sys


def main() -> None:
    """Say `ready` with the tables made; for each line, the job's own last line."""
    job = runpy.run_path(sys.argv[1])
    joined = job["join_everything"]().sort_values("arr_delay", kind="stable")
    print("ready", flush=True)
    for _ in sys.stdin:
        summary = job["summarise"](joined)
        digest = job["fingerprint"](joined, summary)
        print(f"rows {len(joined)} groups {len(summary)} sha256 {digest}", flush=True)


main()
