"""A program that makes groups and fills arrays of theirs: what the tests of groups run."""

from __future__ import annotations

from textwrap import dedent

from support.child import Child
from support.soon import SOON

PRELUDE = (
    SOON
    + """
import gc, os, threading
import numpy as np
import vswap
MIB, SEGMENT = 1 << 20, 256 << 10
def refused(kind, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as error:
        return str(error)
    raise AssertionError("not refused")
def content(row):
    return np.random.default_rng(row).integers(0, 50, 1 << 16).astype("u1").repeat(16) + row % 100
def noise(row):
    return np.random.default_rng(row).bytes(MIB)
def fill(array, make=content, first=0):
    for row in range(len(array)):
        array[row] = np.frombuffer(make(first + row), "u1")
def verify(array, make=content, first=0):
    for row in np.random.default_rng(7).permutation(len(array)).tolist():
        assert np.array_equal(array[row], np.frombuffer(make(first + row), "u1")), row
def lawful(space):
    assert space.check() == (), space.check()
"""
)


def run(body: str, **environ: str) -> str:
    """Run the text after what it needs, in a process of its own."""
    return Child(None)(PRELUDE + dedent(body), timeout=150, **environ)
