"""The documents tell the truth: their examples run, their links lead somewhere, their figures were measured."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
# A block after `<!-- not run: why -->` is shown, not run.
BLOCK = re.compile(r"(<!-- not run: [^>]+-->\n+)?^```(python|console)\n(.*?)^```$", re.M | re.S)


def blocks(language: str) -> list[object]:
    found: list[object] = []
    for document in DOCUMENTS:
        for number, (unrun, kind, text) in enumerate(BLOCK.findall(document.read_text()), 1):
            if kind == language and not unrun:
                found.append(pytest.param(text, id=f"{document.name}-{number}"))
    return found


def commands() -> list[object]:
    found: list[object] = []
    for block in blocks("console"):
        text = block.values[0]  # type: ignore[attr-defined]
        for line in text.splitlines():
            if line.startswith("$ "):
                found.append(pytest.param(line[2:], id=f"{block.id}: {line[2:]}"))  # type: ignore[attr-defined]
    return found


def in_the_environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path}


@pytest.mark.parametrize("program", blocks("python"))
def test_a_python_example_runs(program: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", commands())
def test_a_console_example_runs(command: str) -> None:
    if command.startswith("make "):
        target = command.split()[1]
        assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.M), (
            f"no target {target}"
        )
        return
    done = subprocess.run(
        ["/bin/bash", "-c", command],
        cwd=ROOT,
        env=in_the_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
    broken = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_named_exists(document: Path) -> None:
    named = re.findall(
        r"`((?:crates|python|tests|tools|docs|examples|include)/[\w./-]+)`", document.read_text()
    )
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


def promises() -> list[object]:
    text = (ROOT / "SPECIFICATION.md").read_text()
    lines = [
        line
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith(("| Promise", "|--"))
    ]
    return [pytest.param(line, id=line.split("|")[1].strip()[:60]) for line in lines]


@pytest.mark.parametrize("line", promises())
def test_a_promise_names_the_test_that_keeps_it_or_says_pending(line: str) -> None:
    kept_by = line.rstrip().rstrip("|").rsplit("|", 1)[-1].strip()
    if kept_by.startswith("pending"):
        return
    links = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", kept_by)
    assert links, f"neither a test nor 'pending': {line}"
    for name, target in links:
        path = ROOT / target
        assert path.exists(), target
        assert name == path.name or re.search(rf"\b{re.escape(name)}\b", path.read_text()), (
            f"{name} is not in {target}"
        )


def figures_tool() -> ModuleType:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        found = importlib.util.spec_from_file_location("figures", ROOT / "tools" / "figures.py")
        assert found is not None and found.loader is not None
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        return module
    finally:
        sys.path.pop(0)


def test_the_readmes_number_is_the_measured_one() -> None:
    tool = figures_tool()
    figures = json.loads((ROOT / "docs" / "figures.json").read_text())
    assert tool.BEGIN + tool.sentence(figures) + tool.END in (ROOT / "README.md").read_text()


def test_the_specification_says_which_recorded_figures_miss_their_promise() -> None:
    figures = json.loads((ROOT / "docs" / "figures.json").read_text())
    speed = (ROOT / "SPECIFICATION.md").read_text().split("## Speed")[1].split("## ")[0]
    flights = figures["flights"]
    contenders = figures["bench"]["contenders"]
    assert {"vswap-thread", "vswap-signal", "zram-lz4"} <= contenders.keys()
    missed = {
        key
        for found in contenders.values()
        for key, figure in found.items()
        if figure["met"] is False
    }
    missed |= {"fits"} if figures["fits"]["ratio_of_turns"] > 1.02 else set()
    missed |= {"start"} if figures["start"]["added_ms"] > 60 else set()
    slower = flights["vswap"]["seconds"] / flights["plain"]["seconds"]
    missed |= {"flights"} if slower > 1.6 else set()
    told = set(re.findall(r"missed: `(\w+)`", speed))
    assert missed == told, f"missed {sorted(missed)}, the document tells {sorted(told)}"


def test_the_readmes_first_screen_has_what_a_stranger_looks_for() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:34])
    for part in (
        "It is",
        "It is not",
        "$ make demo",
        "$ vswap run",
        "```python",
        "<!-- figure: begin -->",
    ):
        assert part in first_screen


def dependencies_of_the_manifests() -> set[str]:
    found: set[str] = set()
    for manifest in ROOT.glob("crates/*/Cargo.toml"):
        parsed = tomllib.loads(manifest.read_text())
        for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
            found |= {name for name in parsed.get(kind, {}) if not name.startswith("vswap-")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found | {re.split(r"[<>=~!\[ ]", line)[0] for line in project["dependencies"]}


def test_every_direct_dependency_has_its_reason() -> None:
    explained = set(re.findall(r"`([\w-]+)`", (ROOT / "docs" / "dependencies.md").read_text()))
    assert not dependencies_of_the_manifests() - explained
