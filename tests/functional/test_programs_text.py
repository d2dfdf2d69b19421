"""sort and xz in a quarter of their memory: the same bytes as plainly."""

from __future__ import annotations

import hashlib
import random
from functools import cache
from pathlib import Path

import pytest

from support.capability import delivery, tool
from support.program import Finished, Managed, run
from support.sizes import MIB, budget_for, sized

TEXT_MIB = sized(24, 700)
XZ_MIB = sized(2, 6)
PLAIN = {"LC_ALL": "C"}
XZ_WITHOUT_SWAP = 0.75
"""Its hash tables shrink less than two times."""
PHRASES = (
    "a page fault cannot wait for an interpreter",
    "descriptors name a segment and an offset in it",
    "whatever is not on a fault or reclaim path belongs elsewhere",
    "the oldest segment is written back first, with a second chance",
    "every swapped-out page gets a virtual swap entry of its own",
)


def write_text(path: Path, mib: int) -> None:
    """Lines of words and numbers in no order, the same at every run."""
    rng = random.Random(5)
    with path.open("w") as out:
        for _ in range(mib):
            lines = []
            left = MIB
            while left > 0:
                line = f"{rng.randrange(10**7):07d} {rng.choice(PHRASES)}"
                lines.append(line)
                left -= len(line) + 1
            out.write("\n".join(lines) + "\n")


def digest(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


@pytest.fixture(scope="module")
def text(session_folder: Path) -> Path:
    path = session_folder / "text"
    write_text(path, TEXT_MIB)
    return path


@cache
def sorted_plainly(text: Path) -> tuple[str, int]:
    """Digest of the sorted text, and what sort held for it."""
    out = text.with_suffix(".plain")
    done = sort(text, out, None)
    return digest(out), done.touched


def sort(text: Path, out: Path, how: Managed | None) -> Finished:
    command = [tool("sort"), "-S", f"{TEXT_MIB * 3}M", "--parallel=2", "-o", out, text]
    return run(command, how, env=PLAIN, timeout=sized(160, 3000)).succeeded()


@pytest.mark.parametrize(
    ("faults", "swap"), [("thread", "auto"), ("thread", "none"), ("signal", "auto")]
)
def test_sort_gives_the_same_text(text: Path, tmp_path: Path, faults: str, swap: str) -> None:
    delivery(faults)
    wanted, held = sorted_plainly(text)
    ram = budget_for(held, swap)
    done = sort(text, tmp_path / "sorted", Managed(ram, swap=swap, faults=faults))
    assert digest(tmp_path / "sorted") == wanted, done.describe()
    done.within(ram)


@pytest.mark.parametrize(
    ("faults", "swap"), [("thread", "auto"), ("thread", "none"), ("signal", "auto")]
)
def test_xz_gives_back_what_it_compressed(tmp_path: Path, faults: str, swap: str) -> None:
    delivery(faults)
    source = tmp_path / "source"
    write_text(source, XZ_MIB)
    command = [tool("xz", "xz-utils"), "-9", "-T2", f"--block-size={XZ_MIB * MIB // 2}", "-k"]
    timeout = sized(80, 3000)
    plain = run([*command, source], timeout=timeout).succeeded()
    compressed = source.with_suffix(".xz")
    wanted = digest(compressed)
    compressed.unlink()
    ram = budget_for(plain.touched, swap, XZ_WITHOUT_SWAP)
    how = Managed(ram, swap=swap, faults=faults)
    done = run([*command, source], how, timeout=timeout).succeeded().within(ram)
    assert digest(compressed) == wanted, done.describe()
    back = run([command[0], "-dc", "-T2", compressed], how, timeout=timeout).succeeded().within(ram)
    assert hashlib.sha256(back.out).hexdigest() == digest(source)
