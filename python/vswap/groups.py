"""Groups: parts of a space that pay for what they hold, with limits of their own.

Stable while: a group's key names it for good; the engine refuses the key of a
group that has ended, so an old object can do no harm.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from vswap import _context
from vswap._loader import Engine, error_for
from vswap._makers import ArrayMaker
from vswap.errors import ConfigError, SpaceInUseError, VswapError
from vswap.run.swapspec import device_name
from vswap.sizes import format_size, parse_size

Limit = str | int | None

_ERROR_BYTES = 1024
_EBUSY = 16
UNCHANGED: Any = object()
"""Stands for a limit that is left as it is, since None means none."""


class Space(Protocol):
    """What a group needs of its space: a ``SwapSpace``, which knows groups in turn."""

    _engine: Engine
    _numpy: bool
    _threads: bool
    _threshold: int

    def _require_handle(self) -> Any: ...

    def _require_open(self) -> Any: ...

    def group(
        self,
        name: str,
        *,
        ram_max: Limit = None,
        zswap_max: Limit = None,
        swap_max: Limit = None,
        writeback: bool = True,
        devices: Sequence[str | os.PathLike[str]] | None = None,
        parent: Group | None = None,
    ) -> Group:
        """Make a group of the space."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class GroupStats:
    """What one group holds, may hold, and ran into, at one moment.

    Charges are the group's and those below it; ``own_`` ones are its alone.
    """

    path: str = ""
    """Names from the top, such as ``web/cache``; empty for the whole space."""
    ram_bytes: int = 0
    """RAM held: pages in memory, cached pages, and compressed segments."""
    resident_pages: int = 0
    """Pages in their place in memory."""
    cached_pages: int = 0
    """Pages on their way out, still in frames."""
    swapped_pages: int = 0
    """Pages that have a swap entry, wherever their bytes are."""
    compressed_bytes: int = 0
    """RAM in segments of compressed pages."""
    device_bytes: int = 0
    """Bytes in use on swap devices."""
    own_compressed_bytes: int = 0
    """RAM in segments that the group itself pays for."""
    own_device_bytes: int = 0
    """Bytes on devices that the group itself pays for."""
    live_blocks: int = 0
    """Blocks of memory the program holds of the group itself."""
    live_bytes: int = 0
    """Bytes in those."""
    ram_max_bytes: int | None = None
    """Limit of ``ram_bytes``."""
    zswap_max_bytes: int | None = None
    """Limit of ``compressed_bytes``."""
    swap_max_bytes: int | None = None
    """Limit of ``device_bytes``."""
    writeback: bool = True
    """Whether the group's bytes may go to a device."""
    devices: tuple[str, ...] = ()
    """Devices it may use; empty: all."""
    ram_max_events: int = 0
    """Times ``ram_max`` stood against a fault or an allocation."""
    ram_fail_events: int = 0
    """Times no room could be made under it."""
    zswap_max_events: int = 0
    """Times ``zswap_max`` stood against a segment."""
    zswap_fail_events: int = 0
    """Pages that stayed in memory because of it, counted at every try."""
    swap_max_events: int = 0
    """Times ``swap_max`` stood against a segment."""
    full: bool = False
    """Nothing more can be moved out under ``ram_max``: allocations are refused."""
    stuck: bool = False
    """Compressed pages are at their limit and may not go to a device."""

    @classmethod
    def from_told(cls, told: Mapping[str, Any]) -> GroupStats:
        """Build from what the engine tells; what this version does not know is left out."""
        known = {field.name for field in dataclasses.fields(cls)}
        values = {name: value for name, value in told.items() if name in known}
        values["devices"] = tuple(values.get("devices", ()))
        return cls(**values)

    def __str__(self) -> str:
        """Say in one line what matters most."""
        limit = "" if self.ram_max_bytes is None else f" of {format_size(self.ram_max_bytes)}"
        return (
            f"{self.path or 'space'}: RAM {format_size(self.ram_bytes)}{limit}, compressed "
            f"{format_size(self.compressed_bytes)}, on devices {format_size(self.device_bytes)}"
        )


class Group(ArrayMaker):
    """A part of a space, made by ``space.group(...)`` or ``group.group(...)``.

    Makes arrays as a space does; inside ``with group:`` it is NumPy's memory
    handler. Leaving does not end it: ``close()`` does.
    """

    def __init__(self, space: Space, key: int, path: str) -> None:
        """Wrap a group of the engine; ``space.group()`` is the way to make one."""
        self._space = space
        self._key = key
        self._path = path
        self._engine = space._engine
        self._depth = 0
        self._depth_lock = threading.Lock()
        self._ended = False

    @property
    def name(self) -> str:
        """The group's own name."""
        return self._path.rpartition("/")[2]

    @property
    def path(self) -> str:
        """Its name behind those of the groups above it, such as ``web/cache``."""
        return self._path

    @property
    def space(self) -> Space:
        """The space it is a part of."""
        return self._space

    # -- limits -------------------------------------------------------------

    @property
    def ram_max(self) -> int | None:
        """RAM the group may hold in all, or None; may be set, also as ``"50M"``."""
        return self.stats().ram_max_bytes

    @ram_max.setter
    def ram_max(self, value: Limit) -> None:
        self.limit(ram_max=value)

    @property
    def zswap_max(self) -> int | None:
        """Compressed RAM the group may hold, in whole segments of 256 KiB, or None."""
        return self.stats().zswap_max_bytes

    @zswap_max.setter
    def zswap_max(self, value: Limit) -> None:
        self.limit(zswap_max=value)

    @property
    def swap_max(self) -> int | None:
        """Bytes the group may hold on devices, in whole segments, or None."""
        return self.stats().swap_max_bytes

    @swap_max.setter
    def swap_max(self, value: Limit) -> None:
        self.limit(swap_max=value)

    @property
    def writeback(self) -> bool:
        """Whether the group's bytes may go to a device from now on."""
        return self.stats().writeback

    @writeback.setter
    def writeback(self, value: bool) -> None:
        self.limit(writeback=value)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices it may use from now on; empty: all."""
        return self.stats().devices

    @devices.setter
    def devices(self, value: Sequence[str | os.PathLike[str]] | None) -> None:
        self.limit(devices=value)

    def limit(
        self,
        *,
        ram_max: Limit = UNCHANGED,
        zswap_max: Limit = UNCHANGED,
        swap_max: Limit = UNCHANGED,
        writeback: bool = UNCHANGED,
        devices: Sequence[str | os.PathLike[str]] | None = UNCHANGED,
    ) -> None:
        """Change several limits at once: all of them, or none if one is refused."""
        text = limits_text(
            ram_max=ram_max,
            zswap_max=zswap_max,
            swap_max=swap_max,
            writeback=writeback,
            devices=devices,
        )
        handle = self._require_group()
        sentence = self._engine.ffi.new("char[]", _ERROR_BYTES)
        code = self._engine.lib.vswap_group_set(
            handle, self._key, text.encode(), sentence, _ERROR_BYTES
        )
        self._check_told(code, sentence)

    # -- groups below, draining, the end ------------------------------------

    def group(
        self,
        name: str,
        *,
        ram_max: Limit = None,
        zswap_max: Limit = None,
        swap_max: Limit = None,
        writeback: bool = True,
        devices: Sequence[str | os.PathLike[str]] | None = None,
    ) -> Group:
        """Make a group below this one; its limits bind beside those above."""
        return self._space.group(
            name,
            ram_max=ram_max,
            zswap_max=zswap_max,
            swap_max=swap_max,
            writeback=writeback,
            devices=devices,
            parent=self,
        )

    def stats(self) -> GroupStats:
        """Return what the group holds now."""
        self._require_group()
        for told in told_groups(self._space):
            if told["id"] == self._key:
                return GroupStats.from_told(told)
        raise VswapError(f"group '{self._path}' was closed")

    def drain(self, size: str | int) -> int:
        """Move that much out of compressed RAM to a device; return how much was moved.

        Where the group may not use a device, pages in memory are compressed
        instead. Less than asked for means that there was no more to move.
        """
        wanted = parse_size(size)
        handle = self._require_group()
        return self._check_code(self._engine.lib.vswap_group_drain(handle, self._key, wanted))

    def close(self) -> None:
        """End the group; SpaceInUseError while anything lives in it, or below it."""
        if self._ended:
            return
        handle = self._require_group()
        if self._depth:
            raise SpaceInUseError(f"group '{self._path}' is in use by a 'with' that is open")
        sentence = self._engine.ffi.new("char[]", _ERROR_BYTES)
        code = self._engine.lib.vswap_group_close(handle, self._key, sentence, _ERROR_BYTES)
        if code == -_EBUSY:
            stats = self.stats()
            raise SpaceInUseError(
                self._engine.ffi.string(sentence).decode(errors="replace"),
                blocks=stats.live_blocks,
                bytes=stats.live_bytes,
            )
        self._check_told(code, sentence)
        self._ended = True

    # -- the with statement -------------------------------------------------

    def __enter__(self) -> Group:
        """Take the arrays made from here on in this context."""
        self._require_open()
        handler = self._handler() if self._space._numpy else None
        _context.enter(self, handler, threads=self._space._threads)
        with self._depth_lock:
            self._depth += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop taking arrays; the group and what it holds stay."""
        _context.leave_last_of(self)
        with self._depth_lock:
            self._depth -= 1

    def _require_group(self) -> Any:
        """Return the space's handle, or say that the group is no more."""
        handle = self._space._require_handle()
        if self._ended:
            raise VswapError(f"group '{self._path}' was closed")
        return handle

    def _require_open(self) -> Any:
        self._require_group()
        return self._space._require_open()

    def _new_np_context(self, out: Any) -> int:
        handle, threshold = self._require_open(), self._space._threshold
        code = self._engine.lib.vswap_np_group_context(handle, self._key, threshold, out)
        return int(code)

    def _check_told(self, code: int, sentence: Any) -> None:
        """Raise what the engine's sentence says."""
        if code < 0:
            raise error_for(code, self._engine.ffi.string(sentence).decode(errors="replace"))

    def __repr__(self) -> str:
        """Name the group and its state."""
        state = "closed" if self._ended else "open"
        return f"<vswap.Group {self._path!r} {state}>"


def told_groups(space: Space) -> list[dict[str, Any]]:
    """Return what the engine tells about every group, the whole space first."""
    ffi, lib = space._engine.ffi, space._engine.lib
    handle = space._require_handle()
    length = 16 << 10
    while True:
        text = ffi.new("char[]", length)
        needed = int(lib.vswap_groups(handle, text, length))
        if needed < 0:
            raise error_for(needed, "")
        if needed <= length:
            told: list[dict[str, Any]] = json.loads(ffi.string(text))
            return told
        length = needed + 4096


def make_group(space: Space, name: str, parent: Group | None, limits: str) -> Group:
    """Have the engine make a group, or raise what its sentence says."""
    if parent is not None and parent.space is not space:
        raise ConfigError(f"parent group '{parent.path}' is of another space")
    handle = space._require_open() if parent is None else parent._require_open()
    ffi, lib = space._engine.ffi, space._engine.lib
    out, sentence = ffi.new("uint32_t *"), ffi.new("char[]", _ERROR_BYTES)
    above = 0 if parent is None else parent._key
    code = lib.vswap_group_create(
        handle, above, name.encode(), limits.encode(), out, sentence, _ERROR_BYTES
    )
    if code < 0:
        raise error_for(code, ffi.string(sentence).decode(errors="replace"))
    # A group made for the whole program (`vswap run --group`) is above one without a parent.
    key = int(out[0])
    path = next(str(told["path"]) for told in told_groups(space) if told["id"] == key)
    return Group(space, key, path)


def limits_text(
    *,
    ram_max: Limit,
    zswap_max: Limit,
    swap_max: Limit,
    writeback: bool,
    devices: Sequence[str | os.PathLike[str]] | None,
) -> str:
    """Return the engine's text for limits; those left UNCHANGED are not in it."""
    sizes = {"ram_max": ram_max, "zswap_max": zswap_max, "swap_max": swap_max}
    lines = [
        f"{name}={'none' if value is None else parse_size(value)}"
        for name, value in sizes.items()
        if value is not UNCHANGED
    ]
    if writeback is not UNCHANGED:
        lines.append(f"writeback={'on' if writeback else 'off'}")
    if devices is not UNCHANGED:
        lines += _device_lines(devices)
    return "\n".join(lines)


def _device_lines(devices: Sequence[str | os.PathLike[str]] | None) -> list[str]:
    """Return the lines that name devices; a bare string would be taken letter by letter."""
    if devices is None:
        return ["devices=all"]
    if isinstance(devices, (str, os.PathLike)):
        raise ConfigError(f"devices is a list: write devices=[{os.fspath(devices)!r}]")
    names = [device_name(device) for device in devices]
    if not names:
        raise ConfigError("a group that may use no device is one with writeback=False")
    for name in names:
        if "\n" in name:
            raise ConfigError(f"a value may not contain a line break: {name!r}")
    return [f"device={name}" for name in names]
