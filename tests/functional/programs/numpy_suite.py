"""NumPy's own tests, plainly or inside a space: `numpy_suite.py JUNIT.xml RAM|- MODULES...`.

Prints what the space did, so that a run in which nothing was swapped is noticed.
Left out are the tests of f2py: they are about building Fortran modules, in processes of their own, and without a
build system (meson) they are errors already when they are collected, which ends the whole run.
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


def f2py() -> Path:
    """Where its tests are, without having imported NumPy before there is a space."""
    spec = find_spec("numpy")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).with_name("f2py")


def main() -> int:
    junit, ram, *rest = sys.argv[1:]
    faults, names = rest[0], rest[1:]
    arguments = ["-q", "-p", "no:cacheprovider", f"--junit-xml={junit}"]
    arguments += ["--pyargs", *names, "-m", "not slow", "--tb=short"]
    arguments += [f"--ignore={f2py()}"]
    if ram == "-":
        return int(pytest.main(arguments))
    import vswap

    space = vswap.SwapSpace(ram=ram, faults=faults, min_alloc=65536)
    with space:
        code = int(pytest.main(arguments))
    stats = space.stats()
    print("SPACE", json.dumps({"out": stats.swap_out_pages, "in": stats.swap_in_pages}))
    broken = space.check()
    if broken:
        print("SELF-CHECK", broken)
        return 99
    return code


raise SystemExit(main())
