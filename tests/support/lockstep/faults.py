"""Devices that fail: in any call, in any of their ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from support.engine_layer import Call, Fault, Swapoff
from support.lockstep.groups import Groups
from vswap.model import Backing, Trouble

NO_CHECKSUM = (Fault.ERROR, Fault.NO_SPACE, Fault.SHORT)
"""What a slots device can be told to do: what it changed in silence nobody could tell."""


class Faults(Groups):
    """Operations while a device fails."""

    def plan(self, device: int, call: Call, faults: list[Fault]) -> list[Fault]:
        """The next calls go wrong so, as far as the device has a way to be found out."""
        slots = self.model.devices[device].slots
        if slots and call is not Call.DISCARD:
            faults = [fault for fault in faults if fault in NO_CHECKSUM]
        for nth, fault in enumerate(faults):
            self.engine.plan(device, call, nth, fault)
        return faults

    def writeback_with_fault(self, device: int, nth: int, fault: Fault, segments: int) -> None:
        """Whatever a write does, no page is lost but those whose bytes the device changed and kept silent about."""
        elsewhere = self.stored_at(Backing.DEVICE)
        with self.a_write_fails(device, nth, fault) as happened:
            self.writeback(segments)
        if happened() and fault is Fault.CORRUPT:
            for entry in self.stored_at(Backing.DEVICE) - elsewhere:
                self.swap_in(entry, Trouble(corrupt_reads=2))

    def look_with_fault(self, device: int, nth: int, fault: Fault, call: Call) -> None:
        """A segment that cannot be moved between tiers stays, and one that the device changed is known to be lost."""
        if call is Call.READ:
            self.plan(device, call, [fault] * 3)
            self.failing = True
            self.look()
            self.failing = False
            self.engine.condition(device)
            return
        before = {
            entry: self.model.entries[entry].device for entry in self.stored_at(Backing.DEVICE)
        }
        with self.a_write_fails(device, nth, fault) as happened:
            self.look()
        if happened() and fault is Fault.CORRUPT:
            for entry, place in before.items():
                if self.model.entries[entry].device != place:
                    self.swap_in(entry, Trouble(corrupt_reads=2))

    def swap_out_with_fault(
        self, device: int, nth: int, fault: Fault, pages: dict[int, bytes]
    ) -> None:
        """A page that the slots device does not take goes elsewhere, or stays where it was."""
        if fault not in NO_CHECKSUM:
            return
        with self.a_write_fails(device, nth, fault):
            for entry, page in pages.items():
                self.swap_out(entry, page)

    @contextmanager
    def a_write_fails(self, device: int, nth: int, fault: Fault) -> Iterator[Callable[[], bool]]:
        """The nth write of a device fails, and closes it if it was not only full; afterwards tells whether it came to it."""
        before = self.engine.calls(device, Call.WRITE)
        self.engine.plan(device, Call.WRITE, nth, fault)

        def happened() -> bool:
            return self.engine.calls(device, Call.WRITE) - before > nth

        self.failing = True
        yield happened
        self.failing = False
        self.engine.condition(device)
        if happened() and fault is not Fault.CORRUPT:
            self.model.devices[device].write_failed(for_want_of_space=fault is Fault.NO_SPACE)

    def swap_in_with_faults(self, device: int, faults: list[Fault], entries: list[int]) -> None:
        """The right bytes, or an error that says so; a refused read costs nothing but the try."""
        faults = self.plan(device, Call.READ, faults)
        trouble = Trouble(
            refused=any(fault is not Fault.CORRUPT for fault in faults),
            corrupt_reads=faults.count(Fault.CORRUPT),
        )
        for entry in entries:
            self.swap_in(entry, trouble)
        self.engine.condition(device)

    def clean_with_faults(self, device: int, faults: list[Fault]) -> None:
        """What cannot be read is not moved."""
        self.plan(device, Call.READ, faults)
        self.clean()
        self.engine.condition(device)

    def swapoff_with_faults(self, device: int, faults: list[Fault], ram_segments: int) -> None:
        """The device stays on with all that is there, or is off with every page elsewhere."""
        before = self.stored_at(Backing.DEVICE)
        faults = self.plan(device, Call.READ, faults)
        end = self.engine.swapoff(device, ram_segments, most=1000)
        self.engine.condition(device)
        assert end in (Swapoff.DONE, Swapoff.FAILED, Swapoff.NO_ROOM), end
        assert (self.engine.device(device) is None) == (end is Swapoff.DONE)
        self.left(device, end)
        lossy = Trouble(corrupt_reads=2 if faults.count(Fault.CORRUPT) > 1 else 0)
        for entry in before:
            self.swap_in(entry, lossy)

    def discard_with_faults(
        self, device: int, faults: list[Fault], act: Callable[[], None]
    ) -> None:
        """Space that is not given back is lost until it is used again, and is told; nothing else comes of it."""
        asked, before = self.engine.calls(device, Call.DISCARD), self.engine.device(device)
        self.plan(device, Call.DISCARD, faults)
        act()
        self.engine.condition(device)
        after = self.engine.device(device)
        if before is None or after is None:
            return
        came = faults[: self.engine.calls(device, Call.DISCARD) - asked]
        refused = sum(fault is not Fault.CORRUPT for fault in came)
        given_back = self.engine.calls(device, Call.DISCARD) - asked - refused
        assert (after.discards - before.discards, after.errors - before.errors) == (
            given_back,
            refused,
        )
        assert after.kept <= before.kept + len(came)

    def free_and_give_back(self, entries: list[int]) -> None:
        """Entries go, and what is left of their segments is given back with the next I/O."""
        for entry in entries:
            for _ in range(self.model.count(entry)):
                self.free(entry)
        self.clean()

    @contextmanager
    def gone(self, device: int) -> Iterator[None]:
        """The device answers nothing meanwhile; the first write that it refuses closes it for good."""
        before = self.engine.calls(device, Call.WRITE)
        self.engine.condition(device, gone=True)
        self.failing = True
        yield
        self.failing = False
        if self.engine.calls(device, Call.WRITE) > before:
            self.model.devices[device].write_failed(for_want_of_space=False)
        self.engine.condition(device)

    @contextmanager
    def slow(self, device: int, delay_us: int) -> Iterator[None]:
        self.engine.condition(device, delay_us=delay_us)
        yield
        self.engine.condition(device)
