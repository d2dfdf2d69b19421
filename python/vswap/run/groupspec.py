"""Check ``--group`` and ``vswap set --limit``: ``NAME:SETTING=VALUE,...``, one clear sentence for each mistake."""

from __future__ import annotations

from vswap.errors import ConfigError
from vswap.run.swapspec import device_name
from vswap.sizes import parse_size

SIZES = ("ram_max", "zswap_max", "swap_max")
"""Settings that are a size, or ``none``."""

FORM = "NAME[:ram_max=SIZE,zswap_max=SIZE,swap_max=SIZE,writeback=on|off,device=PATH]"


def check_group(spec: str) -> str:
    """Return the spec as the engine takes it, sizes in bytes, or raise ConfigError."""
    name, limits = split_group(spec)
    return f"{name}:{','.join(limits)}" if limits else name


def split_group(spec: str) -> tuple[str, list[str]]:
    """Return the name and the engine's ``key=value`` words, or raise ConfigError."""
    name, _, settings = spec.partition(":")
    if not name or "\n" in spec:
        raise ConfigError(f"not a group: {spec!r}; write {FORM}")
    return name, [_setting(word, spec) for word in settings.split(",") if word]


def _setting(word: str, spec: str) -> str:
    """Return one setting, checked as far as it can be without the engine."""
    key, equals, value = word.partition("=")
    if not equals or not value:
        raise ConfigError(f"not SETTING=VALUE: {word!r} in {spec!r}; write {FORM}")
    if key in SIZES:
        return word if value == "none" else f"{key}={parse_size(value)}"
    if key == "device":
        return f"device={device_name(value)}"
    if (key == "writeback" and value in ("on", "off")) or word == "devices=all":
        return word
    raise ConfigError(f"{word!r} is no setting of a group; write {FORM}")
