"""Engine and model side by side: what every operation needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from support.engine_layer import EngineLayer
from vswap.model import ROOT, STORED, Backing, Device, Event, GroupCharge, Layer, slots_of

DEAD_KEPT = 8
"""So many entries that are gone are asked for again after each step."""


class Both:
    """A layer, its model, and what a test remembers beside them."""

    def __init__(self, ram_segments: int, zstd: int = 0, dedup: int = 0) -> None:
        self.engine = EngineLayer(ram_segments, zstd, dedup)
        self.dedup = dedup
        self.model = Layer()
        self.frames = 0
        self.failing = False
        """Whether a device was told to fail, and has its own ideas of what comes next."""
        self.slots_preferred = False
        self.fails: Counter[int] = Counter()
        """Pages that found no room under a limit, by group."""
        self.read_since_look: set[int] = set()
        """Entries that were read where they are, on a device."""
        self.read_from_device = False
        self._dead: list[int] = []

    # Picking

    def live(self, at: int, count: int = 1) -> list[int]:
        """Up to `count` entries in use from the `at`-th on, round and round."""
        entries = sorted(self.model.entries)
        return [entries[(at + i) % len(entries)] for i in range(min(count, len(entries)))]

    def dead(self) -> list[int]:
        """Numbers of entries that are gone, or never were."""
        self._dead = [entry for entry in self._dead if entry not in self.model.entries][-DEAD_KEPT:]
        never = next(n for n in range(1 << 30, 1 << 31) if n not in self.model.entries)
        return [*self._dead, never]

    def bury(self, entries: Iterable[int]) -> None:
        """Remember those that are gone."""
        self._dead += [entry for entry in entries if entry not in self.model.entries]

    def stored_at(self, *backings: Backing) -> set[int]:
        entries = self.model.entries.items()
        return {number for number, entry in entries if entry.backing in backings}

    def stored_on(self, device: int) -> list[int]:
        """Entries whose page is on that device."""
        entries = self.model.entries.items()
        return sorted(number for number, entry in entries if entry.device == device)

    # Where pages are

    def place(self, entry: int) -> tuple[Backing, int | None]:
        """Where an entry's page is, as the engine has it."""
        backing = self.engine.backing(entry)
        on_device = backing in (Backing.DEVICE, Backing.SLOT)
        return backing, self.engine.device_of(entry) if on_device else None

    def observe(self, event: Event = Event.NOTHING) -> None:
        """Backings: equal, or moved in a way that the event permits."""
        for number, entry in self.model.entries.items():
            backing, device = self.place(number)
            if device != entry.device:
                self.read_since_look.discard(number)
            if backing in STORED and entry.backing in STORED:
                self.model.moved(number, backing, event, device)
            assert backing is entry.backing, (number, backing, entry.backing)

    def room(self, device: int) -> int:
        """Places or slots left on a device, as far as writes may go there."""
        known = self.model.devices[device]
        state = self.engine.device(device) if known.takes_writes else None
        if state is None:
            return 0
        return (slots_of(known.places) if known.slots else known.places) - state.used

    def slots_left(self) -> dict[int, int]:
        """Slots left on each slots device that takes pages."""
        return {at: self.room(at) for at, device in self.devices_on(slots=True)}

    def devices_on(self, *, slots: bool) -> list[tuple[int, Device]]:
        """Devices of a sort that are on."""
        devices = enumerate(self.model.devices)
        return [(at, device) for at, device in devices if device.on and device.slots == slots]

    # Who pays

    def charge(self, group: int) -> GroupCharge:
        charge = self.engine.group_charge(group)
        assert charge is not None
        return charge

    def limiting(self, entry: int) -> int | None:
        """The group whose limit may leave no room for the entry's page."""
        known = self.model.entries.get(entry)
        for group in self.model.tree.chain(known.group) if known else ():
            most = None if group == ROOT else self.model.tree.groups[group].ram_max
            if most is not None and self.charge(group).ram >= most:
                return group
        return None
