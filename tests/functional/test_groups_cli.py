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


def test_set_limit_changes_all_that_is_named_or_nothing(program: subprocess.Popen[str]) -> None:
    pid = str(program.pid)

    def cache() -> dict[str, object]:
        told = json.loads(vswap("stat", "--pid", pid, "--json").stdout)
        return next(group for one in told for group in one["groups"] if group["name"] == "cache")

    done = vswap("set", "--pid", pid, "--limit", "web/cache:zswap_max=50M,writeback=off")
    assert done.stdout == f"{pid}: web/cache: zswap_max={50 << 20}, writeback=off\n", done
    before = cache()
    assert (before["zswap_max_bytes"], before["writeback"]) == (50 << 20, False)
    for wanted, word in [
        ("web/cache:writeback=on,zswap_max=1M", "below what the group holds"),
        ("web/cache:writeback=on,device=/no/such", "no device"),
        ("web/none:zswap_max=1M", "web/none"),
        ("web/cache", "nothing to change"),
        ("web/cache:speed=11", "no setting"),
    ]:
        refused = vswap("set", "--pid", pid, "--limit", wanted)
        assert refused.returncode in (1, 2), refused
        assert word in refused.stderr, refused
        assert cache() == before
    done = vswap("set", "--pid", pid, "--limit", "web/cache:zswap_max=none,writeback=on")
    assert done.returncode == 0, done
    assert "zswap_max_bytes" not in cache() and cache()["writeback"]


def test_groups_a_program_makes_are_below_the_one_it_was_given() -> None:
    inside = """
import numpy as np, vswap
space = vswap.current()
web = space.group("web", zswap_max="60M")
a = web.zeros((8, 1 << 20), "u1")
a[:] = np.frombuffer(np.random.default_rng(1).bytes(8 << 20), "u1").reshape(8, -1)
held = {group.path: group.stats() for group in space.groups()}
print(sorted(held), held["job"].resident_pages > held["job/web"].resident_pages >= 2048)
assert space.check() == ()
del a
web.close()
"""
    done = vswap("run", "--ram", "64M", "--group", "job:ram_max=48M", sys.executable, "-c", inside)
    assert done.stdout == "['job', 'job/web'] True\n", done


def test_a_group_that_cannot_be_is_told_and_nothing_runs_unmanaged() -> None:
    done = vswap("run", "--ram", "64M", "--group", "job:ram_max=4K", sys.executable, "-c", "x = 1")
    assert done.returncode == 125, done
    assert "the group of this program: ram_max of 4.0 KiB is too small" in done.stderr, done
