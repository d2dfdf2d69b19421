"""The floors hold: what docs/design.md says about who may use whom is read out of the sources."""

import ast
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CRATES = ROOT / "crates"
PACKAGE = ROOT / "python" / "vswap"

# From the ground up. A crate may use those before it and no other.
FLOORS = ["units", "platform", "store", "space", "process", "capi", "preload"]
MAY_BE_UNSAFE = {"platform", "capi", "preload"}
# `space` makes no system call: of platform it may use locks, tables, what codecs need, and the vDSO's clock.
SPACE_MAY_USE = {"sync", "lazy", "codec", "errno", "tls", "clock"}
LONGEST_FILE = 600


def manifest(crate: str) -> dict[str, object]:
    return tomllib.loads((CRATES / crate / "Cargo.toml").read_text())


def floors_used(crate: str) -> set[str]:
    found: set[str] = set()
    parsed = manifest(crate)
    targets = parsed.get("target", {})
    assert isinstance(targets, dict)
    for table in (parsed, *targets.values()):
        for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
            found |= {
                name.removeprefix("vswap-")
                for name in table.get(kind, {})
                if name.startswith("vswap-")
            }
    return found


def rust_files(crate: str) -> list[Path]:
    """The sources of a crate, without the files that hold nothing but its tests."""
    found = sorted((CRATES / crate).glob("src/**/*.rs"))
    return [path for path in found if "tests" not in path.parts and path.stem != "tests"]


def code_of(path: Path) -> str:
    """The file without comments and string literals."""
    pattern = r'//[^\n]*|/\*.*?\*/|b?"(?:\\.|[^"\\])*"|b?\'(?:\\.|[^\'\\])\''
    return re.sub(pattern, " ", path.read_text(), flags=re.DOTALL)


def every_source() -> Iterator[Path]:
    for folder, endings in {
        "crates": ["rs", "c", "h"],
        "python": ["py"],
        "tools": ["py"],
        "tests": ["py"],
    }.items():
        for ending in endings:
            yield from (ROOT / folder).rglob(f"*.{ending}")


def knots(graph: dict[str, set[str]]) -> list[list[str]]:
    """Every group of nodes that reach each other (Tarjan's components of more than one)."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += graph.get(node, set())
        reach[start] = seen
    found = {
        frozenset(b for b in reach[a] if a in reach.get(b, set())) | {a}
        for a in graph
        if a in reach[a]
    }
    return sorted(sorted(group) for group in found)


def test_every_crate_is_a_floor() -> None:
    assert {path.parent.name for path in CRATES.glob("*/Cargo.toml")} == set(FLOORS)


@pytest.mark.parametrize("crate", FLOORS)
def test_a_crate_depends_only_on_lower_floors(crate: str) -> None:
    above = floors_used(crate) - set(FLOORS[: FLOORS.index(crate)])
    assert not above, f"{crate} uses {sorted(above)}, which stand above it"


@pytest.mark.parametrize("crate", FLOORS)
def test_every_crate_takes_the_lints_of_the_workspace(crate: str) -> None:
    assert manifest(crate)["lints"] == {"workspace": True}


@pytest.mark.parametrize("crate", [floor for floor in FLOORS if floor not in MAY_BE_UNSAFE])
def test_unsafe_stays_on_the_floors_that_may(crate: str) -> None:
    guilty = [
        str(path.relative_to(ROOT))
        for path in rust_files(crate)
        if re.search(r"\bunsafe\b", code_of(path))
    ]
    assert not guilty
    allowing = [
        str(path.relative_to(ROOT))
        for path in rust_files(crate)
        if re.search(r"(allow|expect)\s*\(\s*unsafe_code", path.read_text())
    ]
    assert not allowing


@pytest.mark.parametrize("crate", ["units", "store", "space", "process"])
def test_only_platform_speaks_to_the_kernel(crate: str) -> None:
    dependencies = manifest(crate).get("dependencies", {})
    assert isinstance(dependencies, dict)
    assert not {"libc", "syscalls", "rustix", "nix"} & set(dependencies)


def test_what_is_for_testing_is_a_module_of_its_own_and_never_a_branch_of_the_engine() -> None:
    gate = re.compile(r'feature\s*=\s*"testing"')
    gated = [
        line
        for crate in FLOORS
        for path in rust_files(crate)
        for before, line in pairwise(path.read_text().splitlines())
        if gate.search(before)
    ]
    assert gated
    assert set(gated) == {"pub mod testing;"}


def test_the_swap_layer_makes_no_system_call() -> None:
    guilty = {}
    for path in rust_files("space"):
        code = code_of(path).split("#[cfg(test)]")[0]
        used = set(re.findall(r"\bvswap_platform::(\w+)", code))
        for group in re.findall(r"\bvswap_platform::\{([^;]*)\}\s*;", code):
            flat = re.sub(r"\{[^{}]*\}", "", group)
            used |= {name.split("::")[0].strip() for name in flat.split(",") if name.strip()}
        if used - SPACE_MAY_USE:
            guilty[path.name] = sorted(used - SPACE_MAY_USE)
        if re.search(r"\bstd::(fs|io|net|process|thread|time)\b", code):
            guilty.setdefault(path.name, []).append("std")
    assert not guilty


def test_no_file_is_longer_than_the_cap() -> None:
    lengths = {
        path.relative_to(ROOT): len(path.read_text().splitlines()) for path in every_source()
    }
    too_long = {str(path): lines for path, lines in lengths.items() if lines > LONGEST_FILE}
    assert not too_long, f"each of these has more than one job: {too_long}"


def rust_modules(crate: str) -> dict[str, Path]:
    source = CRATES / crate / "src"
    modules = {}
    for path in rust_files(crate):
        parts = list(path.relative_to(source).with_suffix("").parts)
        if parts[-1] in {"mod", "lib"}:
            parts.pop()
        if parts and "tests" not in parts:
            modules["::".join(parts)] = path
    return modules


@pytest.mark.parametrize("crate", FLOORS)
def test_no_modules_of_a_crate_import_each_other_in_a_circle(crate: str) -> None:
    modules = rust_modules(crate)
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        code = code_of(path).split("#[cfg(test)]")[0]
        for reference in re.findall(r"\bcrate::((?:\w+::)*\w+)", code):
            parts = reference.split("::")
            known = ["::".join(parts[:n]) for n in range(len(parts), 0, -1)]
            target = next((module for module in known if module in modules), None)
            if target and target != name:
                graph[name].add(target)
        # A file with more methods of another file's type is a part of that type, not a user of it.
        graph[name] -= {
            target for target in graph[name] if defines_any(modules[target], methods_in(code))
        }
    assert not knots(graph)


def methods_in(code: str) -> set[str]:
    """The types that this code has an `impl` block of."""
    return set(re.findall(r"^impl(?:<[^>]*>)? (\w+)(?:<[^>]*>)? \{", code, re.M))


def defines_any(path: Path, types: set[str]) -> bool:
    return any(re.search(rf"\bstruct {name}\b", code_of(path)) for name in types)


def python_modules() -> dict[str, Path]:
    modules = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        modules[".".join(parts)] = path
    return modules


def imports_of(tree: ast.Module) -> Iterator[str]:
    """Every name imported, inside functions too, but not for type checking alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_python_modules_import_each_other_in_a_circle() -> None:
    modules = python_modules()
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for imported in imports_of(ast.parse(path.read_text())):
            parts = imported.split(".")
            known = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
            target = next((module for module in known if module in modules), None)
            if target and target not in {name, "vswap"}:
                graph[name].add(target)
    assert not knots(graph)


def test_only_one_module_speaks_ctypes_and_one_loads_the_library() -> None:
    importers: dict[str, set[str]] = {"ctypes": set(), "cffi": set()}
    for name, path in python_modules().items():
        for imported in imports_of(ast.parse(path.read_text())):
            if imported.split(".")[0] in importers:
                importers[imported.split(".")[0]].add(name)
    assert len(importers["ctypes"]) <= 1, importers
    assert len(importers["cffi"]) <= 1, importers


def test_package_and_crates_have_one_version() -> None:
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    package = re.search(r'__version__ = "([^"]+)"', (PACKAGE / "__init__.py").read_text())
    assert package is not None
    assert package.group(1) == workspace
