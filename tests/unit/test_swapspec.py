"""Every mistake in a swap path is one clear sentence before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vswap.errors import ConfigError
from vswap.run import swapspec
from vswap.run.swapspec import (
    HEADER_MAGIC,
    automatic_directories,
    automatic_directory,
    check_swap,
    check_swaps,
    file_system_of,
    is_automatic,
    split_spec,
)

MAGIC_IN_RUST = Path(__file__).parents[2] / "crates" / "platform" / "src" / "file.rs"


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that counts as a disk wherever the tests run."""
    monkeypatch.setattr(swapspec, "file_system_of", lambda _: "ext4")
    return tmp_path


def refusal(spec: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check_swap(spec)
    return str(caught.value)


def test_the_words_and_a_good_path_pass(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_swaps(["auto"]) == ["auto"]
    assert check_swap("none") == "none"
    assert check_swap(f"{disk}/swap:64M") == f"{disk}/swap:67108864"
    monkeypatch.chdir(disk)
    assert check_swap("swap") == f"{disk}/swap"
    assert not (disk / "swap").exists()


def test_a_size_is_what_reads_as_one() -> None:
    assert split_spec("/a/b:2G") == ("/a/b", 2 << 30)
    assert split_spec("/a/b:c") == ("/a/b:c", None)
    assert split_spec("/a:b/c") == ("/a:b/c", None)
    with pytest.raises(ConfigError, match="too small"):
        split_spec("/a:1K")
    with pytest.raises(ConfigError, match="not a size"):
        split_spec("/a:12potatoes")


def test_none_stands_alone() -> None:
    with pytest.raises(ConfigError, match="combined"):
        check_swaps(["none", "auto"])


def test_the_file_without_a_name_may_have_a_size(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(disk)
    assert check_swap("auto:64M") == f"auto:{64 << 20}"
    assert check_swap("auto:64M@3") == f"auto:{64 << 20}@3"
    assert check_swap("slots:auto:64M") == f"slots:auto:{64 << 20}"
    assert check_swap("./auto:64M") == f"{disk}/auto:{64 << 20}"
    assert [is_automatic(spec) for spec in ("auto", "slots:auto:67108864", "auto@3")] == [True] * 3
    assert not any(is_automatic(spec) for spec in ("none", "/auto", "/a/auto:67108864"))
    assert "too small" in refusal("auto:1K")
    told = refusal("auto:7000T")
    assert "no place for a swap file of 7000.0 TiB (/var/tmp has only " in told, told


def test_a_size_of_the_file_without_a_name_is_looked_for_on_every_disk(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def statvfs(path: str) -> os.statvfs_result:
        free = 1 << 20 if path == str(disk) else 1 << 14
        return os.statvfs_result((4096, 4096, free, free, free, 1, 1, 1, 0, 255))

    monkeypatch.setattr("os.statvfs", statvfs)
    assert check_swap("auto:2G", {"TMPDIR": str(disk)}) == f"auto:{2 << 30}"
    with pytest.raises(ConfigError, match=r"/var/tmp has only 64\.0 MiB free"):
        check_swap("auto:2G", {})


def test_no_device_has_no_size() -> None:
    for spec in ("none:400M", "none@3", "slots:none:400M"):
        told = refusal(spec)
        assert "none is no device" in told and "./none" in told, told


def test_a_directory_is_refused(disk: Path) -> None:
    assert "is a directory" in refusal(str(disk))


def test_a_missing_directory_is_refused(disk: Path) -> None:
    assert "does not exist" in refusal(f"{disk}/no/swap")


def test_somebodys_data_is_never_taken(disk: Path) -> None:
    (disk / "data").write_bytes(b"precious")
    assert "not vswap's" in refusal(f"{disk}/data")
    (disk / "ours").write_bytes(HEADER_MAGIC + bytes(100))
    (disk / "empty").touch()
    assert check_swap(f"{disk}/ours") == f"{disk}/ours"
    assert check_swap(f"{disk}/empty") == f"{disk}/empty"


def test_what_is_no_regular_file_is_refused(disk: Path) -> None:
    os.mkfifo(disk / "pipe")
    assert "not a regular file" in refusal(f"{disk}/pipe")
    (disk / "dangling").symlink_to(disk / "nothing")
    assert "No such file" in refusal(f"{disk}/dangling")


def test_tmpfs_is_refused_because_it_is_ram(monkeypatch: pytest.MonkeyPatch, disk: Path) -> None:
    monkeypatch.setattr(swapspec, "file_system_of", lambda _: "tmpfs")
    assert "which is RAM" in refusal(f"{disk}/swap")
    judged = list(automatic_directories({"TMPDIR": str(disk)}))
    assert [d.path for d in judged] == ["/var/tmp", str(disk)]
    assert all("RAM" in (d.refusal or "") for d in judged)
    assert automatic_directory({}) is None


def test_a_read_only_file_system_is_refused(monkeypatch: pytest.MonkeyPatch, disk: Path) -> None:
    result = os.statvfs_result((4096, 4096, 10**9, 10**9, 10**9, 1, 1, 1, os.ST_RDONLY, 255))
    monkeypatch.setattr("os.statvfs", lambda _: result)
    assert "read-only" in refusal(f"{disk}/swap")


def test_a_full_disk_is_refused(monkeypatch: pytest.MonkeyPatch, disk: Path) -> None:
    result = os.statvfs_result((4096, 4096, 10**9, 10, 10, 1, 1, 1, 0, 255))
    monkeypatch.setattr("os.statvfs", lambda _: result)
    assert "40.0 KiB free" in refusal(f"{disk}/swap")
    assert "has only" in (next(automatic_directories({})).refusal or "")


def test_more_than_the_disk_has_is_refused(disk: Path) -> None:
    assert "asked for" in refusal(f"{disk}/swap:7000T")


def test_a_directory_without_permission_is_refused(
    monkeypatch: pytest.MonkeyPatch, disk: Path
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "may not make files" in refusal(f"{disk}/swap")
    (disk / "old").touch()
    assert "may not be written" in refusal(f"{disk}/old")


def test_characters_that_divide_specs_are_refused(disk: Path) -> None:
    assert "comma" in refusal(f"{disk}/a,b")
    assert "missing" in refusal("")


def test_the_file_system_of_a_path_is_that_of_its_longest_mount() -> None:
    assert file_system_of("/proc/self") == "proc"
    assert file_system_of("/nowhere/at/all") == file_system_of("/")


def test_the_header_is_the_one_the_engine_writes() -> None:
    assert f'b"{HEADER_MAGIC.decode()}"' in MAGIC_IN_RUST.read_text()


def test_plain_slots_are_asked_for_before_the_file(disk: Path) -> None:
    assert check_swap("slots:auto") == "slots:auto"
    assert check_swap(f"slots:{disk}/swap:64M") == f"slots:{disk}/swap:{64 << 20}"
    assert "need a file" in refusal("slots:none")
    assert "missing" in refusal("slots:")
