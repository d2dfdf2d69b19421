"""A stand-in engine, compiled once, so that these tests need no Rust."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.child import Child, compile_engine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def fake_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of the stand-in."""
    return compile_engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="session")
def other_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in of another build."""
    return compile_engine(tmp_path_factory.mktemp("other"), '-DBUILD_ID="other-build-0002"')


@pytest.fixture(scope="session")
def newer_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in of another interface."""
    return compile_engine(tmp_path_factory.mktemp("newer"), "-DABI=9", '-DBUILD_ID="newer-0003"')


@pytest.fixture
def child(fake_engine: Path) -> Child:
    """Python in a child, with the stand-in engine."""
    return Child(fake_engine)
