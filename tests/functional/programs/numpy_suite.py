"""NumPy's own tests, plainly or inside a space: `numpy_suite.py JUNIT.xml RAM|- MODULES...`.

Prints what the space did, so that a run in which nothing was swapped is noticed.
"""

from __future__ import annotations

import json
import sys

import pytest


def main() -> int:
    junit, ram, *rest = sys.argv[1:]
    faults, names = rest[0], rest[1:]
    arguments = ["-q", "-p", "no:cacheprovider", f"--junit-xml={junit}"]
    arguments += ["--pyargs", *names, "-m", "not slow", "--tb=short"]
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
