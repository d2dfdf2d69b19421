"""Groups: who pays for entries and segments, and for how many at most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

ROOT = 0
"""The group everything belongs to unless told otherwise."""
MAX_DEPTH = 8
"""Levels below the root."""
CLEANER_BEYOND = 1
"""Segments in RAM by which a limit may be passed while the cleaner empties another one."""


@dataclass
class Group:
    """One payer."""

    parent: int
    ram_max: int | None = None
    """Segments in RAM, its own and those of groups below; None: no limit."""
    device_max: int | None = None
    """Segments on devices, in the same way."""
    writeback: bool = True
    """Whether its bytes may ever reach a device."""
    forbidden: frozenset[int] = frozenset()
    """Devices of segments its bytes never reach."""
    forbidden_slots: frozenset[int] = frozenset()
    """Slots devices its bytes never reach."""


@dataclass(frozen=True)
class GroupCharge:
    """What the engine says a group is charged for: segments, and how often a limit stopped one."""

    own_entries: int
    entries: int
    own_ram: int
    ram: int
    own_device: int
    device: int
    ram_max_events: int
    device_max_events: int
    fail_events: int


@dataclass
class GroupTree:
    """All groups but the root, which has no limit here and is everybody's ancestor."""

    groups: dict[int, Group] = field(default_factory=dict)

    def create(self, number: int, parent: int) -> None:
        """Make a group under another.  Its number is the engine's choice, and nobody's so far."""
        if (
            number == ROOT
            or number in self.groups
            or (parent != ROOT and parent not in self.groups)
        ):
            raise ValueError(f"group {number} cannot be made under {parent}")
        self.groups[number] = Group(parent)

    def may_create(self, parent: int) -> bool:
        """Say whether the tree may get deeper there."""
        return sum(1 for _ in self.chain(parent)) <= MAX_DEPTH

    def chain(self, number: int) -> Iterator[int]:
        """Yield a group and everything above it, the root last."""
        while number != ROOT:
            yield number
            number = self.groups[number].parent
        yield ROOT

    def children(self, number: int) -> list[int]:
        """Return the groups right below one."""
        return [child for child, group in self.groups.items() if group.parent == number]

    def may_write_back(self, number: int) -> bool:
        """Say whether bytes of a group may reach devices: a prohibition holds for all below, too."""
        return all(self.groups[at].writeback for at in self.chain(number) if at != ROOT)

    def forbidden(self, number: int) -> frozenset[int]:
        """Return the devices of segments that a group or one above it may not use."""
        above = (self.groups[at].forbidden for at in self.chain(number) if at != ROOT)
        return frozenset().union(*above)

    def forbidden_slots(self, number: int) -> frozenset[int]:
        """Return the slots devices that a group or one above it may not use."""
        above = (self.groups[at].forbidden_slots for at in self.chain(number) if at != ROOT)
        return frozenset().union(*above)

    def may_use_slots(self, number: int) -> bool:
        """Say whether pages of a group may go to slots, which are charged to nobody: not where devices are limited."""
        limited = any(
            self.groups[at].device_max is not None for at in self.chain(number) if at != ROOT
        )
        return self.may_write_back(number) and not limited

    def may_use(self, number: int, *, slots: bool, device: int) -> bool:
        """Say whether bytes of a group may go to the device of that number."""
        if slots:
            return self.may_use_slots(number) and device not in self.forbidden_slots(number)
        return self.may_write_back(number) and device not in self.forbidden(number)

    def broken_laws(self, charges: Mapping[int, GroupCharge]) -> list[str]:
        """Return what the engine's charges violate: charges add up to the root, and limits hold."""
        found = []
        for number, charge in charges.items():
            below = [charges[child] for child in self.children(number)]
            sums = (
                charge.own_entries + sum(child.entries for child in below),
                charge.own_ram + sum(child.ram for child in below),
                charge.own_device + sum(child.device for child in below),
            )
            if sums != (charge.entries, charge.ram, charge.device):
                found.append(
                    f"group {number}: {charge} is not the sum {sums} of its own and its children's"
                )
            if number != ROOT:
                found += self._passed_limits(number, charge)
        return found

    def _passed_limits(self, number: int, charge: GroupCharge) -> Iterator[str]:
        group = self.groups[number]
        if group.ram_max is not None and charge.ram > group.ram_max + CLEANER_BEYOND:
            yield f"group {number} has {charge.ram} segments in RAM, of {group.ram_max}"
        if group.device_max is not None and charge.device > group.device_max:
            yield f"group {number} has {charge.device} segments on devices, of {group.device_max}"
