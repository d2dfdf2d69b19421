"""The layer: entries with counts, contents and backings, and every operation on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vswap.model.backing import STORED, Backing
from vswap.model.device import Device, first_with_slots
from vswap.model.entries import can_be_entry, cluster_of, range_of
from vswap.model.groups import ROOT, GroupTree
from vswap.model.moves import may_move
from vswap.model.outcomes import NO_TROUBLE, READS_BEFORE_LOST, Event, SwapIn, SwapOut, Trouble
from vswap.model.page import PAGE_BYTES, is_same_filled
from vswap.model.transitions import Step, may_become


class SpecificationError(AssertionError):
    """Something happened that the specification does not allow."""


@dataclass
class Entry:
    """An entry in use."""

    count: int = 1
    """Owners.  0: only its frame keeps it alive."""
    backing: Backing = Backing.NONE
    content: bytes | None = None
    """The page it was last given, wherever that rests."""
    frame: int | None = None
    device: int | None = None
    """The device its page is on, by its place in `Layer.devices`."""
    group: int = ROOT
    """Who pays for it, from its allocation to its end."""


@dataclass(frozen=True)
class Freed:
    """What became of entries that were freed."""

    freed: int = 0
    still_cached: int = 0
    still_counted: int = 0
    dead: int = 0
    """Not in use: a mistake of the caller, and harmless."""


@dataclass(frozen=True)
class Charges:
    """What is paid for, in pages: only what is there."""

    entries: int
    same: int
    stored: int
    """In the log, as objects."""
    slots: int = 0
    """In slots, as they are."""


@dataclass
class Layer:
    """All entries in use, who pays for them, and the devices."""

    entries: dict[int, Entry] = field(default_factory=dict)
    devices: list[Device] = field(default_factory=list)
    tree: GroupTree = field(default_factory=GroupTree)
    has_guests: bool = False
    """Pages that groups shared could not be parted when rules changed.  They go where a host of theirs may."""
    hosts: dict[bytes, set[int]] = field(default_factory=dict)
    """Of each page, who may pay for an object with its bytes: the groups that had it since it was last nobody's."""

    # Entries and counts

    def allocate(self, first: int, count: int, group: int = ROOT) -> range:
        """Hand out `count` neighbours.  The layer chose `first`; all have to be free, aligned, of one cluster.

        A cluster serves one group at a time: that is how an entry knows who pays for it.
        """
        handed_out = range_of(first, count)
        cluster = cluster_of(first)
        others = {e.group for number, e in self.entries.items() if cluster_of(number) == cluster}
        self._require(others <= {group}, f"cluster {cluster} of group {others} serves {group}")
        for entry in handed_out:
            self._require(entry not in self.entries, f"entry {entry} was handed out twice")
            self.entries[entry] = Entry(group=group)
        return handed_out

    def duplicate(self, entry: int) -> int | None:
        """Add an owner and return the count; None for a dead entry, which does not come to life again."""
        known = self.entries.get(entry)
        if known is None or known.count == 0:
            return None
        known.count += 1
        return known.count

    def count(self, entry: int) -> int:
        """Return how many owners an entry has; 0 for a dead one and for one that only its frame keeps."""
        known = self.entries.get(entry)
        return known.count if known else 0

    def free(self, entries: Iterable[int]) -> Freed:
        """Take one owner from each; without any left an entry ends, unless a frame is bound to it."""
        kinds = [self._free_one(entry) for entry in entries]
        return Freed(*(kinds.count(kind) for kind in ("freed", "cached", "counted", "dead")))

    def _free_one(self, entry: int) -> str:
        known = self.entries.get(entry)
        if known is None or known.count == 0:
            return "dead"
        known.count -= 1
        if known.count:
            return "counted"
        if known.backing is Backing.CACHED:
            return "cached"
        del self.entries[entry]
        return "freed"

    # The swap cache

    def cache(self, entry: int, frame: int) -> bool:
        """Bind a frame to an entry without bytes; False for any other."""
        known = self.entries.get(entry)
        if known is None or known.backing is not Backing.NONE:
            return False
        known.backing, known.frame = Backing.CACHED, frame
        return True

    def take_frame(self, entry: int) -> int | None:
        """Take the frame of a cached entry: it has no bytes then, and is gone if nobody needs it."""
        known = self.entries.get(entry)
        if known is None or known.backing is not Backing.CACHED:
            return None
        frame = known.frame
        known.backing, known.frame = Backing.NONE, None
        if known.count == 0:
            del self.entries[entry]
        return frame

    # Out and in

    def slots_for(self, entry: int, rooms: Mapping[int, int]) -> int | None:
        """Return the slots device that a new page of an entry may go to, given the slots each has left."""
        known = self.entries.get(entry)
        if known is None or known.count == 0:
            return None
        usable = {
            at: device
            for at, device in enumerate(self.devices)
            if self.tree.may_use(known.group, slots=device.slots, device=device.number)
        }
        return first_with_slots(usable, rooms)

    def may_swap_out(
        self, entry: int, page: bytes, *, ram_is_full: bool, slots: int | None = None
    ) -> set[SwapOut]:
        """Return how a swap-out of `page` may end: same-filled pages always succeed, for they need no room.

        `slots` is the slots device that takes pages of this entry.
        """
        known = self.entries.get(entry)
        if known is None:
            return {SwapOut.DEAD}
        if known.count == 0:
            return {SwapOut.UNNEEDED}
        if is_same_filled(page):
            return {SwapOut.SAME}
        has_room = slots is not None or not ram_is_full
        return {SwapOut.STORED} if has_room else {SwapOut.STORED, SwapOut.NO_ROOM}

    @staticmethod
    def places_for(
        *, shrinks: bool | None, ram_is_full: bool, slots: int | None, slots_preferred: bool = False
    ) -> set[Backing]:
        """Return where a new page may be at once, if it is not shared with an equal one (None: nobody knows).

        A page that shrinks is compressed into RAM, one that does not, or finds no room, goes to a slot.
        """
        if slots is None:
            return {Backing.RAM}
        if slots_preferred or shrinks is False:
            return {Backing.SLOT}
        return {Backing.RAM} if shrinks and not ram_is_full else {Backing.RAM, Backing.SLOT}

    def swap_out(
        self, entry: int, page: bytes, end: SwapOut, backing: Backing, device: int | None = None
    ) -> None:
        """Give an entry the bytes of `page`.  The layer chose how it ended and where the bytes are then."""
        self._require(len(page) == PAGE_BYTES, "a page has 4096 bytes")
        if end in (SwapOut.DEAD, SwapOut.NO_ROOM):
            return
        if end is SwapOut.UNNEEDED:
            del self.entries[entry]
            return
        known = self.entries[entry]
        self._require(
            may_become(known.backing, Step.SWAP_OUT, backing)
            and (backing is Backing.SAME) == (end is SwapOut.SAME),
            f"swap-out of entry {entry} ({known.backing.name}) ended {end.name} with {backing.name}",
        )
        if any(other.content == page for other in self.entries.values()):
            self.hosts[page].add(known.group)
        else:
            self.hosts[page] = {known.group}
        self._came_to(entry, known, backing, device, page)
        known.backing, known.content, known.frame, known.device = backing, page, None, device

    def may_swap_in(self, entry: int, trouble: Trouble = NO_TROUBLE) -> set[SwapIn]:
        """Return how a swap-in may end: with what is not on a device nothing goes wrong."""
        known = self.entries.get(entry)
        if known is None or known.backing is Backing.NONE:
            return {SwapIn.EMPTY}
        if known.backing is Backing.CACHED:
            return {SwapIn.CACHED}
        if known.backing is Backing.POISONED:
            return {SwapIn.LOST}
        ends = {SwapIn.OK}
        if known.backing in (Backing.DEVICE, Backing.SHARED, Backing.SLOT):
            if trouble.refused:
                ends.add(SwapIn.DEVICE_FAILED)
            # A slot has no checksum, as ordinary swap has none: what its device changes in silence nobody can tell.
            if trouble.corrupt_reads >= READS_BEFORE_LOST and known.backing is not Backing.SLOT:
                ends.add(SwapIn.LOST)
        return ends

    def swap_in(self, entry: int, end: SwapIn, page: bytes) -> None:
        """Read a page.  The backing stays, so that a page that is read and not changed need not be stored again."""
        known = self.entries.get(entry)
        if end is SwapIn.OK:
            self._require(
                known is not None and page == known.content, f"entry {entry}: wrong bytes"
            )
        elif end is SwapIn.LOST and known is not None:
            self.lose(entry)

    def lose(self, entry: int) -> bool:
        """Give bytes up for lost: readers are told, for as long as the entry lives.  False for a dead one."""
        known = self.entries.get(entry)
        if known is None:
            return False
        if known.count:
            known.backing, known.content = Backing.POISONED, None
            known.frame = known.device = None
        return True

    # What happens to entries nobody asked about

    def moved(self, entry: int, backing: Backing, event: Event, device: int | None = None) -> None:
        """Take note of where an entry's page is after `event`: anything but the bytes' place stays as it was."""
        known = self.entries[entry]
        if (backing, device) == (known.backing, known.device):
            return
        self._require(
            may_move(event, known.backing, backing)
            and may_become(known.backing, Step.MOVE, backing),
            f"entry {entry} went from {known.backing.name} on {known.device} to {backing.name} on {device}"
            f" in {event.name}",
        )
        self._came_to(entry, known, backing, device, known.content)
        known.backing, known.device = backing, device

    def _came_to(
        self,
        entry: int,
        known: Entry,
        backing: Backing,
        device: int | None,
        page: bytes | None,
    ) -> None:
        """Bytes of an entry come to a device that takes them, and only if their group allows."""
        on_device = backing in (Backing.DEVICE, Backing.SLOT)
        self._require((device is not None) == on_device, f"entry {entry} is {backing.name} nowhere")
        if device is None:
            return
        target = self.devices[device]
        self._require(target.slots == (backing is Backing.SLOT), f"{backing.name} on {target}")
        self._require(target.takes_writes, f"entry {entry} came to device {device}, which is shut")
        self._require(
            any(
                self.tree.may_use(group, slots=target.slots, device=target.number)
                for group in self._payers(known, page)
            ),
            f"entry {entry} of group {known.group} went to device {device}, which is forbidden",
        )

    def _payers(self, known: Entry, page: bytes | None) -> set[int]:
        """Return the groups that may pay for a page: its own, or of a guest any of its hosts."""
        return self.hosts[page] if self.has_guests and page is not None else {known.group}

    # Groups

    def may_end_group(self, group: int) -> bool:
        """Say whether a group may end: when none of its entries is in use and no group is below it."""
        used = any(entry.group == group for entry in self.entries.values())
        return group in self.tree.groups and not used and not self.tree.children(group)

    def end_group(self, group: int) -> None:
        """End a group.  What is still charged to it, dead segments above all, is its parent's from then on."""
        self._require(self.may_end_group(group), f"group {group} ended too early")
        parent = self.tree.groups.pop(group).parent
        for hosts in self.hosts.values():
            if group in hosts:
                hosts.remove(group)
                hosts.add(parent)

    # What it all comes to

    def charges(self) -> Charges:
        """Return what is paid for now."""
        backings = [entry.backing for entry in self.entries.values()]
        return Charges(
            entries=len(backings),
            same=backings.count(Backing.SAME),
            stored=sum(backing in STORED - {Backing.SLOT} for backing in backings),
            slots=backings.count(Backing.SLOT),
        )

    def places_wanted_at_most(self) -> int:
        """Return how many segments devices may hold: never more than they have places."""
        return sum(device.places for device in self.devices if device.on and not device.slots)

    def backing(self, number: int) -> Backing:
        """Return where an entry's page is."""
        known = self.entries.get(number) if can_be_entry(number) else None
        return known.backing if known else Backing.FREE

    @staticmethod
    def _require(condition: bool, law: str) -> None:
        if not condition:
            raise SpecificationError(law)
