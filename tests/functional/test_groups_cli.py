"""Groups of a running program on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

PROGRAM = """
import sys
import numpy as np, vswap
empty = vswap.SwapSpace("32M", devices=[])
space = vswap.SwapSpace("200M")
web = space.group("web", ram_max="100M")
cache = web.group("cache", zswap_max="60M")
rows = [np.frombuffer(np.random.default_rng(n).bytes(1 << 20), "u1") for n in range(24)]
a = cache.array(rows)
space.evict(a)
print("ready", flush=True)
sys.stdin.readline()
assert all((a[n] == row).all() for n, row in enumerate(rows))
assert space.check() == ()
"""


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
        child.communicate("\n", timeout=60)
        assert child.returncode == 0


def vswap(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vswap", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_stat_shows_the_groups_and_set_drains_one(program: subprocess.Popen[str]) -> None:
    pid = str(program.pid)
    shown = vswap("stat", "--pid", pid).stdout
    lines = [line.split() for line in shown[shown.index("groups of") :].splitlines()]
    names = [line[0] for line in lines[1:]]
    assert names == ["GROUP", "space", "web", "cache"], shown
    assert "100.0" in lines[3] and "60.0" in lines[4], shown

    done = vswap("set", "--pid", pid, "--drain", "web/cache=4M")
    assert done.stdout == f"{pid}: web/cache: 4.0 MiB moved\n", done
    told = json.loads(vswap("stat", "--pid", pid, "--json").stdout)
    groups = {group["path"]: group for one in told for group in one["groups"]}
    assert groups["web/cache"]["device_bytes"] == groups["web"]["device_bytes"] == 4 << 20
    assert groups["web"]["zswap_max_events"] == 0

    for wanted, word in [("web/none=1M", "web/none"), ("web", "GROUP=SIZE"), ("web=lots", "lots")]:
        refused = vswap("set", "--pid", pid, "--drain", wanted)
        assert refused.returncode == 1 or refused.returncode == 2, refused
        assert word in refused.stderr, refused
