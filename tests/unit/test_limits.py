"""The default budget follows the tightest cgroup that can be seen."""

from __future__ import annotations

from pathlib import Path

from vswap.run.limits import default_budget, memory_limit

GIB = 1 << 30
MEMINFO = "MemTotal:       16777216 kB\nMemFree:  1 kB\n"
V2 = "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 25 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def root(tmp_path: Path, mountinfo: str, cgroup: str, **limits: int | str) -> str:
    """A file tree like that of a machine; limits by path below /sys/fs/cgroup."""
    files = {"proc/meminfo": MEMINFO, "proc/self/mountinfo": mountinfo, "proc/self/cgroup": cgroup}
    files |= {f"sys/fs/cgroup/{path}": f"{value}\n" for path, value in limits.items()}
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return str(tmp_path)


def test_without_cgroups_the_machine_is_the_limit(tmp_path: Path) -> None:
    limit = memory_limit(root(tmp_path, "", ""))
    assert (limit.bytes, limit.source) == (16 * GIB, "the machine's memory")


def test_an_unlimited_cgroup_leaves_the_machine(tmp_path: Path) -> None:
    place = root(tmp_path, V2, "0::/a\n", **{"a/memory.max": "max", "memory.max": "max"})
    assert memory_limit(place).bytes == 16 * GIB


def test_the_tightest_level_of_nested_cgroups_wins(tmp_path: Path) -> None:
    limits = {"a/b/c/memory.max": 8 * GIB, "a/b/memory.max": 2 * GIB, "a/memory.max": 4 * GIB}
    limit = memory_limit(root(tmp_path, V2, "0::/a/b/c\n", **limits))
    assert (limit.bytes, limit.source) == (2 * GIB, "/sys/fs/cgroup/a/b/memory.max")


def test_throttling_counts_as_a_limit(tmp_path: Path) -> None:
    limits = {"a/memory.max": 8 * GIB, "a/memory.high": 3 * GIB}
    assert memory_limit(root(tmp_path, V2, "0::/a\n", **limits)).bytes == 3 * GIB


def test_version_one_is_read_and_its_no_limit_is_none(tmp_path: Path) -> None:
    limits = {"memory/x/memory.limit_in_bytes": 1 * GIB,
              "memory/memory.limit_in_bytes": 9223372036854771712}  # fmt: skip
    place = root(tmp_path, V1, "5:cpu:/\n4:memory:/x\n0::/\n", **limits)
    assert memory_limit(place).bytes == GIB
    place = root(tmp_path, V1, "4:cpuset,memory:/elsewhere\n", **limits)
    assert memory_limit(place).bytes == 16 * GIB


def test_a_container_sees_its_own_part_of_the_tree(tmp_path: Path) -> None:
    part = V1.replace(" / /sys", " /docker/abc /sys")
    place = root(tmp_path, part, "4:memory:/docker/abc\n", **{"memory/memory.limit_in_bytes": GIB})
    assert memory_limit(place).bytes == GIB
    outside = root(tmp_path, V2, "0::/../outside\n", **{"memory.max": 2 * GIB})
    assert memory_limit(outside).bytes <= 2 * GIB


def test_the_default_is_seventy_percent_in_whole_pages(tmp_path: Path) -> None:
    budget = default_budget(root(tmp_path, V2, "0::/a\n", **{"a/memory.max": 1001 * 4096}))
    assert budget == 700 * 4096
