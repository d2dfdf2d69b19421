"""The pages every contender works on: what the heap of a Python data job looks like.

One fixed seed, one file, the same bytes for everybody.  The mix was chosen so that lz4 shrinks it
about 3.5 times page by page, as it does with the heap of a real Python program.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE_SIZE = 4096
SEED = 20_260_101
CHUNK_BYTES = 4 << 20

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

_CITIES = ("Amsterdam", "Bergen", "Cracow", "Dresden", "Esbjerg", "Ferrara", "Ghent", "Huesca")
_TEXT_TYPE, _INT_TYPE, _FLOAT_TYPE = 0x7F31_5A2C_1C00, 0x7F31_5A2C_3DE0, 0x7F31_5A2C_7A20
_HEAP_BASE = 0x7F31_4000_0000


def _records(rng: np.random.Generator, count: int) -> list[dict[str, Any]]:
    """Rows as a web service would hold them."""
    ids = rng.integers(1, 10_000_000, count)
    prices = np.round(rng.gamma(2.0, 30.0, count), 2)
    places = rng.integers(0, len(_CITIES), count)
    return [
        {
            "id": int(row_id),
            "city": _CITIES[int(place)],
            "price": float(price),
            "active": bool(row_id & 1),
            "tags": ["swap", _CITIES[int(row_id) & 7]],
        }
        for row_id, price, place in zip(ids, prices, places, strict=True)
    ]


def _json_chunk(rng: np.random.Generator) -> bytes:
    return json.dumps(_records(rng, CHUNK_BYTES // 95)).encode()


def _pickle_chunk(rng: np.random.Generator) -> bytes:
    return pickle.dumps(_records(rng, CHUNK_BYTES // 55), protocol=4)


def _column_chunk(rng: np.random.Generator) -> bytes:
    """Columns of a data frame: measurements with two decimals, small integers, flags."""
    rows = CHUNK_BYTES // 32
    walk = np.round(20.0 + np.cumsum(rng.normal(0.0, 0.05, rows)), 1)
    counts = rng.poisson(3.0, rows).astype(np.int64)
    days = np.sort(rng.integers(0, 365, rows)).astype(np.int64)
    flags = (rng.random(rows) < 0.1).astype(np.float64)
    return b"".join(column.tobytes() for column in (walk, counts, days, flags))


def _object_chunk(rng: np.random.Generator) -> bytes:
    """The object heap itself: reference count, type pointer, then the value or pointers."""
    rows = CHUNK_BYTES // 48
    words = np.zeros((rows, 6), dtype=np.uint64)
    words[:, 0] = 1 + (rng.random(rows) < 0.1)
    words[:, 1] = _INT_TYPE
    words[:, 2] = rng.integers(0, 50_000, rows)
    words[:, 3] = 1
    words[:, 4] = np.where(rng.random(rows) < 0.5, _FLOAT_TYPE, _TEXT_TYPE)
    words[:, 5] = _HEAP_BASE + 48 * rng.integers(0, rows, rows).astype(np.uint64)
    return words.tobytes()


_KINDS: tuple[Callable[[np.random.Generator], bytes], ...] = (
    _object_chunk,
    _column_chunk,
    _json_chunk,
    _object_chunk,
    _pickle_chunk,
    _column_chunk,
)


def write_pages(path: Path, pages: int) -> None:
    """Write `pages` pages of generated heap to `path`."""
    rng = np.random.default_rng(SEED)
    left = pages * PAGE_SIZE
    with path.open("wb") as out:
        kind = 0
        while left > 0:
            chunk = _KINDS[kind % len(_KINDS)](rng)[: min(CHUNK_BYTES, left)]
            out.write(chunk)
            left -= len(chunk)
            kind += 1


def fill_from(path: Path, target: Bytes) -> None:
    """Copy the generated pages into `target`, a flat byte array over a contender's memory."""
    with path.open("rb", buffering=0) as source:
        for start in range(0, target.size, CHUNK_BYTES):
            piece = target[start : start + CHUNK_BYTES]
            piece[:] = np.frombuffer(source.read(piece.size), dtype=np.uint8)


def first_difference(path: Path, target: Bytes) -> int | None:
    """The first byte of `target` that is not what was put there, None when all are right."""
    with path.open("rb", buffering=0) as source:
        for start in range(0, target.size, CHUNK_BYTES):
            piece = target[start : start + CHUNK_BYTES]
            wanted = np.frombuffer(source.read(piece.size), dtype=np.uint8)
            if not np.array_equal(piece, wanted):
                return start + int(np.flatnonzero(piece != wanted)[0])
    return None
