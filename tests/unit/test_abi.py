"""The declarations for cffi are those of the C header."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vswap import _abi, _library

ROOT = Path(__file__).parents[2]
HEADER = ROOT / "include" / "vswap.h"


def declarations(text: str) -> dict[str, str]:
    """Every function by name, with spelling that means nothing taken out."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)
    text = re.sub(r"^\s*#.*?(?<!\\)$", " ", text, flags=re.M | re.S)
    text = text.replace('extern "C" {', " ")
    found = {}
    for statement in text.split(";"):
        plain = " ".join(statement.split())
        match = re.search(r"([A-Za-z_][\w *]*?)\b(vswap_\w+) ?\((.*)\)$", plain)
        if match:
            found[match[2]] = _normal(f"{match[1]} ({_types(match[3])})")
    return found


def _types(parameters: str) -> str:
    """The types of a parameter list without the names."""
    kept = []
    for parameter in parameters.split(","):
        words = re.findall(r"\w+|\*", parameter)
        nameless = words[:-1] if len(words) > 1 and words[-1] not in ("*", "int", "char") else words
        kept.append(" ".join(nameless))
    return ", ".join(kept)


def _normal(text: str) -> str:
    text = re.sub(r"\b(struct|extern|VSWAP_API) ", "", text)
    text = re.sub(r"\s*\*\s*", "* ", " ".join(text.split())).strip()
    return re.sub(r"\* (?=[,)*])", "*", text)


C_NAMES = {
    "c_int": "int",
    "c_char": "char",
    "c_void": "void",
    "usize": "size_t",
    "f64": "double",
    **{f"u{n}": f"uint{n}_t" for n in (8, 16, 32, 64)},
    **{f"i{n}": f"int{n}_t" for n in (8, 16, 32, 64)},
}


def c_type(rust: str) -> str:
    """A Rust type of the interface as C writes it."""
    rust = rust.strip()
    for prefix, const in (("*mut ", ""), ("*const ", "const ")):
        if rust.startswith(prefix):
            return f"{const}{c_type(rust.removeprefix(prefix))}*"
    return C_NAMES.get(rust, rust)


def rust_functions() -> dict[str, str]:
    """Every function the engine exports, in the same spelling."""
    found = {}
    for path in (ROOT / "crates" / "capi" / "src").glob("*.rs"):
        pattern = r'extern "C" fn (vswap_\w+)\(([^)]*)\)(?: -> ([^{]+))? \{'
        for name, arguments, result in re.findall(pattern, path.read_text()):
            types = [c_type(a.split(":", 1)[1]) for a in arguments.split(",") if ":" in a]
            found[name] = f"{c_type(result) or 'void'} ({', '.join(types) or 'void'})"
    return found


def test_the_declarations_equal_the_engines_functions() -> None:
    assert declarations(_abi.CDEF) == rust_functions()


@pytest.mark.skipif(not HEADER.exists(), reason="include/vswap.h is made by 'make build'")
def test_the_declarations_equal_the_header() -> None:
    assert declarations(HEADER.read_text()) == declarations(_abi.CDEF)


def test_the_declarations_can_be_parsed_and_compared() -> None:
    assert declarations(_abi.CDEF)["vswap_pin"] == "int64_t (vswap_space*, void*, size_t)"
    assert _abi.new_ffi().typeof("vswap_space *")


def test_the_soname_carries_the_number_of_the_interface() -> None:
    assert f"libvswap.so.{_abi.ABI_VERSION}" == _abi.SONAME == _library.SONAME
