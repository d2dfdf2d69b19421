"""The engine's swap layer through its C interface, in the words of the model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum
from errno import EBADMSG, EBUSY, ECANCELED, EIO, ENOENT, ENOMEM, ENOSPC, ENOTEMPTY
from typing import Any

from vswap._loader import engine
from vswap.model import PAGE_BYTES, ROOT, Backing, GroupCharge, SwapIn, SwapOut

BACKINGS = [
    Backing.NONE,
    Backing.SAME,
    Backing.CACHED,
    Backing.RAM,
    Backing.DEVICE,
    Backing.POISONED,
    Backing.SLOT,
]
SWAP_OUT_ENDS = {
    0: SwapOut.SAME,
    1: SwapOut.STORED,
    2: SwapOut.UNNEEDED,
    -ENOSPC: SwapOut.NO_ROOM,
    -ENOENT: SwapOut.DEAD,
}
SWAP_IN_ENDS = {
    0: SwapIn.OK,
    -ENOENT: SwapIn.EMPTY,
    -EBUSY: SwapIn.CACHED,
    -EBADMSG: SwapIn.LOST,
    -EIO: SwapIn.DEVICE_FAILED,
}


class Swapoff(Enum):
    """How taking a device off ends; the device is on but after DONE."""

    DONE = "off, and empty"
    NOT_ON = "no such device"
    NO_ROOM = "what is there fits nowhere; nothing was moved"
    GIVEN_UP = "some has moved"
    FAILED = "a segment could not be moved"


SWAPOFF_ENDS = {
    0: Swapoff.DONE,
    -ENOENT: Swapoff.NOT_ON,
    -ENOSPC: Swapoff.NO_ROOM,
    -ECANCELED: Swapoff.GIVEN_UP,
    -EIO: Swapoff.FAILED,
}
REPORT_BYTES = 1 << 14


class Fault(IntEnum):
    """What goes wrong with one call of a device."""

    ERROR = 0
    NO_SPACE = 1
    SHORT = 2
    CORRUPT = 3
    """Success is reported: of bytes that were changed, or of a discard that was not done."""


class Call(IntEnum):
    """What a device is asked to do."""

    READ = 0
    WRITE = 1
    DISCARD = 2


@dataclass(frozen=True)
class Gauges:
    """What the layer says it holds and did."""

    entries: int
    same: int
    stored: int
    stored_bytes: int
    swapped_out: int
    swapped_in: int
    lost: int
    ram_segments: int
    ram_limit: int
    device_segments: int
    slots: int


@dataclass(frozen=True)
class DeviceState:
    """What the layer says of a device that is on."""

    slots: int
    number: int
    priority: int
    state: int
    places: int
    """Of a slots device: pages, its header's slot among them."""
    used: int
    stored: int
    """Places (of 64 slots) written and not given up, as the device itself knows it."""
    kept: int
    """Places given up whose discard failed, as the device itself knows it."""
    discards: int
    errors: int


class EngineLayer:
    """One layer; every call may come from several threads."""

    def __init__(self, ram_segments: int, zstd: int = 0, dedup: int = 0) -> None:
        self._ffi, self._lib = engine().ffi, engine().lib
        self._layer: Any = self._lib.vswap_layer_create(ram_segments, zstd, dedup)
        assert self._layer != self._ffi.NULL

    def destroy(self) -> None:
        """Every byte the layer holds goes with it."""
        self._lib.vswap_layer_destroy(self._layer)
        self._layer = self._ffi.NULL

    def attach(self, places: int, priority: int | None = None, *, slots: bool = False) -> int:
        """A device in memory, below all others without a priority; its number here."""
        number = self._lib.vswap_layer_attach(
            self._layer, places, -1 if priority is None else priority, slots
        )
        assert number >= 0
        return int(number)

    def device(self, number: int) -> DeviceState | None:
        """None when it is off."""
        values = self._ffi.new("int64_t[10]")
        code = self._lib.vswap_layer_device(self._layer, number, values, len(values))
        assert code in (len(values), -ENOENT)
        return DeviceState(*(int(value) for value in values)) if code > 0 else None

    def swapoff(self, device: int, ram_segments: int, most: int) -> Swapoff:
        """Gives up after `most` segments, or pages of a slots device."""
        code = self._lib.vswap_layer_swapoff(self._layer, device, ram_segments, most)
        return SWAPOFF_ENDS[code]

    def allocate(self, count: int, group: int = ROOT) -> int | None:
        """The first of `count` neighbours, or None when there are none left."""
        first = self._ffi.new("uint64_t *")
        code = self._lib.vswap_layer_allocate_for(self._layer, group, count, first)
        assert code in (0, -ENOMEM), code
        return int(first[0]) if code == 0 else None

    def free(self, first: int, count: int = 1) -> int:
        """Returns how many were dead."""
        return int(self._lib.vswap_layer_free(self._layer, first, count))

    def duplicate(self, entry: int) -> int | None:
        """The new count; None for a dead entry."""
        count = self._lib.vswap_layer_duplicate(self._layer, entry)
        return int(count) if count > 0 else None

    def count(self, entry: int) -> int:
        return int(self._lib.vswap_layer_count(self._layer, entry))

    def backing(self, entry: int) -> Backing:
        """Free entries look like ones without bytes."""
        return BACKINGS[self._lib.vswap_layer_backing(self._layer, entry)]

    def device_of(self, entry: int) -> int | None:
        """The device that an entry's page is on."""
        number = self._lib.vswap_layer_device_of(self._layer, entry)
        assert number >= 0 or number == -ENOENT
        return int(number) if number >= 0 else None

    def cache(self, entry: int, frame: int) -> bool:
        return bool(self._lib.vswap_layer_cache(self._layer, entry, frame))

    def take_frame(self, entry: int) -> int | None:
        frame = self._lib.vswap_layer_take_frame(self._layer, entry)
        return int(frame) if frame >= 0 else None

    def poison(self, entry: int) -> bool:
        return int(self._lib.vswap_layer_poison(self._layer, entry)) == 0

    def swap_out(self, entry: int, page: bytes) -> SwapOut:
        return SWAP_OUT_ENDS[self._lib.vswap_layer_store(self._layer, entry, page)]

    def swap_in(self, entry: int) -> tuple[SwapIn, bytes]:
        page = bytearray(b"\xa5" * PAGE_BYTES)
        code = self._lib.vswap_layer_load(self._layer, entry, self._ffi.from_buffer(page))
        return SWAP_IN_ENDS[code], bytes(page)

    def writeback(self, segments: int) -> int:
        return int(self._lib.vswap_layer_writeback(self._layer, segments))

    def clean(self) -> int:
        return int(self._lib.vswap_layer_clean(self._layer))

    def look(self) -> int:
        """Segments that moved between devices of different priority, the next look being due."""
        return int(self._lib.vswap_layer_look(self._layer))

    def prefer_slots(self, on: bool) -> None:
        assert self._lib.vswap_layer_prefer_slots(self._layer, on) == 0

    def gauges(self) -> Gauges:
        count = self._lib.vswap_layer_gauges(self._layer, self._ffi.NULL, 0)
        values = self._ffi.new("uint64_t[]", count)
        self._lib.vswap_layer_gauges(self._layer, values, count)
        return Gauges(*(int(value) for value in values))

    def create_group(self, parent: int) -> int | None:
        number = self._lib.vswap_layer_group_create(self._layer, parent)
        assert number > 0 or number == -ENOSPC
        return int(number) if number > 0 else None

    def end_group(self, group: int) -> int | None:
        """How many pages of others could not be parted from it; None: it is in use."""
        code = self._lib.vswap_layer_group_end(self._layer, group)
        assert code >= 0 or code in (-EBUSY, -ENOTEMPTY)
        return int(code) if code >= 0 else None

    def limit_group(self, group: int, *, device: bool, segments: int | None) -> bool:
        """False, and nothing changed, when more is in use."""
        most = -1 if segments is None else segments
        code = self._lib.vswap_layer_group_limit(self._layer, group, device, most)
        assert code in (0, -EBUSY)
        return bool(code == 0)

    def rule_group(
        self,
        group: int,
        *,
        writeback: bool,
        forbidden: Iterable[int],
        forbidden_slots: Iterable[int],
    ) -> int:
        """Returns how many pages could not be parted from what another group pays for."""
        bits = [sum(1 << device for device in devices) for devices in (forbidden, forbidden_slots)]
        left = self._lib.vswap_layer_group_rules(self._layer, group, writeback, *bits)
        assert left >= 0
        return int(left)

    def group_charge(self, group: int) -> GroupCharge | None:
        """None if there is no such group."""
        values = self._ffi.new("uint64_t[9]")
        code = self._lib.vswap_layer_group_charge(self._layer, group, values, len(values))
        assert code in (len(values), -ENOENT)
        return GroupCharge(*(int(value) for value in values)) if code > 0 else None

    def group_of(self, entry: int) -> int:
        return int(self._lib.vswap_layer_group_of(self._layer, entry))

    def writeback_group(self, group: int, segments: int) -> int:
        return int(self._lib.vswap_layer_group_writeback(self._layer, group, segments))

    def check(self) -> list[str]:
        """Every violated law; nobody else may use the layer meanwhile."""
        report = self._ffi.new("char[]", REPORT_BYTES)
        found = self._lib.vswap_layer_check(self._layer, report, REPORT_BYTES)
        lines = self._ffi.string(report).decode().splitlines()
        assert (found == 0) == (lines == [])
        return lines

    def plan(self, device: int, call: Call, nth: int, fault: Fault) -> None:
        """The nth call from now on goes wrong."""
        assert self._lib.vswap_layer_fault(self._layer, device, call, nth, fault) == 0

    def condition(self, device: int, *, gone: bool = False, delay_us: int = 0) -> None:
        """How the device is from now on; what was planned is forgotten."""
        assert self._lib.vswap_layer_condition(self._layer, device, gone, delay_us) == 0

    def calls(self, device: int, call: Call) -> int:
        return int(self._lib.vswap_layer_calls(self._layer, device, call))
