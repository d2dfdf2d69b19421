"""`vswap bench layers` on the real engine: what it says is complete and counted, whatever the times are."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from support.program import vswap_command


def _run(*options: str) -> str:
    done = subprocess.run(
        [*vswap_command(), "bench", "layers", "--quick", *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_same_pages_go_out_and_come_back_in_both_modes_and_only_one_crosses_the_layer() -> None:
    record: dict[str, Any] = json.loads(_run("--json"))
    modes = record["modes"]
    direct, virtual = modes["direct"]["operations"], modes["virtual"]["operations"]
    for operation in ("swap-out", "swap-in", "free"):
        assert direct[operation]["pages"] == virtual[operation]["pages"] > 3000, operation
        crossed = direct[operation]["crossings_per_page"]
        for name in ("entry_lookups", "entry_pins", "descriptor_changes", "cluster_locks"):
            assert crossed[name] == 0, (operation, name)
            assert virtual[operation]["crossings_per_page"][name] > 0, (operation, name)
    for operations in (direct, virtual):
        assert 1 / 16 <= operations["swap-out"]["crossings_per_page"]["device_write_calls"] < 0.2
        assert operations["swap-in"]["crossings_per_page"]["device_read_calls"] == 1
        assert operations["swap-out"]["crossings_per_page"]["log_appends"] == 0
    compressed = modes["compressed in RAM"]["operations"]
    assert compressed["swap-out"]["crossings_per_page"]["log_appends"] > 0.5
    assert isinstance(record["met"], bool)
