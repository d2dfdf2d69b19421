"""`vswap bench dedup`: what deduplication saves, and what it costs where there is nothing to save.

Each case is a set of arrays.  They are put into a space and evicted, once with deduplication and
once without, in processes of their own, in turns; the least CPU time of the process counts, piece by piece,
so that other load on the machine does not.  Every byte is compared afterwards.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vswap.bench.data import PAGE_SIZE, write_pages
from vswap.bench.machine import machine
from vswap.sizes import MIB, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

CASES = ("tables", "workers", "interpreter", "unique", "noise")
SCOPES = ("off", "group")
_COPIES = 4
_CHUNKS = 8
"""Evictions that are timed one by one: the least of the repeats is taken of each."""
_WORKERS = 4
_SMALLEST_MAPPING = 16 * PAGE_SIZE


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every case; 0 when every byte was right."""
    options = _parser().parse_args(argv)
    if options.worker:
        return _work(options.worker, options.scope, Path(options.data))
    rows = []
    with tempfile.TemporaryDirectory(prefix="vswap-bench-", dir=options.dir) as folder:
        for case in options.cases:
            data = Path(folder) / case
            _MAKERS[case](data, options.mib)
            rows.append(_measure(case, data, options.repeats))
            data.unlink()
    if options.json:
        print(json.dumps({"machine": machine(), "cases": rows}, indent=1))
    else:
        _show(rows)
    return 0


def _parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(prog="vswap bench dedup", description=__doc__)
    parser.add_argument("--mib", type=int, default=64, help="MiB of one copy (default 64)")
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement (default 5)")
    parser.add_argument("--dir", default="/var/tmp", help="where data files go")
    parser.add_argument("--json", action="store_true", help="the record as JSON")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--scope", choices=SCOPES, help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    parser.add_argument("cases", nargs="*", default=CASES, metavar="CASE",
                        help=f"some of: {', '.join(CASES)}")  # fmt: skip
    return parser


def _tables(path: Path, mib: int) -> None:
    """Write several copies of a data frame's columns, as `frame.copy()` leaves them."""
    rng = np.random.default_rng(1)
    rows = (mib << 20) // 32
    columns = (
        np.round(rng.normal(12, 40, rows), 1),
        rng.integers(0, 5000, rows),
        np.sort(rng.integers(0, 365 * 86400, rows)),
        rng.integers(0, 16, rows),
    )
    with path.open("wb") as out:
        for _ in range(_COPIES):
            for column in columns:
                out.write(column.tobytes())


def _workers(path: Path, mib: int) -> None:
    """Write the memory of forked workers that each went on by themselves."""
    kept: list[dict[str, Any]] = [
        {"id": i, "name": f"row {i}", "price": i * 0.5} for i in range(mib << 11)
    ]
    with path.open("wb") as out:
        for worker in range(_WORKERS):
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                for row in kept[worker :: _WORKERS * 8]:
                    row["price"] += worker
                _dump_memory(writer)
                os._exit(0)
            os.close(writer)
            with os.fdopen(reader, "rb") as source:
                while piece := source.read(MIB):
                    out.write(piece)
            os.waitpid(child, 0)


def _interpreter(path: Path, mib: int) -> None:
    """Write the memory of one interpreter with a heap full of objects."""
    kept: list[dict[str, Any]] = [
        {"id": i, "name": f"row {i}", "price": i * 0.5} for i in range(mib << 11)
    ]
    with path.open("wb") as out:
        _dump_memory(out.fileno())
    del kept


def _dump_memory(to: int) -> None:
    """Write this process's private anonymous memory, as far as it is there."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in lines:
            words = line.split()
            start, end = (int(word, 16) for word in words[0].split("-"))
            anonymous = len(words) == 5 or words[5] == "[heap]"
            if words[1] != "rw-p" or not anonymous or end - start < _SMALLEST_MAPPING:
                continue
            for at in range(start, end, MIB):
                memory.seek(at)
                piece = memory.read(min(MIB, end - at))
                while piece:
                    piece = piece[os.write(to, piece) :]


def _unique(path: Path, mib: int) -> None:
    """Write the heap of a data job, no page of it twice."""
    write_pages(path, _COPIES * (mib << 20) // PAGE_SIZE)


def _noise(path: Path, mib: int) -> None:
    """Write what does not compress."""
    rng = np.random.default_rng(2)
    with path.open("wb") as out:
        for _ in range(_COPIES * mib):
            out.write(rng.bytes(MIB))


_MAKERS: dict[str, Callable[[Path, int], None]] = {
    "tables": _tables,
    "workers": _workers,
    "interpreter": _interpreter,
    "unique": _unique,
    "noise": _noise,
}


def _measure(case: str, data: Path, repeats: int) -> dict[str, Any]:
    """Evict the data with and without deduplication, in turns."""
    runs: dict[str, list[dict[str, Any]]] = {scope: [] for scope in SCOPES}
    for _ in range(repeats):
        for scope in SCOPES:
            command = [sys.executable, "-m", "vswap.bench.dedup", "--worker", case]
            command += ["--scope", scope, "--data", str(data)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{case} with dedup={scope} failed: {done.stderr.strip()}")
            runs[scope].append(json.loads(done.stdout))
    row: dict[str, Any] = {"case": case, "pages": runs["off"][0]["pages"]}
    for scope in SCOPES:
        least = [min(times) for times in zip(*(run["ns"] for run in runs[scope]), strict=True)]
        row[f"{scope}_swap_out_ns_per_page"] = sum(least) / row["pages"]
        for name in ("stored_bytes", "dedup_hits", "dedup_different", "table_bytes"):
            row[f"{scope}_{name}"] = runs[scope][-1][name]
    return row


def _work(case: str, scope: str, data: Path) -> int:
    """Evict one case in a space of its own and compare every byte."""
    import vswap

    with data.open("rb") as source:
        size = os.fstat(source.fileno()).st_size // PAGE_SIZE * PAGE_SIZE
        wanted = np.frombuffer(mmap.mmap(source.fileno(), size, prot=mmap.PROT_READ), np.uint8)
        space = vswap.SwapSpace(max(2 * size, 512 * MIB), devices=[], dedup=scope)
        array: Bytes = space.empty(size, np.uint8)
        array[:] = wanted
        ns = []
        before = space.stats()
        for piece in np.array_split(array, _CHUNKS):
            start = time.process_time_ns()
            space.evict(piece)
            ns.append(time.process_time_ns() - start)
        stats = space.stats()
        pages = (stats - before).swap_out_pages
        if not np.array_equal(array, wanted) or space.check():
            print(f"{case}: {space.check() or 'wrong bytes'}", file=sys.stderr)
            return 1
    said = {"ns": ns, "pages": pages, "stored_bytes": stats.stored_bytes}
    said |= {"dedup_hits": stats.dedup_hits, "dedup_different": stats.dedup_different}
    print(json.dumps({**said, "table_bytes": stats.table_bytes}))
    return 0


def _show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    from vswap.cli.tables import print_table

    lines = []
    for row in rows:
        off, on = row["off_swap_out_ns_per_page"], row["group_swap_out_ns_per_page"]
        stored, shared = row["off_stored_bytes"], row["group_stored_bytes"]
        lines.append([
            row["case"], f"{row['pages']:,}", format_size(stored), format_size(shared),
            f"{(stored - shared) / stored * 100:.1f} %", f"{off:.0f} ns", f"{on:.0f} ns",
            f"{(on / off - 1) * 100:+.1f} %",
        ])  # fmt: skip
    titles = ("CASE", "PAGES", "STORED OFF", "STORED ON", "SAVED", "OUT OFF", "OUT ON", "TIME")
    print_table(titles, lines, " rrrrrrr")


if __name__ == "__main__":
    raise SystemExit(main())
