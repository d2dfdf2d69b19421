"""Options and fixtures of the whole test tree."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.compile import Compiler
from support.known_gaps import GAPS_AT_FULL_SIZE, KNOWN_GAPS
from support.live import flights_command
from support.sizes import full_sizes, model_seconds

FULL_SECONDS = 4000
FULL_SESSION_SECONDS = 24 * 3600
BESIDE_MODEL_SECONDS = 600
"""What a test against the model may take beyond the time it was given: a life that goes wrong is made small."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """--full: the sizes of the promises instead of those of `make test`."""
    parser.addoption("--full", action="store_true", help="programs at full size (minutes each)")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """The size is asked for at import, before any fixture, so it travels in the environment."""
    # A shell's background job starts with these ignored, and our children would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    if config.getoption("--full"):
        os.environ["VSWAP_TEST_FULL"] = "1"
        config.option.session_timeout = config.option.session_timeout or FULL_SESSION_SECONDS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is known not to hold; full sizes take as long as they take, each program with its own limit."""
    gaps = KNOWN_GAPS | (GAPS_AT_FULL_SIZE if full_sizes() else {})
    for item in items:
        for name, reason in gaps.items():
            if name in item.nodeid:
                item.add_marker(pytest.mark.xfail(reason=reason, strict=False))
    for item in items:
        if "model_seconds" in item.keywords and model_seconds():
            item.add_marker(pytest.mark.timeout(model_seconds() + BESIDE_MODEL_SECONDS))
        elif full_sizes():
            item.add_marker(pytest.mark.timeout(FULL_SECONDS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """What takes as long as it was told is not stuck: no stacks are printed in the middle of it."""
    if full_sizes() or (item.get_closest_marker("model_seconds") and model_seconds()):
        faulthandler.cancel_dump_traceback_later()
    return (yield)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    """`compiled("name")` is the executable of programs/name.c."""
    return Compiler(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for inputs that several tests share."""
    return tmp_path_factory.mktemp("inputs")


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory on a disk: /tmp may be RAM."""
    with tempfile.TemporaryDirectory(prefix="vswap-test-", dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def flights_line() -> str:
    """What the flights job says last without vswap: the hash of all it made."""
    done = subprocess.run(flights_command(), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]
