"""gcc -O2 over real C files: the same objects, bit for bit."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

import pytest

from support.capability import delivery, lacking, tool
from support.program import Finished, Managed, run
from support.sizes import budget_for, sized

QUICK_FILES = ("compress/zstd_compress.c", "decompress/huf_decompress.c")


@cache
def zstd_sources() -> Path:
    """zstd's C files, which the crate zstd-sys that the engine is built with brings along."""
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    found = sorted(home.glob("registry/src/*/zstd-sys-*/zstd/lib"))
    if not found:
        lacking("the C sources of the crate zstd-sys (cargo fetch)")
    return found[-1]


def files() -> list[Path]:
    root = zstd_sources()
    everything = [path for path in sorted(root.glob("*/*.c")) if "deprecated" not in path.parts]
    return sized([root / name for name in QUICK_FILES], everything)


@pytest.fixture(scope="module")
def plain(session_folder: Path) -> tuple[dict[str, str], list[Finished]]:
    return compile_all(session_folder / "plain", None)


def compile_all(folder: Path, how: Managed | None) -> tuple[dict[str, str], list[Finished]]:
    """Digest of each object, by source file."""
    folder.mkdir()
    digests, done = {}, []
    for path in files():
        target = folder / (path.stem + ".o")
        command = [tool("gcc"), "-O2", "-c", path, "-o", target]
        done.append(run(command, how, timeout=120).succeeded())
        digests[path.name] = hashlib.sha256(target.read_bytes()).hexdigest()
    return digests, done


@pytest.mark.parametrize(
    ("faults", "swap"), [("thread", "auto"), ("thread", "none"), ("signal", "auto")]
)
def test_gcc_makes_the_same_objects(
    tmp_path: Path, plain: tuple[dict[str, str], list[Finished]], faults: str, swap: str
) -> None:
    delivery(faults)
    wanted, runs = plain
    ram = budget_for(max(done.touched for done in runs), swap)
    found, runs = compile_all(tmp_path / "managed", Managed(ram, swap=swap, faults=faults))
    assert found == wanted
    for done in runs:
        done.within(ram)
