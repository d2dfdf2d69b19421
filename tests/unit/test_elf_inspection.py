"""What cannot come under vswap is seen before it starts."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest

from vswap.run.elf import parse_elf
from vswap.run.inspect import shebang, unmanaged_reason
from vswap.run.resolve import CommandError, find_command, resolve

X86_64, I386, AARCH64 = 62, 3, 183
GLIBC = "/lib64/ld-linux-x86-64.so.2"


def elf(
    interpreter: str | None = GLIBC, *, machine: int = X86_64, bits: int = 64, dynamic: bool = True
) -> bytes:
    """The headers of a program, as a linker writes them."""
    kinds = ([3] if interpreter else []) + ([2] if dynamic else []) + [1]
    name = (interpreter or "").encode() + b"\0"
    head_size, entry_size = (64, 56) if bits == 64 else (52, 32)
    name_at = head_size + entry_size * len(kinds)
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1, 1]) + bytes(9)
    layout = "<HHIQQQIHHHHHH" if bits == 64 else "<HHIIIIIHHHHHH"
    head = struct.pack(layout, 3, machine, 1, 0, head_size, 0, 0, head_size, entry_size,
                       len(kinds), 0, 0, 0)  # fmt: skip
    entries = b""
    for kind in kinds:
        if bits == 64:
            entries += struct.pack("<IIQQQQQQ", kind, 4, name_at, 0, 0, len(name), len(name), 1)
        else:
            entries += struct.pack("<IIIIIIII", kind, name_at, 0, 0, len(name), len(name), 4, 1)
    return ident + head + entries + name


def put(path: Path, content: bytes, mode: int = 0o755) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


@pytest.fixture
def library(tmp_path: Path) -> str:
    return put(tmp_path / "libvswap.so.1", elf(None, dynamic=True))


def reason(path: str, library: str, *argv: str, **environ: str) -> str | None:
    return unmanaged_reason(path, argv or (path,), environ or {"PATH": "/usr/bin:/bin"}, library)


def test_a_dynamic_program_of_this_machine_is_managed(tmp_path: Path, library: str) -> None:
    assert reason(put(tmp_path / "p", elf()), library) is None


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "static-pie"])
def test_a_static_program_is_named(tmp_path: Path, library: str, dynamic: bool) -> None:
    told = reason(put(tmp_path / "p", elf(None, dynamic=dynamic)), library)
    assert told
    assert "statically linked" in told


def test_the_loader_called_by_hand_is_managed(tmp_path: Path, library: str) -> None:
    assert reason(put(tmp_path / "ld-linux-x86-64.so.2", elf(None)), library) is None


@pytest.mark.parametrize(
    ("program", "word"),
    [
        (elf(machine=AARCH64), "aarch64"),
        (elf("/lib/ld-linux.so.2", machine=I386, bits=32), "32-bit x86"),
        (elf(machine=I386, bits=64), "32-bit x86"),
        (elf("/lib/ld-musl-x86_64.so.1"), "musl"),
        (elf("/system/bin/linker64"), "not glibc's"),
        (b"\x7fELF" + bytes(20), "damaged"),
    ],
)
def test_a_foreign_program_is_named(
    tmp_path: Path, library: str, program: bytes, word: str
) -> None:
    told = reason(put(tmp_path / "p", program), library)
    assert told
    assert word in told


def test_setuid_of_somebody_else_is_named_and_of_oneself_is_not(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "p", elf(), 0o4755)
    monkeypatch.setattr("os.statvfs", lambda _: os.statvfs_result((0,) * 10))
    assert reason(path, library) is None
    monkeypatch.setattr("os.getuid", lambda: 12345)
    told = reason(path, library)
    assert told
    assert "setuid" in told


def test_setgid_of_another_group_is_named(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "p", elf(), 0o2755)
    assert os.stat(path).st_mode & stat.S_ISGID
    monkeypatch.setattr("os.statvfs", lambda _: os.statvfs_result((0,) * 10))
    monkeypatch.setattr("os.getgid", lambda: 12345)
    assert "setgid" in (reason(path, library) or "")


def test_setuid_means_nothing_on_a_file_system_that_ignores_it(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "p", elf(), 0o4755)
    nosuid = os.statvfs_result((0, 0, 0, 0, 0, 0, 0, 0, os.ST_NOSUID, 0))
    monkeypatch.setattr("os.statvfs", lambda _: nosuid)
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert reason(path, library) is None


def test_file_capabilities_are_named_for_all_but_root(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "p", elf())
    monkeypatch.setattr("os.getxattr", lambda *_: b"caps")
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert "file capabilities" in (reason(path, library) or "")
    monkeypatch.setattr("os.getuid", lambda: 0)
    assert reason(path, library) is None


def test_a_script_is_what_its_interpreter_is(tmp_path: Path, library: str) -> None:
    static = put(tmp_path / "static", elf(None))
    good = put(tmp_path / "good", elf())
    inner = put(tmp_path / "inner", f"#!{static} -x\n".encode())
    assert "statically" in (reason(put(tmp_path / "a", f"#! {inner}\n".encode()), library) or "")
    assert reason(put(tmp_path / "b", f"#!{good}\n".encode()), library) is None
    assert reason(put(tmp_path / "c", b"echo without a first line\n"), library) is None


def test_a_script_of_itself_ends(tmp_path: Path, library: str) -> None:
    loop = tmp_path / "loop"
    assert "deep" in (reason(put(loop, f"#!{loop}\n".encode()), library) or "")
    assert "no interpreter" in (reason(put(tmp_path / "n", b"#!\n"), library) or "")


def test_env_is_looked_through(tmp_path: Path, library: str) -> None:
    env = put(tmp_path / "env", elf())
    put(tmp_path / "tool", elf(None))
    script = put(tmp_path / "script", f"#!{env} -S A=1 tool -u\n".encode())
    assert "statically" in (reason(script, library, PATH=str(tmp_path)) or "")
    told = reason(env, library, "env", "-i", "tool", PATH=str(tmp_path))
    assert told
    assert "clears LD_PRELOAD" in told
    assert reason(env, library, "env", "A=1", PATH=str(tmp_path)) is None


def test_a_first_line_is_split_as_the_kernel_splits_it() -> None:
    assert shebang(b"#! /usr/bin/env  python3 -u \nrest") == ["/usr/bin/env", "python3 -u"]


@pytest.mark.parametrize("name", ["with space", "with:colon"])
def test_a_library_path_the_loader_would_split_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    library = put(tmp_path / name / "libvswap.so.1", elf(None))
    told = reason(put(tmp_path / "p", elf()), library)
    assert told
    assert "LD_PRELOAD" in told


def test_a_truncated_file_is_not_an_elf_file() -> None:
    whole = elf()
    assert parse_elf(whole)
    assert all(parse_elf(whole[:n]) is None for n in range(52))
    for n in range(52, len(whole)):
        parse_elf(whole[:n])


def test_a_command_is_found_as_execvp_finds_it(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    put(first / "tool", elf(), 0o644)
    put(second / "tool", elf())
    path = {"PATH": f"{first}:{second}"}
    assert find_command("tool", path) == str(second / "tool")
    assert resolve(("tool", "x"), path).argv == ("tool", "x")


@pytest.mark.parametrize(
    ("name", "status"),
    [("", 127), ("nothing", 127), ("./nothing", 127), ("plain", 126), ("/", 126)],
)
def test_a_command_that_cannot_start_has_the_status_that_says_so(
    tmp_path: Path, name: str, status: int
) -> None:
    put(tmp_path / "plain", b"text", 0o644)
    with pytest.raises(CommandError) as caught:
        resolve((name,), {"PATH": str(tmp_path)})
    assert caught.value.status == status
