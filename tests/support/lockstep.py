"""The engine's swap layer and the model of it, doing the same and compared after each step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from support.engine_layer import EngineLayer, Fault, Swapoff
from vswap.model import (
    PAGE_BYTES,
    ROOT,
    STORED,
    Backing,
    Device,
    Event,
    GroupCharge,
    Layer,
    SwapIn,
    SwapOut,
    Trouble,
    may_refuse_swapoff,
    passed_over,
)

CLEANER_SPARE = 2
"""Segments beyond the limit that the cleaner may copy into."""
DEAD_KEPT = 8
"""So many entries that are gone are asked for again after each step."""
FAULTS_THAT_CLOSE = (Fault.ERROR, Fault.SHORT)


class Lockstep:
    """Operations on both; whatever differs is an AssertionError."""

    def __init__(
        self, ram_segments: int, places: Iterable[int] = (), zstd: int = 0, dedup: int = 0
    ) -> None:
        self.engine = EngineLayer(ram_segments, zstd, dedup)
        self.dedup = dedup
        self.model = Layer()
        self.frames = 0
        self.failing = False
        """Whether a device was told to fail, and has its own ideas of what comes next."""
        self._dead: list[int] = []
        for number in places:
            self.swapon(number)

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

    # Operations

    def allocate(self, count: int, group: int = ROOT) -> range:
        first = self.engine.allocate(count, group)
        assert first is not None
        return self.model.allocate(first, count, group)

    def duplicate(self, entry: int) -> None:
        assert self.engine.duplicate(entry) == self.model.duplicate(entry)

    def free(self, first: int, count: int = 1) -> None:
        ending = range(first, first + count)
        assert self.engine.free(first, count) == self.model.free(ending).dead
        self._bury(ending)

    def cache(self, entry: int) -> None:
        self.frames += 1
        assert self.engine.cache(entry, self.frames) == self.model.cache(entry, self.frames)

    def take_frame(self, entry: int) -> None:
        assert self.engine.take_frame(entry) == self.model.take_frame(entry)
        self._bury([entry])

    def poison(self, entry: int) -> None:
        assert self.engine.poison(entry) == self.model.lose(entry)

    def swap_out(self, entry: int, page: bytes) -> SwapOut:
        gauges = self.engine.gauges()
        full = gauges.ram_segments >= gauges.ram_limit or self.is_limited(entry)
        end = self.engine.swap_out(entry, page)
        allowed = self.model.may_swap_out(entry, page, ram_is_full=full)
        assert end in allowed, (entry, end, allowed, gauges)
        self.model.swap_out(entry, page, end, self.engine.backing(entry))
        self._bury([entry])
        return end

    def swap_in(self, entry: int, trouble: Trouble | None = None) -> SwapIn:
        end, page = self.engine.swap_in(entry)
        allowed = self.model.may_swap_in(entry, trouble or Trouble())
        assert end in allowed, (entry, end, allowed, self.model.backing(entry))
        self.model.swap_in(entry, end, page)
        return end

    def writeback(self, segments: int) -> int:
        with self.writes_in_order():
            written = self.engine.writeback(segments)
        assert 0 <= written <= segments
        self.observe(Event.WRITEBACK)
        return written

    def clean(self) -> None:
        self.engine.clean()
        self.observe(Event.CLEAN)

    # Devices

    def swapon(self, places: int, priority: int | None = None) -> None:
        device = self.engine.attach(places, priority)
        assert device == len(self.model.devices)
        state = self.engine.device(device)
        assert state is not None and state.places == places and state.used == 0
        assert priority in (None, state.priority)
        self.model.devices.append(Device(places, state.priority, state.number))

    def device(self, at: int) -> int:
        """The `at`-th device that is on, or one that is off when none is."""
        on = [number for number, device in enumerate(self.model.devices) if device.on]
        return on[at % len(on)] if on else 0

    def swapoff(self, device: int, ram_segments: int, most: int) -> Swapoff:
        """Entries keep their ids and bytes; the device is empty at the end, or on."""
        known, before = self.model.devices[device], self.engine.device(device)
        gauges = self.engine.gauges()
        ram_segments = min(ram_segments, max(0, gauges.ram_limit - gauges.ram_segments))
        room = self.room_beside(device)
        closed = known.closed
        end = self.engine.swapoff(device, ram_segments, most)
        after = self.engine.device(device)
        if before is None:
            assert end is Swapoff.NOT_ON
            return end
        assert (after is None) == (end is Swapoff.DONE)
        if end is Swapoff.NO_ROOM:
            self.observe()
            restricted = bool(self.model.tree.groups)
            assert restricted or may_refuse_swapoff(before.used, room, ram_segments)
        if end is Swapoff.FAILED:
            assert self.model.tree.groups, "nothing failed, and no limit stood against it"
        known.on = after is not None
        assert not known.on or known.closed == closed
        self.observe(Event.SWAPOFF)
        return end

    def room_beside(self, device: int) -> int:
        """Places left on all devices but one."""
        return sum(self.room(n) for n in range(len(self.model.devices)) if n != device)

    def room(self, device: int) -> int:
        """Places left on a device, as far as writes may go there."""
        state = self.engine.device(device)
        takes = state is not None and self.model.devices[device].takes_writes
        return state.places - state.used if takes and state else 0

    @contextmanager
    def writes_in_order(self) -> Iterator[None]:
        """Nothing is written to a device that is closed or off, or while one of higher priority has room."""
        numbers = range(len(self.model.devices))
        before = [self.engine.calls(number, write=True) for number in numbers]
        yield
        others = [(self.model.devices[number], self.room(number)) for number in numbers]
        restricted = any(group.forbidden for group in self.model.tree.groups.values())
        for number, device in enumerate(self.model.devices):
            if self.engine.calls(number, write=True) > before[number]:
                assert device.takes_writes, f"device {number} was written to"
                assert restricted or self.failing or not passed_over(device, others), others

    def compare_devices(self) -> None:
        """Taken places are those with something in them; a failed device is told as failed."""
        used = 0
        for number, device in enumerate(self.model.devices):
            state = self.engine.device(number)
            assert (state is not None) == device.on
            if state is not None:
                assert (state.state == 2) == device.closed, (number, state, device)
                assert state.used <= state.places == device.places
                assert state.priority == device.priority
                used += state.used
        assert used == self.engine.gauges().device_segments

    # Groups

    def group(self, at: int) -> int:
        """The `at`-th group, the root among them."""
        groups = [ROOT, *self.model.tree.groups]
        return groups[at % len(groups)]

    def create_group(self, parent: int) -> None:
        number = self.engine.create_group(parent)
        assert (number is not None) == self.model.tree.may_create(parent)
        if number is not None:
            self.model.tree.create(number, parent)

    def end_group(self, group: int) -> None:
        may = self.model.may_end_group(group)
        assert self.engine.end_group(group) == may
        if may:
            self.model.end_group(group)
            assert self.engine.group_charge(group) is None

    def limit_group(self, group: int, *, device: bool, segments: int | None) -> None:
        """A limit below what is in use is refused and changes nothing."""
        if group == ROOT:
            return
        charge = self.charge(group)
        held = charge.device if device else charge.ram
        may = segments is None or segments >= held
        assert self.engine.limit_group(group, device=device, segments=segments) == may
        known = self.model.tree.groups[group]
        if may and device:
            known.device_max = segments
        elif may:
            known.ram_max = segments

    def rule_group(self, group: int, *, writeback: bool, forbidden: frozenset[int]) -> None:
        if group != ROOT:
            self.engine.rule_group(group, writeback=writeback, forbidden=forbidden)
            known = self.model.tree.groups[group]
            known.writeback, known.forbidden = writeback, forbidden

    def writeback_group(self, group: int, segments: int) -> None:
        """Only what belongs to the group or below moves, and to no device that it may not use."""
        forbidden = self.model.tree.forbidden(group)
        before = {
            device: self.engine.calls(device, write=True)
            for device, known in enumerate(self.model.devices)
            if known.on and known.number in forbidden
        }
        on_devices = self.stored_at(Backing.DEVICE)
        with self.writes_in_order():
            self.engine.writeback_group(group, segments)
        self.observe(Event.WRITEBACK)
        for entry in self.stored_at(Backing.DEVICE) - on_devices:
            assert group in self.model.tree.chain(self.model.entries[entry].group)
        for device, writes in before.items():
            assert self.engine.calls(device, write=True) == writes, "written though forbidden"

    def charge(self, group: int) -> GroupCharge:
        charge = self.engine.group_charge(group)
        assert charge is not None
        return charge

    def is_limited(self, entry: int) -> bool:
        """Whether a limit may leave no room for the entry's page."""
        known = self.model.entries.get(entry)
        for group in self.model.tree.chain(known.group) if known else ():
            most = None if group == ROOT else self.model.tree.groups[group].ram_max
            if most is not None and self.charge(group).ram >= most:
                return True
        return False

    def compare_groups(self) -> None:
        """Charges add up, limits hold, and every entry is paid for by the group it was made for."""
        charges = {group: self.charge(group) for group in (ROOT, *self.model.tree.groups)}
        assert self.model.tree.broken_laws(charges) == []
        for group, charge in charges.items():
            own = [n for n, entry in self.model.entries.items() if entry.group == group]
            assert charge.own_entries == len(own)
            for number in own:
                assert self.engine.group_of(number) == group

    # Devices that fail

    def writeback_with_fault(self, device: int, nth: int, fault: Fault, segments: int) -> None:
        """Whatever a write does, no page is lost but those whose bytes the device changed and kept silent about."""
        before = self.engine.calls(device, write=True)
        elsewhere = self.stored_at(Backing.DEVICE)
        self.engine.plan(device, write=True, nth=nth, fault=fault)
        self.failing = True
        self.writeback(segments)
        self.failing = False
        happened = self.engine.calls(device, write=True) - before > nth
        self.engine.condition(device)
        if not happened:
            return
        if fault is Fault.CORRUPT:
            for entry in self.stored_at(Backing.DEVICE) - elsewhere:
                self.swap_in(entry, Trouble(corrupt_reads=2))
        else:
            self.model.devices[device].write_failed(for_want_of_space=fault is Fault.NO_SPACE)

    def swap_in_with_faults(self, device: int, faults: list[Fault], entries: list[int]) -> None:
        """The right bytes, or an error that says so; a refused read costs nothing but the try."""
        for nth, fault in enumerate(faults):
            self.engine.plan(device, write=False, nth=nth, fault=fault)
        trouble = Trouble(
            refused=any(fault is not Fault.CORRUPT for fault in faults),
            corrupt_reads=faults.count(Fault.CORRUPT),
        )
        for entry in entries:
            self.swap_in(entry, trouble)
        self.engine.condition(device)

    def clean_with_faults(self, device: int, faults: list[Fault]) -> None:
        """What cannot be read is not moved."""
        for nth, fault in enumerate(faults):
            self.engine.plan(device, write=False, nth=nth, fault=fault)
        self.clean()
        self.engine.condition(device)

    def swapoff_with_faults(self, device: int, faults: list[Fault], ram_segments: int) -> None:
        """The device stays on with all that is there, or is off with every page elsewhere."""
        known, room = self.model.devices[device], self.room_beside(device)
        for nth, fault in enumerate(faults):
            self.engine.plan(device, write=False, nth=nth, fault=fault)
        before = self.stored_at(Backing.DEVICE)
        end = self.engine.swapoff(device, ram_segments, most=1000)
        self.engine.condition(device)
        known.on = end is not Swapoff.DONE
        assert end in (Swapoff.DONE, Swapoff.FAILED, Swapoff.NO_ROOM), (end, room)
        self.observe(Event.SWAPOFF)
        lossy = Trouble(corrupt_reads=2 if faults.count(Fault.CORRUPT) > 1 else 0)
        for entry in before:
            self.swap_in(entry, lossy)

    @contextmanager
    def gone(self, device: int) -> Iterator[None]:
        """The device answers nothing meanwhile; the first write that it refuses closes it for good."""
        before = self.engine.calls(device, write=True)
        self.engine.condition(device, gone=True)
        self.failing = True
        yield
        self.failing = False
        if self.engine.calls(device, write=True) > before:
            self.model.devices[device].write_failed(for_want_of_space=False)
        self.engine.condition(device)

    @contextmanager
    def slow(self, device: int, delay_us: int) -> Iterator[None]:
        self.engine.condition(device, delay_us=delay_us)
        yield
        self.engine.condition(device)

    # Comparing

    def stored_at(self, backing: Backing) -> set[int]:
        entries = self.model.entries.items()
        return {number for number, entry in entries if entry.backing is backing}

    def observe(self, event: Event = Event.NOTHING) -> None:
        """Backings: equal, or moved in a way that the event permits."""
        for number, entry in self.model.entries.items():
            backing = self.engine.backing(number)
            if backing in STORED and entry.backing in STORED:
                self.model.moved(number, backing, event)
            assert backing is entry.backing, (number, backing, entry.backing)

    def compare(self) -> None:
        """Everything the model knows, asked of the engine; then the engine's own laws."""
        self.observe()
        for number, entry in self.model.entries.items():
            assert self.engine.count(number) == entry.count, number
            if entry.backing in STORED:
                self.swap_in(number)
        for number in self.dead():
            self.refuses(number)
        self.compare_charges()
        self.compare_groups()
        self.compare_devices()
        assert self.engine.check() == []

    def refuses(self, dead: int) -> None:
        """An entry that is gone does nothing, and comes back with no operation."""
        assert self.engine.count(dead) == 0
        assert self.engine.backing(dead) is Backing.NONE
        assert self.engine.duplicate(dead) is None
        assert self.engine.swap_in(dead)[0] is SwapIn.EMPTY
        assert self.engine.swap_out(dead, bytes(PAGE_BYTES)) is SwapOut.DEAD
        assert self.engine.take_frame(dead) is None
        assert not self.engine.cache(dead, 1)
        assert self.engine.free(dead) == 1

    def compare_charges(self) -> None:
        """What is charged is what is there; places and segments stay within what there is."""
        gauges, charges = self.engine.gauges(), self.model.charges()
        assert (gauges.entries, gauges.same, gauges.stored) == (
            charges.entries,
            charges.same,
            charges.stored,
        )
        pages = [e.content for e in self.model.entries.values() if e.backing in STORED]
        assert len(set(pages)) <= gauges.stored_bytes <= charges.stored * PAGE_BYTES
        assert self.dedup or charges.stored <= gauges.stored_bytes
        assert gauges.ram_segments <= gauges.ram_limit + CLEANER_SPARE
        assert gauges.device_segments <= self.model.places_wanted_at_most()

    def end(self) -> None:
        """Every owner lets go, every frame is taken: nothing is left, and nothing is charged."""
        for number, entry in list(self.model.entries.items()):
            for _ in range(entry.count):
                self.free(number)
            if number in self.model.entries:
                self.take_frame(number)
        assert not self.model.entries
        while self.model.tree.groups:
            for group in list(self.model.tree.groups):
                self.end_group(group)
        self.clean()
        self.compare()
        self.engine.destroy()

    def _bury(self, entries: Iterable[int]) -> None:
        self._dead += [entry for entry in entries if entry not in self.model.entries]
