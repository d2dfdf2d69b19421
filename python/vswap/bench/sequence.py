"""In which order pages left memory and came back: what `vswap bench layers` replays."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import vswap
from vswap.bench.data import PAGE_SIZE, SEED
from vswap.bench.orders import BLOCK_PAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vswap.bench.orders import Order

MIB = 1 << 20
SWAP_IN_EVENT, SWAP_OUT_EVENT = 3, 4
RECORDED_MIB = 24
"""The built-in job: small enough that the event ring holds all of it."""
CHUNK_BLOCKS = 16
"""What is left out of a recording is left out by whole MiB, so that neighbours stay neighbours."""


@dataclass(frozen=True)
class Round:
    """Runs of pages (first, count) that go out, then pages that are touched."""

    out_runs: list[tuple[int, int]]
    touched: Order

    def slices(self, pages: int) -> Iterator[Round]:
        """Yield the same in steps of at most so many pages, for who does each step in several ways side by side."""
        nothing = self.touched[:0]
        step: list[tuple[int, int]] = []
        room = pages
        for first, count in self.out_runs:
            done = 0
            while done < count:
                taken = min(count - done, room)
                step.append((first + done, taken))
                done += taken
                room -= taken
                if room == 0:
                    yield Round(step, nothing)
                    step, room = [], pages
        if step:
            yield Round(step, nothing)
        for at in range(0, self.touched.size, pages):
            yield Round([], self.touched[at : at + pages])


@dataclass(frozen=True)
class Sequence:
    """Rounds over so many pages, and which part of what was recorded they are."""

    pages: int
    rounds: list[Round]
    kept_mib: int
    recorded_mib: int

    @property
    def touches(self) -> int:
        """Pages touched in all."""
        return sum(int(one.touched.size) for one in self.rounds)


def sequence_of_job(directory: str, pages: int) -> Sequence:
    """Record the built-in job and repeat it over memory of so many pages: all out, in as recorded, all out."""
    order = spread_over(record(directory), pages)
    nothing: Order = np.empty(0, dtype=np.uint32)
    everything = [(0, pages)]
    rounds = [Round(everything, order), Round(everything, nothing)]
    return Sequence(pages, rounds, RECORDED_MIB, RECORDED_MIB)


def record(directory: str) -> Order:
    """Run a small job in half of what it needs; return the pages that came back, in order."""
    rng = np.random.default_rng(SEED)
    rows = RECORDED_MIB * MIB // 16
    space = vswap.SwapSpace(
        "16M", devices=["slots:" + os.path.join(directory, "recorded")], codec="raw"
    )
    both = space.empty(2 * rows, dtype="i8")
    keys, values = both[:rows], both[rows:]
    keys[:] = rng.integers(0, 1 << 40, rows)
    values[:] = rng.integers(0, 1 << 62, rows)
    space.evict(both)
    space.trace(on=True)
    int(both[0])  # The first event: page 0 of the job.
    picked = rng.permutation(rows)[: rows // 256]
    total = int((values[picked] & 0xFF).sum())
    hot = rng.integers(rows // 2, rows // 2 + rows // 16, rows // 64)
    total += int((keys[hot] & 0xFF).sum())
    total += sum(int(keys[at : at + 4096].max()) & 0xFF for at in range(0, rows, 4096))
    events = space.trace(on=False)
    del both, keys, values
    space.close()
    if total < 0 or not events.size:
        raise RuntimeError("nothing was recorded")
    came = events[events["event"] == SWAP_IN_EVENT]["page"].astype(np.int64)
    return first_touches(came - came[0])


def first_touches(pages: Any) -> Order:
    """Each page once, when it first came; pages before the job's first one are somebody else's."""
    pages = pages[(pages >= 0) & (pages < RECORDED_MIB * MIB // PAGE_SIZE)]
    _, first = np.unique(pages, return_index=True)
    ordered: Order = pages[np.sort(first)].astype(np.uint32)
    return ordered


def spread_over(order: Order, pages: int) -> Order:
    """The recorded sequence, repeated over memory of so many pages."""
    recorded = RECORDED_MIB * MIB // PAGE_SIZE
    parts = [order + np.uint32(start) for start in range(0, pages, recorded)]
    whole = np.concatenate(parts)
    return np.ascontiguousarray(whole[whole < pages])


def sequence_of_events(kinds: Any, pages: Any, most_pages: int, most_moves: int) -> Sequence:
    """Every swap-out and swap-in that was noted, on memory packed together.

    Where that is too much, of every so many MiB of the command's memory one is taken, with all that happened to it.
    """
    moved = (kinds == SWAP_IN_EVENT) | (kinds == SWAP_OUT_EVENT)
    is_out = kinds[moved] == SWAP_OUT_EVENT
    pages = pages[moved].astype(np.int64)
    blocks, at = np.unique(pages // BLOCK_PAGES, return_inverse=True)
    chunks, chunk_at = np.unique(blocks // CHUNK_BLOCKS, return_inverse=True)
    too_much = max(blocks.size * BLOCK_PAGES / most_pages, pages.size / most_moves, 1.0)
    kept_blocks = chunk_at % int(np.ceil(too_much)) == 0
    kept = kept_blocks[at]
    packed = np.cumsum(kept_blocks) - 1
    places = packed[at[kept]] * BLOCK_PAGES + pages[kept] % BLOCK_PAGES
    rounds = _rounds(is_out[kept].tolist(), places.tolist())
    kept_chunks = int(np.unique(chunk_at[kept_blocks]).size)
    return Sequence(int(kept_blocks.sum()) * BLOCK_PAGES, rounds, kept_chunks, int(chunks.size))


def _rounds(is_out: list[bool], pages: list[int]) -> list[Round]:
    """Gather what may change places: a page that goes out after its block was touched begins another round."""
    rounds: list[Round] = []
    out: list[int] = []
    touched: list[int] = []
    blocks: set[int] = set()
    for goes, page in zip(is_out, pages, strict=True):
        if not goes:
            touched.append(page)
            blocks.add(page // BLOCK_PAGES)
            continue
        if page // BLOCK_PAGES in blocks:
            rounds.append(Round(_runs(out), np.array(touched, dtype=np.uint32)))
            out, touched, blocks = [], [], set()
        out.append(page)
    if out or touched:
        rounds.append(Round(_runs(out), np.array(touched, dtype=np.uint32)))
    return rounds


def _runs(pages: list[int]) -> list[tuple[int, int]]:
    """Neighbours that went out one after the other, as first and count."""
    runs: list[tuple[int, int]] = []
    for page in pages:
        if runs and sum(runs[-1]) == page:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((page, 1))
    return runs
