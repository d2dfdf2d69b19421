"""vswap stat and set read and write the shared memories of a running program."""

from __future__ import annotations

import json
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.child import Child
from vswap.counters import NAMES
from vswap.histogram import BUCKETS
from vswap.monitor.memory import STATS_HEADER, parse_config, parse_stats
from vswap.run.report import render_text, suggest_ram, summarise
from vswap.run.supervise import Ended
from vswap.run.tree import COUNTERS_AT, HEADER_BYTES, SLOT_BYTES, TreeMemory, parse_tree

MIB = 1 << 20


def stats_memory(values: dict[str, int], config: bytes = b"ram=1\n") -> bytes:
    """A stats memory written by struct, of a program with other counters than ours."""
    schema = json.dumps([{"name": n, "kind": "gauge", "help": f"help of {n}"} for n in values])
    count = len(values)
    schema_at, values_at = 4096, 8192
    hist_at = values_at + 8 * count
    config_at = hist_at + 8 * 3
    header = STATS_HEADER.pack(b"VSWAPST1", 1, count, 77, 5, schema_at, len(schema), values_at,
                               hist_at, 3, config_at, len(config))  # fmt: skip
    memory = bytearray(4 * 4096)
    for at, part in (
        (0, header),
        (schema_at, schema.encode()),
        (values_at, struct.pack(f"<{count}Q", *values.values())),
        (hist_at, struct.pack("<3Q", 1, 2, 3)),
        (config_at, config),
    ):
        memory[at : at + len(part)] = part
    return bytes(memory)


def test_counters_are_read_by_the_schema_that_travels_with_them() -> None:
    snapshot = parse_stats(stats_memory({"held_bytes": 5, "of_tomorrow": 6}))
    assert snapshot.values == {"held_bytes": 5, "of_tomorrow": 6}
    assert snapshot.helps["of_tomorrow"] == "help of of_tomorrow"
    assert (snapshot.pid, snapshot.latencies, snapshot.config) == (77, (1, 2, 3), {"ram": "1"})


@pytest.mark.parametrize("at", [0, 12, 40, 48])
def test_damaged_memory_is_an_error_and_not_a_crash(at: int) -> None:
    memory = bytearray(stats_memory({"held_bytes": 5}))
    memory[at : at + 8] = b"\xff" * 8
    with pytest.raises((ValueError, struct.error)):
        parse_stats(bytes(memory))


def test_the_configuration_is_read_in_both_forms() -> None:
    assert parse_config(b"ram=5\nswap=a\nswap=b\nswap=c\n\0\0") == {
        "ram": "5",
        "swap": ["a", "b", "c"],
    }
    assert parse_config(b'{"ram": 5}\0') == {"ram": 5}
    assert parse_config(b"") == {}


def slot(pid: int, exe: bytes, **values: int) -> bytes:
    """A slot of the tree memory."""
    counters = struct.pack(f"<{len(NAMES)}Q", *(values.get(name, 0) for name in NAMES))
    buckets = struct.pack(f"<{BUCKETS}Q", *([0] * 17 + [9] + [0] * (BUCKETS - 18)))
    head = struct.pack("<IIQ64s", pid, 0, 1, exe)
    return (head.ljust(COUNTERS_AT, b"\0") + counters + buckets).ljust(SLOT_BYTES, b"\0")


def tree(*slots: bytes) -> bytes:
    head = struct.pack("<8sII", b"VSWAPTR1", len(slots), SLOT_BYTES)
    return head.ljust(HEADER_BYTES, b"\0") + b"".join(slots)


def test_only_claimed_slots_are_processes() -> None:
    records = parse_tree(tree(slot(5, b"/bin/a", faults=3), bytes(SLOT_BYTES), slot(6, b"/bin/b")))
    assert [(r.pid, r.exe, r.counters["faults"]) for r in records] == [
        (5, "/bin/a", 3),
        (6, "/bin/b", 0),
    ]
    with pytest.raises(ValueError, match="not a vswap tree"):
        parse_tree(bytes(HEADER_BYTES))


def test_a_new_tree_memory_is_empty_and_inherited_under_a_high_number() -> None:
    memory = TreeMemory()
    assert memory.records() == []
    assert memory.fd >= 200
    memory.close()


def test_the_report_adds_counts_and_takes_the_highest_peak() -> None:
    records = parse_tree(
        tree(
            slot(1, b"/a", held_peak_bytes=30 * MIB, swap_out_pages=100, swap_out_bytes=100 * 1024,
                 faults=5, waited_ns=10**9, swapped_peak_pages=256, ram_budget_bytes=64 * MIB,
                 mode=1),
            slot(2, b"/b", held_peak_bytes=60 * MIB, swap_out_pages=100, swap_out_same_pages=100,
                 alloc_failures=2, poisoned_pages=1, device_errors=1, faults=7,
                 ram_budget_bytes=64 * MIB, mode=1),
        )
    )  # fmt: skip
    summary = summarise(records, 64 * MIB, 4.0)
    assert summary.held_peak_bytes == 60 * MIB
    assert (summary.faults, summary.compression_ratio, summary.same_word_pages) == (12, 4.0, 100)
    assert (summary.fault_p50_ns, summary.fault_delivery) == (5120, "thread")
    assert summary.suggested_ram_bytes == 65 * MIB
    text = render_text(summary, Ended(0, 4.0, 0), records)
    for part in ("each of 2 processes", "refused", "poisoned", "errors of swap devices", "25.0 %"):
        assert part in text


def test_a_budget_that_cost_little_needs_no_advice() -> None:
    assert suggest_ram(100 * MIB, 50 * MIB, 0.1, 10.0) is None
    assert suggest_ram(100 * MIB, 0, 5.0, 10.0) is None
    advised = suggest_ram(100 * MIB, 100 * MIB, 5.0, 10.0)
    assert advised is not None
    assert 100 * MIB < advised <= 200 * MIB


@pytest.fixture
def served(child: Child, fake_engine: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs under the stand-in engine."""
    environ = child.environ(
        LD_PRELOAD=str(fake_engine), VSWAP_RAM=str(64 * MIB), FAKE_ENGINE="serve"
    )
    process = subprocess.Popen(["sleep", "60"], env=environ)
    time.sleep(0.2)
    yield process
    process.kill()
    process.wait()


def test_a_running_program_is_found_and_read(child: Child, served: subprocess.Popen[bytes]) -> None:
    table = child.cli("stat", "--pid", str(served.pid)).stdout
    assert "64.0 MiB" in table
    assert "sleep 60" in table
    told = json.loads(child.cli("stat", "--json").stdout)
    mine = next(program for program in told if program["pid"] == served.pid)
    assert mine["counters"]["held_bytes"] == 5 * MIB
    explained = child.cli("stat", "--explain", "--pid", str(served.pid)).stdout
    assert all(name in explained for name in NAMES)
    assert child.cli("stat", "--config", "--pid", str(served.pid)).returncode == 0


def test_the_budget_of_a_running_program_is_changed(
    child: Child, served: subprocess.Popen[bytes]
) -> None:
    done = child.cli("set", "--pid", str(served.pid), "--ram", "48M")
    assert done.returncode == 0, done.stderr
    assert "64.0 MiB -> 48.0 MiB" in done.stdout
    assert "48.0 MiB" in child.cli("stat", "--pid", str(served.pid)).stdout


def test_a_program_that_does_not_run_under_vswap_is_told_apart(child: Child) -> None:
    for words, part in (
        (("stat", "--pid", "1"), "process 1"),
        (("set", "--pid", "4194305", "--ram", "64M"), "no process 4194305"),
        (("set", "--ram", "1M"), "floor"),
    ):
        done = child.cli(*words)
        assert done.returncode in (1, 2)
        assert part in done.stderr


def test_the_doctor_tells_in_a_table_and_in_json(child: Child) -> None:
    table = child.cli("doctor")
    for part in ("userfaultfd", "seccomp", "overcommit", "disk", "memory", "yama", "rlimits"):
        assert part in table.stdout
    told = json.loads(child.cli("doctor", "--json").stdout)
    assert told["works"] == (table.returncode == 0)
    assert all(f["status"] == "ok" or f["fix"] for f in told["findings"] if f["name"] != "features")


def test_the_doctor_works_without_an_engine(child: Child) -> None:
    done = child.cli("doctor", VSWAP_LIB="/nowhere")
    assert done.returncode == 1
    assert "vswap cannot work here" in done.stdout


def test_the_command_line_explains_itself(child: Child) -> None:
    for words, status in (((), 2), (("--help",), 0), (("--version",), 0), (("what",), 2)):
        assert child.cli(*words).returncode == status
    for name in ("run", "stat", "set", "doctor"):
        done = child.cli(name, "--help")
        assert done.returncode == 0
        assert f"usage: vswap {name}" in done.stdout
    assert child.cli("stat", "--nonsense").returncode == 2
