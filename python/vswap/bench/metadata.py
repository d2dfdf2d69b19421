"""`vswap bench metadata`: what bookkeeping takes, the kernel's table and vswap's own bytes beside it.

vswap's bytes are measured: as many entries as the table has are allocated in a layer, each with a
page that compresses three to one, and the layer counts its tables.  The pages go to a device that
keeps nothing, so that 8 million of them do not need 10 GB; the tables are those of a real one.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from vswap import _loader
from vswap.bench.kernel_metadata import COLUMNS, COMPRESSED_VSWAP, DISK_VSWAP, SLOTS, USES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MIB = 1 << 20
AT_REST_BYTES = MIB
"""What the layer may take when nothing is swapped out."""
PAGE_STATE_BYTES = 8
"""The state word of a page of process memory: told apart, as the kernel's page tables are."""
OBJECTS_PER_PLACE = 128
"""At least so many pages that compress three to one fit in a segment."""
PARTS = (
    "descriptors",
    "counts",
    "clusters",
    "segment_table",
    "places",
    "object_headers",
    "padding",
)


@dataclass(frozen=True)
class Measured:
    """Bytes of the layer's bookkeeping at one moment."""

    order: str
    use_percent: int
    descriptors: int
    counts: int
    clusters: int
    segment_table: int
    places: int
    object_headers: int
    padding: int

    def layer_bytes(self, *, on_device: bool) -> int:
        """Descriptors, side tables and the segment table; with a device, its places too."""
        tables = self.descriptors + self.counts + self.clusters + self.segment_table
        return tables + (self.places if on_device else 0)

    def all_bytes(self, *, on_device: bool) -> int:
        """The same with what objects have beyond their pages' bytes."""
        return self.layer_bytes(on_device=on_device) + self.object_headers + self.padding

    def met(self, entries: int) -> bool:
        """Whether this row keeps what is promised of it."""
        if self.use_percent == 0:
            return self.all_bytes(on_device=True) <= AT_REST_BYTES
        for column, on_device in ((COMPRESSED_VSWAP, False), (DISK_VSWAP, True)):
            kernel = column.megabytes(self.use_percent, entries) * MIB
            if 2 * self.layer_bytes(on_device=on_device) > kernel:
                return False
            if self.all_bytes(on_device=on_device) > kernel:
                return False
        return True


def measure(entries: int) -> Iterator[Measured]:
    """Fill a layer quarter by quarter, then thin it out evenly: dense rows, then sparse ones."""
    engine = _loader.engine()
    ffi, lib = engine.ffi, engine.lib
    places = entries // OBJECTS_PER_PLACE + 64
    layer = lib.vswap_layer_create_null(entries + 4096, places)
    if layer == ffi.NULL:
        raise MemoryError("no address space for a layer of that size")
    try:
        yield _look(ffi, lib, layer, "dense", 0)
        numbers = ffi.new("uint64_t[]", entries)
        quarter = entries // 4
        for use in USES[1:]:
            first = quarter * (use // 25 - 1)
            filled = lib.vswap_layer_fill(layer, numbers + first, quarter)
            if filled != quarter:
                raise MemoryError(f"only {first + filled} of {entries} entries could be filled")
            yield _look(ffi, lib, layer, "dense", use)
        for use in reversed(USES[:-1]):
            for index in range(use // 25, entries, 4):
                lib.vswap_layer_free(layer, numbers[index], 1)
            yield _look(ffi, lib, layer, "sparse", use)
    finally:
        lib.vswap_layer_destroy(layer)


def _look(ffi: Any, lib: Any, layer: Any, order: str, use: int) -> Measured:
    """Ask the layer what it takes now."""
    values = ffi.new("uint64_t[]", len(PARTS))
    told = lib.vswap_layer_memory(layer, values, len(PARTS))
    if told != len(PARTS):
        raise RuntimeError(f"vswap_layer_memory returned {told}")
    return Measured(order, use, **dict(zip(PARTS, values, strict=True)))


def as_json(entries: int, rows: Sequence[Measured]) -> dict[str, Any]:
    """Return the kernel's table and ours, as plain dictionaries."""
    return {
        "entries": entries,
        "kernel_mb": {
            column.title: {str(use): column.megabytes(use, entries) for use in USES}
            for column in COLUMNS
        },
        "vswap": [{**asdict(row), "met": row.met(entries)} for row in rows],
        "page_state_bytes_per_page": PAGE_STATE_BYTES,
    }


def show(entries: int, rows: Sequence[Measured]) -> None:
    """Print both tables."""
    console = Console(width=None if Console().is_terminal else 160)
    kernel = Table(title=f"the kernel's table for {entries:,} slots, MB (its formulas)")
    kernel.add_column("use")
    for column in COLUMNS:
        kernel.add_column(column.title, justify="right")
    for use in USES:
        figures = (f"{column.megabytes(use, entries):.2f}" for column in COLUMNS)
        kernel.add_row(f"{use} %", *figures)
    console.print(kernel)
    ours = Table(title=f"vswap, measured with {entries:,} entries, MB")
    heads = ("use", *(part.replace("_", " ") for part in PARTS), "layer", "with objects", "target")
    for head in heads:
        ours.add_column(head, justify="left" if head == "use" else "right")
    for row in rows:
        parts = (f"{getattr(row, part) / MIB:.2f}" for part in PARTS)
        sums = (row.layer_bytes(on_device=True), row.all_bytes(on_device=True))
        met = "[green]met[/]" if row.met(entries) else "[red]not met[/]"
        cells = (*parts, *(f"{total / MIB:.2f}" for total in sums), met)
        ours.add_row(f"{row.use_percent} % {row.order}", *cells)
    console.print(ours)
    console.print(
        "Target: at 0 % at most 1 MB; else the layer at most half of the kernel's vswap column, and\n"
        "with what objects have beyond their bytes at most that column, which leaves the kernel's own\n"
        "structure of each compressed page out. Places count on devices only. Dense: what is in use lies\n"
        "together, as the kernel's cells have it; sparse: spread evenly over what was full before. A cluster's\n"
        "descriptors stay while one of its 512 entries is in use, here as there (12 KiB a cluster there).\n"
        f"Page state, {PAGE_STATE_BYTES} bytes a page of process memory, is apart, as page tables are."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0 whether or not the targets are met: the table says so."""
    parser = argparse.ArgumentParser(
        prog="vswap bench metadata",
        description="Bytes of bookkeeping: the kernel's vswap table, and vswap's own beside it.",
    )
    parser.add_argument(
        "--entries", type=int, default=SLOTS, help="entries to allocate (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    options = parser.parse_args(argv)
    if options.entries < 4 or options.entries % 4:
        parser.error("--entries is a multiple of 4")
    rows = list(measure(options.entries))
    if options.json:
        json.dump(as_json(options.entries, rows), sys.stdout, indent=1)
        print()
    else:
        show(options.entries, rows)
    return 0
