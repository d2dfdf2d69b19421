"""What `vswap bench` says about its own figures."""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support.program import run, vswap_command
from vswap.bench import data, orders
from vswap.bench.metrics import METRICS, Compared, Target
from vswap.bench.record import Record, results_of

if TYPE_CHECKING:
    from pathlib import Path

PAGES = 2048


def test_the_data_is_the_same_at_every_run(tmp_path: Path) -> None:
    for name in ("a", "b"):
        data.write_pages(tmp_path / name, PAGES)
    first, second = ((tmp_path / name).read_bytes() for name in ("a", "b"))
    assert len(first) == PAGES * data.PAGE_SIZE
    assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()


def test_the_data_is_neither_empty_nor_random(tmp_path: Path) -> None:
    data.write_pages(tmp_path / "pages", PAGES)
    whole = (tmp_path / "pages").read_bytes()
    shrunk = sum(
        len(zlib.compress(whole[start : start + data.PAGE_SIZE], 1))
        for start in range(0, len(whole), data.PAGE_SIZE)
    )
    assert 3.0 < len(whole) / shrunk < 9.0


def test_a_wrong_byte_is_found_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "pages"
    data.write_pages(path, PAGES)
    memory = np.zeros(PAGES * data.PAGE_SIZE, dtype=np.uint8)
    data.fill_from(path, memory)
    assert data.first_difference(path, memory) is None
    memory[5_000_001] ^= 1
    assert data.first_difference(path, memory) == 5_000_001


def test_every_page_is_touched_once() -> None:
    everything = set(range(PAGES))
    assert set(orders.random(PAGES).tolist()) == everything
    assert orders.sequential(PAGES).tolist() == sorted(everything)


def test_the_sparse_order_touches_each_block_once() -> None:
    blocks = orders.sparse(PAGES) // orders.BLOCK_PAGES
    assert sorted(blocks.tolist()) == list(range(PAGES // orders.BLOCK_PAGES))


def test_twice_the_throughput_is_half_the_time() -> None:
    assert Compared.THROUGHPUT.ratio(2.0, 4.0) == 2.0
    assert Compared.TIME.ratio(2.0, 4.0) == 0.5
    assert Compared.TIME.ratio(2.0, 0.0) is None


@pytest.mark.parametrize(("ratio", "met"), [(1.3, True), (1.4, False), (None, None)])
def test_a_target_is_met_or_missed_or_cannot_be_judged(
    ratio: float | None, met: bool | None
) -> None:
    assert Target(1.35, at_least=False, of_ratio=True).met_by(99.0, ratio) is met


def test_figures_are_medians_of_the_turns_and_of_what_each_turn_compares() -> None:
    samples = {metric.key: [2.0, 3.0, 100.0] for metric in METRICS}
    base = {metric.key: [4.0, 1.0, 200.0] for metric in METRICS}
    raw: dict[str, dict[str, Any]] = {
        "vswap-signal": {"status": "ok", "samples": samples},
        "zram-lz4": {"status": "ok", "samples": base},
        "memmap": {"status": "skipped", "reason": "why not"},
    }
    record = Record({"kernel": "6"}, PAGES, 3, 1, results_of(raw))
    figures = record.as_json()["results"][0]["figures"]
    assert figures["swap_in_random"]["median"] == 3.0
    assert figures["swap_in_random"]["against_baseline"] == 0.5
    assert figures["swap_in_random"]["met"] is True
    assert figures["swap_in_sequential"]["against_baseline"] == 2.0
    assert record.results[2].figures == {}
    json.dumps(record.as_json())


def test_an_unknown_contender_is_refused_by_name() -> None:
    done = run([*vswap_command(), "bench", "diesel"])
    assert done.status == 2, done.describe()
    assert "diesel" in done.err


def test_no_turns_at_all_are_refused() -> None:
    done = run([*vswap_command(), "bench", "--repeats", "0"])
    assert done.status == 2, done.describe()
    assert "--repeats must be at least 1" in done.err


def test_the_dedup_bench_compares_every_byte_and_says_what_sharing_saved() -> None:
    words = ("bench", "dedup", "--mib", "4", "--repeats", "1", "--json", "tables", "unique")
    done = run([*vswap_command(), *words]).succeeded()
    tables, unique = json.loads(done.out)["cases"]
    assert (tables["case"], unique["case"]) == ("tables", "unique")
    assert tables["group_stored_bytes"] < tables["off_stored_bytes"] / 2
    assert unique["group_dedup_hits"] == 0
