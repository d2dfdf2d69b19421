"""Swap devices of a live space: what they are, and how they come and go."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from vswap._loader import Engine, error_for
from vswap.errors import ConfigError, VswapError
from vswap.run.swapspec import device_name
from vswap.sizes import format_size, parse_size

KINDS = ("file", "block", "slots")
"""What a device can be made of."""

Progress = Callable[[int, int], object]
"""Told how many segments, or pages where slots are left, of how many have moved."""

_ERROR_BYTES = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """One swap device at one moment; what was counted is of this process alone."""

    path: str
    """Where it is; ``auto`` for the file without a name."""
    kind: str
    """``file``, ``block`` or ``slots``."""
    priority: int
    """Higher ones are filled first, equal ones in turn; below 0: given in order."""
    state: str
    """``on``, ``draining`` (being taken off) or ``failed`` (closed for writing)."""
    error: int
    """The errno that closed it for writing, or 0."""
    capacity_bytes: int
    """What it holds at most."""
    used_bytes: int
    """What it holds now, in whole segments or slots."""
    written_bytes: int
    """Bytes written to it."""
    read_bytes: int
    """Bytes read from it."""
    writes: int
    """Writes to it: of a segment, or of neighbouring slots."""
    sequential_writes: int
    """Of these, right behind the one before."""
    discards: int
    """Places given back to it."""
    errors: int
    """Calls it refused."""

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Device:
        """Make one of the engine's words; words this version does not know are left out."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})

    def __str__(self) -> str:
        """Say what it is and how full."""
        used, most = format_size(self.used_bytes), format_size(self.capacity_bytes)
        return (
            f"{self.path} ({self.kind}, {self.state}, priority {self.priority}): {used} of {most}"
        )


def device_spec(
    path: str | os.PathLike[str],
    *,
    size: str | int | None,
    priority: int | None,
    kind: str | None,
) -> str:
    """Return the engine's text for a device, or raise ConfigError."""
    name = device_name(path)
    if "\n" in name:
        raise ConfigError(f"a swap path may not contain a line break: {name!r}")
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"unknown kind of device {kind!r}; use {', '.join(KINDS)}")
    lines = [f"path={name}"]
    if size is not None:
        lines.append(f"size={parse_size(size)}")
    if priority is not None:
        lines.append(f"priority={int(priority)}")
    if kind is not None:
        lines.append(f"kind={kind}")
    return "\n".join(lines) + "\n"


def swapon(engine: Engine, handle: Any, spec: str) -> None:
    """Attach a device, or raise what the engine's sentence says."""
    sentence = engine.ffi.new("char[]", _ERROR_BYTES)
    code = engine.lib.vswap_swapon(handle, os.fsencode(spec), sentence, _ERROR_BYTES)
    _raise_for(engine, code, sentence)


def swapoff(engine: Engine, handle: Any, path: str, progress: Progress | None) -> None:
    """Take a device off, or raise what the engine's sentence says.

    An exception out of ``progress``, or a KeyboardInterrupt meanwhile, stops it
    with the device on and is raised when that is done.
    """
    raised: list[BaseException] = []

    def told(_context: Any, moved: int, total: int) -> int:
        if progress is not None:
            progress(moved, total)
        return 1

    def failed(_kind: Any, error: BaseException, _trace: Any) -> int:
        raised.append(error)
        return 0

    call = engine.ffi.callback("int(void *, uint64_t, uint64_t)", told, error=0, onerror=failed)
    sentence = engine.ffi.new("char[]", _ERROR_BYTES)
    code = engine.lib.vswap_swapoff(
        handle, os.fsencode(path), call, engine.ffi.NULL, sentence, _ERROR_BYTES
    )
    if raised:
        raise raised[0]
    _raise_for(engine, code, sentence)


def devices(engine: Engine, handle: Any) -> tuple[Device, ...]:
    """Return the devices, the highest priority first."""
    ffi, room = engine.ffi, 4096
    while True:
        text = ffi.new("char[]", room)
        needed = engine.lib.vswap_devices(handle, text, room)
        if needed < 0:
            raise error_for(needed, "")
        if needed < room:
            break
        room = needed + 1
    listed = json.loads(ffi.string(text).decode(errors="surrogateescape"))
    return tuple(Device.from_values(values) for values in listed)


def _raise_for(engine: Engine, code: int, sentence: Any) -> None:
    """Raise the exception of a negative errno with the engine's sentence."""
    if code < 0:
        text = engine.ffi.string(sentence).decode(errors="replace")
        error = error_for(code, text)
        raise VswapError(text) if type(error) is VswapError and text else error
