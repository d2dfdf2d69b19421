"""Sizes as people write them: 1024-based, ``300M`` = ``300MB`` = ``300MiB``.

The run path imports this module, so it needs nothing but ``ConfigError``.
"""

from __future__ import annotations

from vswap.errors import ConfigError

PAGE_SIZE = 4096
"""The unit of swapping; huge pages are made of these."""

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

RAM_FLOOR = 16 * MIB
"""Least RAM budget.

Below it the frames, one open segment per worker and the tables leave no room
for the pages the program works on, and every instruction would fault.
"""

_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SCALE = "0123456789."


def parse_size(text: str | int) -> int:
    """Return the number of bytes that ``text`` means.

    Accepts plain bytes, ``K M G T`` with nothing, ``B``, ``i`` or ``iB`` behind
    (any case), and a decimal fraction.  Raises ConfigError otherwise.
    """
    if isinstance(text, int):
        if text < 0:
            raise ConfigError(f"a size cannot be negative: {text}")
        return text
    stripped = text.strip()
    digits = stripped.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = stripped[len(digits) :].strip().upper()
    shift = _SHIFTS.get(_bare_unit(unit))
    if shift is None or not digits or any(c not in _SCALE for c in digits) or digits.count(".") > 1:
        raise ConfigError(f"not a size: {text!r} (write it like 300M, 1.5GiB or 1048576)")
    return _scaled(digits, shift, text)


def _bare_unit(unit: str) -> str:
    """Strip the ``B``, ``I`` or ``IB`` that may follow the letter."""
    if unit == "B":
        return ""
    return unit[:1] if unit[1:] in ("B", "I", "IB") else unit


def _scaled(digits: str, shift: int, text: str) -> int:
    """Multiply decimal digits by a power of two without losing bytes."""
    whole, _, fraction = digits.partition(".")
    if not (whole or fraction):
        raise ConfigError(f"not a size: {text!r}")
    if len(whole) > 20 or len(fraction) > 20:
        raise ConfigError(f"that size is beyond 64 bits: {text!r}")
    scale: int = 10 ** len(fraction)
    value = (int(whole or "0") * scale + int(fraction or "0")) << shift
    if value // scale >= 1 << 63:
        raise ConfigError(f"that size is beyond 64 bits: {text!r}")
    return value // scale


def parse_budget(text: str | int, total: int) -> int:
    """Return a RAM budget in bytes; ``40%`` is a share of ``total``."""
    if isinstance(text, str) and text.strip().endswith("%"):
        number = text.strip()[:-1].strip()
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if not 0.0 < share <= 100.0:
            raise ConfigError(f"not a percentage between 0 and 100: {text!r}")
        return int(total * share / 100.0) // PAGE_SIZE * PAGE_SIZE
    return parse_size(text)


def check_floor(ram: int) -> int:
    """Return ``ram``, or raise ConfigError where it is under the floor."""
    if ram < RAM_FLOOR:
        raise ConfigError(
            f"a RAM budget of {format_size(ram)} is under the floor of {format_size(RAM_FLOOR)}; "
            f"give at least {RAM_FLOOR // MIB}M"
        )
    return ram


def format_size(count: float) -> str:
    """Return ``count`` bytes as people read them: ``300.0 MiB``."""
    sign, value = ("-", -count) if count < 0 else ("", count)
    if value < KIB:
        return f"{sign}{value:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 999.95 or unit == "TiB":
            break
    return f"{sign}{value:.1f} {unit}"


def format_duration(ns: float) -> str:
    """Return nanoseconds in the unit that keeps the number short."""
    if ns < 1_000:
        return f"{ns:.0f} ns"
    if ns < 1_000_000:
        return f"{ns / 1e3:.1f} us"
    if ns < 1_000_000_000:
        return f"{ns / 1e6:.1f} ms"
    return f"{ns / 1e9:.2f} s"


def format_count(count: float) -> str:
    """Return a count with thousands apart, as in ``281,004``."""
    return f"{count:,.0f}"
