"""Sizes as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vswap.errors import ConfigError
from vswap.sizes import (
    MIB,
    check_floor,
    format_count,
    format_duration,
    format_size,
    parse_budget,
    parse_size,
)


@pytest.mark.parametrize("text", ["300M", "300MB", "300MiB", "300m", " 300 mib ", "300Mi"])
def test_all_spellings_of_a_unit_mean_the_same(text: str) -> None:
    assert parse_size(text) == 300 * MIB


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("1.5K", 1536),
        (".5M", 512 << 10),
        ("1T", 1 << 40),
    ],
)
def test_plain_bytes_and_fractions_are_exact(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "M", "lots", "-3M", "3X", "1.2.3M", "3Mx", "3 M B", ".", "3IB", "99999999999T", "٣M"],
)
def test_nonsense_is_refused_and_named(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


def test_a_percentage_is_a_share_of_the_total_in_whole_pages() -> None:
    assert parse_budget("50%", 1000 * MIB) == 500 * MIB
    assert parse_budget("33.3 %", 1000 * MIB) % 4096 == 0
    assert parse_budget("300M", 0) == 300 * MIB


@pytest.mark.parametrize("text", ["0%", "101%", "-5%", "x%", "%", "nan%"])
def test_a_percentage_outside_the_range_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="percentage"):
        parse_budget(text, 1 << 30)


def test_a_budget_under_the_floor_is_refused_with_what_to_give() -> None:
    with pytest.raises(ConfigError, match="give at least 16M"):
        check_floor(15 * MIB)
    assert check_floor(16 * MIB) == 16 * MIB


@given(st.integers(min_value=0, max_value=1 << 50))
def test_what_is_shown_reads_back_to_nearly_the_same(value: int) -> None:
    read = parse_size(format_size(value))
    assert abs(read - value) <= max(1, value * 0.05)


@given(st.text(max_size=12))
def test_no_text_makes_the_parser_fail_otherwise_than_by_its_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert 0 <= parse_size(text) < 1 << 63


def test_sizes_and_times_are_shown_in_the_unit_that_keeps_them_short() -> None:
    assert format_size(12) == "12 B"
    assert format_size(300 * MIB) == "300.0 MiB"
    assert format_size(-2048) == "-2.0 KiB"
    assert [format_duration(ns) for ns in (12, 1_500, 2_500_000, 3_000_000_000)] == [
        "12 ns",
        "1.5 us",
        "2.5 ms",
        "3.00 s",
    ]
    assert format_count(281004) == "281,004"
