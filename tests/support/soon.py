"""`soon` for the programs of tests: waits for what comes about by itself."""

from __future__ import annotations

SOON = '''
import time
def soon(condition, seconds=60, looks=50, told=lambda: "not so"):
    """Waits until the condition holds: so many seconds at most, but so many looks at least.

    By time alone a machine that stands still for as long would fail it. `told` says what was found.
    """
    until = time.monotonic() + seconds
    while not condition():
        looks -= 1
        assert looks > 0 or time.monotonic() < until, told()
        time.sleep(0.02)
'''
"""To be put in front of a program, which has `time` then."""
