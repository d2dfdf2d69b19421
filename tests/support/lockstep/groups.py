"""Who pays: groups that come and go, their limits and rules, and what is drained out of them."""

from __future__ import annotations

from support.engine_layer import Call
from support.lockstep.devices import Devices
from vswap.model import ROOT, Backing, Event


class Groups(Devices):
    """Groups on both."""

    def group(self, at: int) -> int:
        """The `at`-th group, the root among them."""
        groups = [ROOT, *self.model.tree.groups]
        return groups[at % len(groups)]

    def create_group(self, parent: int) -> None:
        number = self.engine.create_group(parent)
        assert (number is not None) == self.model.tree.may_create(parent)
        if number is not None:
            self.model.tree.create(number, parent)
            self.fails[number] = 0

    def end_group(self, group: int) -> None:
        """What it still holds, dead segments above all, is its parent's; open ones without anything alive just go."""
        may = self.model.may_end_group(group)
        parent = self.model.tree.groups[group].parent if may else ROOT
        before = self.charge(parent)
        left = self.engine.end_group(group)
        assert (left is not None) == may
        if left is not None:
            self.model.end_group(group)
            assert self.engine.group_charge(group) is None
            after = self.charge(parent)
            # Guests that got bytes of their own may have left a device.
            assert after.ram <= before.ram or self.dedup > 1
            assert after.device == before.device or self.dedup > 1
            self.guests_were_parted(left)

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

    def rule_group(
        self,
        group: int,
        *,
        writeback: bool,
        forbidden: frozenset[int] = frozenset(),
        forbidden_slots: frozenset[int] = frozenset(),
    ) -> None:
        """Groups that shared pages under the same rules are parted, but for what finds no room."""
        if group == ROOT:
            return
        known = self.model.tree.groups[group]
        known.writeback = writeback
        known.forbidden, known.forbidden_slots = forbidden, forbidden_slots
        left = self.engine.rule_group(
            group, writeback=writeback, forbidden=forbidden, forbidden_slots=forbidden_slots
        )
        self.guests_were_parted(left)

    def guests_were_parted(self, left: int) -> None:
        """Those who may not go where their host may have bytes of their own now, all but `left`."""
        assert left == 0 or self.dedup > 1
        self.model.has_guests = left > 0
        self.observe(Event.PART if self.dedup > 1 else Event.NOTHING)
        self.fails.update(self.more_fails())

    def writeback_group(self, group: int, segments: int) -> int:
        """A drain: only what belongs to the group or below moves, to no device that it may not use, and it is told how much."""
        forbidden = self.model.tree.forbidden(group)
        devices = self.devices_on(slots=False)
        before = {device: self.engine.calls(device, Call.WRITE) for device, _ in devices}
        on_devices, charge = self.stored_at(Backing.DEVICE), self.charge(group)
        with self.writes_in_order():
            written = self.engine.writeback_group(group, segments)
        self.observe(Event.WRITEBACK)
        after = self.charge(group)
        writes = {at: self.engine.calls(at, Call.WRITE) - before[at] for at, _ in devices}
        assert sum(writes.values()) == written <= segments
        # Open segments without anything alive just go.
        assert charge.ram - after.ram >= written
        assert written == segments or not self.could_drain(group, after.own_ram)
        # An object that is shared across groups is one group's.
        for entry in self.stored_at(Backing.DEVICE) - on_devices if self.dedup < 2 else ():
            assert group in self.model.tree.chain(self.model.entries[entry].group)
        assert not any(writes[at] for at, known in devices if known.number in forbidden)
        return written

    def could_drain(self, group: int, own_ram: int) -> bool:
        """Whether something of the group itself could be written still."""
        limits = [self.model.tree.groups[at] for at in self.model.tree.chain(group) if at != ROOT]
        numbers = [at for at in self.model.tree.chain(group) if at != ROOT]
        stopped = any(
            known.device_max is not None and self.charge(at).device >= known.device_max
            for at, known in zip(numbers, limits, strict=True)
        )
        usable = any(
            self.room(at) > 0
            for at, device in self.devices_on(slots=False)
            if self.model.tree.may_use(group, slots=False, device=device.number)
        )
        return own_ram > 0 and usable and not stopped and not self.failing

    def compare_groups(self) -> None:
        """Charges add up, limits hold, and every entry is paid for by the group it was made for."""
        charges = {group: self.charge(group) for group in (ROOT, *self.model.tree.groups)}
        assert self.model.tree.broken_laws(charges) == []
        for group, charge in charges.items():
            own = [n for n, entry in self.model.entries.items() if entry.group == group]
            assert charge.own_entries == len(own)
            assert charge.fail_events == self.fails[group], (group, charge, self.fails)
            for number in own:
                assert self.engine.group_of(number) == group
