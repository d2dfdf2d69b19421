"""Threads that use one layer at once, each with entries of its own and some that all share.

What one thread alone does to an entry has one possible result, so it is compared at once.  Of a shared
entry each thread knows what it added and took; the sum is compared when all have stopped, and every read
in between has to be one of the pages that were ever written there, whole.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from threading import Thread

from support.engine_layer import Call, EngineLayer, Fault, Swapoff
from support.pages import KINDS, page
from vswap.model import ROOT, STORED, Backing, Entry, GroupTree, Layer, SwapIn, SwapOut

OWN_MOST = 300
"""Entries that one thread keeps."""
PLACES = 16
SLOT_PLACES = 2
"""Of a slots device: fewer pages than threads have that do not shrink, so that some go elsewhere."""
SHARED_SEEDS = range(4)
SHARED_KINDS = ("text", "noise", "word")
MAY_HAVE_NO_ROOM = {SwapOut.STORED, SwapOut.NO_ROOM}
"""Others fill the RAM too, so there may be no room at any time."""


class Contender(Thread):
    """One thread and its model of what is its own."""

    def __init__(
        self,
        engine: EngineLayer,
        shared: list[int],
        devices: list[int],
        tree: GroupTree,
        number: int,
        seed: int,
    ) -> None:
        super().__init__(name=f"contender-{number}")
        self.engine = engine
        self.devices = devices
        """Those that are on and that nobody is taking off."""
        self.number = number
        self.tree = tree
        """All groups; the first thread alone changes what they may."""
        self.shared = shared
        self.mine = Layer()
        self.random = Random(f"{seed} {number}")
        self.frame = (number + 1) << 20
        self.added: Counter[int] = Counter()
        """What it adds to the counts of shared entries, less what it takes."""
        self.operations = 0
        self.failure: BaseException | None = None
        self.actions = [
            *(self.allocate,) * 2,
            *(self.swap_out,) * 4,
            *(self.swap_in,) * 3,
            *(self.free,) * 2,
            self.duplicate,
            self.cache,
            self.take_frame,
            self.writeback,
            self.clean,
            self.look,
            self.prefer_slots,
            self.discard_goes_wrong,
            self.drain,
            self.limit if number == 0 else self.drain,
            self.rule if number == 0 else self.drain,
            *(self.device_comes_or_goes,) * 2,
            *(self.share,) * 2,
            self.read_shared,
            self.write_shared,
        ]

    def run(self) -> None:
        try:
            for _ in range(self.operations):
                self.random.choice(self.actions)()
        except BaseException as failure:
            self.failure = failure

    def some(self, count: int = 8) -> list[int]:
        """Some of its own entries."""
        entries = sorted(self.mine.entries)
        return self.random.sample(entries, min(len(entries), self.random.randint(1, count)))

    def any_page(self) -> bytes:
        return page(self.random.choice(KINDS), self.random.randrange(40))

    # What is its own

    def allocate(self) -> None:
        if len(self.mine.entries) < OWN_MOST:
            count = self.random.choice([1, 1, 3, 16, 64])
            group = self.random.choice([ROOT, *self.tree.groups])
            first = self.engine.allocate(count, group)
            assert first is not None
            self.mine.allocate(first, count, group)

    def swap_out(self) -> None:
        for entry in self.some(24):
            content = self.any_page()
            end = self.engine.swap_out(entry, content)
            allowed = self.mine.may_swap_out(entry, content, ram_is_full=True)
            assert end in allowed, (entry, end, allowed)
            backing = self.engine.backing(entry)
            if end is SwapOut.STORED and backing is not Backing.SAME:
                backing = Backing.RAM  # whatever another thread did to it since
            self.mine.swap_out(entry, content, end, backing)

    def swap_in(self) -> None:
        for entry in self.some(24):
            end, content = self.engine.swap_in(entry)
            assert end in self.mine.may_swap_in(entry), (entry, end)
            self.mine.swap_in(entry, end, content)
            assert self.engine.count(entry) == self.mine.count(entry)

    def free(self) -> None:
        for entry in self.some(16):
            dead = self.engine.free(entry)
            assert dead == self.mine.free([entry]).dead

    def duplicate(self) -> None:
        for entry in self.some():
            assert self.engine.duplicate(entry) == self.mine.duplicate(entry)

    def cache(self) -> None:
        for entry in self.some():
            self.frame += 1
            assert self.engine.cache(entry, self.frame) == self.mine.cache(entry, self.frame)

    def take_frame(self) -> None:
        for entry in self.some():
            assert self.engine.take_frame(entry) == self.mine.take_frame(entry)

    # What happens to all

    def writeback(self) -> None:
        self.engine.writeback(1)

    def clean(self) -> None:
        self.engine.clean()

    def drain(self) -> None:
        self.engine.writeback_group(self.random.choice(list(self.tree.groups)), 1)

    def limit(self) -> None:
        """Below what others use at that moment it is refused."""
        group = self.random.choice(list(self.tree.groups))
        most = self.random.choice([None, 1, 2, 4, 8])
        if self.engine.limit_group(group, device=False, segments=most):
            self.tree.groups[group].ram_max = most

    def rule(self) -> None:
        """Pages that groups may share no longer are parted, whatever others do to them."""
        self.engine.rule_group(
            self.random.choice(list(self.tree.groups)),
            writeback=self.random.random() < 3 / 4,
            forbidden=self.random.choice([[], [0], [1]]),
            forbidden_slots=self.random.choice([[], [0]]),
        )

    def look(self) -> None:
        self.engine.look()

    def prefer_slots(self) -> None:
        self.engine.prefer_slots(self.random.random() < 1 / 4)

    def discard_goes_wrong(self) -> None:
        """Space is not given back: nobody notices."""
        for device in self.devices[:1]:
            self.engine.plan(device, Call.DISCARD, nth=0, fault=self.random.choice(list(Fault)))

    def attach(self) -> int:
        """A device of either sort, better or worse than others."""
        slots = self.random.random() < 1 / 2
        places = SLOT_PLACES if slots else PLACES
        return self.engine.attach(places, self.random.choice([None, 0, 5]), slots=slots)

    def device_comes_or_goes(self) -> None:
        """Takes a device off, whatever others write to it and read from it; it has to be empty then, or stay."""
        try:
            device = self.devices.pop(self.random.randrange(max(1, len(self.devices))))
        except IndexError:
            self.devices.append(self.attach())
            return
        end = self.engine.swapoff(device, ram_segments=1, most=self.random.choice([1, 1000]))
        assert end is not Swapoff.NOT_ON
        if end is Swapoff.DONE:
            assert self.engine.device(device) is None
        self.devices.append(device if end is not Swapoff.DONE else self.attach())

    # What is shared.  Nobody takes more than it added, so no shared entry ever ends.

    def share(self) -> None:
        entry = self.random.choice(self.shared)
        if self.added[entry] and self.random.random() < 1 / 2:
            assert self.engine.free(entry) == 0
            self.added[entry] -= 1
        else:
            count = self.engine.duplicate(entry)
            self.added[entry] += 1
            assert count is not None and count > self.added[entry]

    def read_shared(self) -> None:
        end, content = self.engine.swap_in(self.random.choice(self.shared))
        assert end is SwapIn.OK
        assert content in shared_pages()

    def write_shared(self) -> None:
        content = self.random.choice(sorted(shared_pages()))
        end = self.engine.swap_out(self.random.choice(self.shared), content)
        assert end in {SwapOut.SAME, *MAY_HAVE_NO_ROOM}


def shared_pages() -> set[bytes]:
    """All that is ever written to shared entries."""
    return {page(kind, seed) for kind in SHARED_KINDS for seed in SHARED_SEEDS}


class Contest:
    """Some contenders, stopped now and then to compare."""

    def __init__(self, threads: int, seed: int, ram_segments: int) -> None:
        self.engine = EngineLayer(ram_segments, dedup=seed % 3)
        self.devices = [
            self.engine.attach(PLACES, priority=5),
            self.engine.attach(PLACES, priority=0),
            self.engine.attach(SLOT_PLACES, slots=True),
        ]
        self.tree = GroupTree()
        for parent in (ROOT, ROOT, 1):
            group = self.engine.create_group(parent)
            assert group is not None
            self.tree.create(group, parent)
        first = self.engine.allocate(16)
        assert first is not None
        self.shared = list(range(first, first + 16))
        for entry in self.shared:
            assert self.engine.swap_out(entry, page("text", 0)) is SwapOut.STORED
        self.states = [
            Contender(self.engine, self.shared, self.devices, self.tree, n, seed)
            for n in range(threads)
        ]

    def round(self, operations: int) -> None:
        """Let all run at once, then compare everything at rest."""
        self.states = [self._again(state, operations) for state in self.states]
        for thread in self.states:
            thread.start()
        for thread in self.states:
            thread.join()
        for thread in self.states:
            if thread.failure:
                raise thread.failure
        self.compare()

    def _again(self, state: Contender, operations: int) -> Contender:
        """A thread runs once; what it knows goes on."""
        next_one = Contender(self.engine, self.shared, self.devices, self.tree, state.number, 0)
        next_one.mine, next_one.random = state.mine, state.random
        next_one.frame, next_one.added = state.frame, state.added
        next_one.operations = operations
        return next_one

    def compare(self) -> None:
        """Nobody runs: counts, backings, contents and charges, and the engine's own laws."""
        own = [entry for state in self.states for entry in state.mine.entries.items()]
        assert len({number for number, _ in own}) == len(own), "an entry was handed out twice"
        for number, entry in own:
            self._compare_one(number, entry)
        for number in self.shared:
            assert self.engine.count(number) == 1 + sum(s.added[number] for s in self.states)
        gauges = self.engine.gauges()
        assert gauges.entries == len(own) + len(self.shared)
        on_devices = [self.engine.device(device) for device in self.devices]
        in_slots = sum(state.used for state in on_devices if state and state.slots)
        assert gauges.slots == in_slots
        self._compare_charges([entry.group for _, entry in own])
        assert self.engine.check() == []

    def _compare_charges(self, payers: list[int]) -> None:
        """Charges add up, limits hold, and every entry has its payer."""
        charges = {group: self.engine.group_charge(group) for group in (ROOT, *self.tree.groups)}
        known = {group: charge for group, charge in charges.items() if charge is not None}
        assert len(known) == len(charges)
        assert self.tree.broken_laws(known) == []
        for group in self.tree.groups:
            assert known[group].own_entries == payers.count(group)

    def _compare_one(self, number: int, entry: Entry) -> None:
        backing = self.engine.backing(number)
        assert self.engine.count(number) == entry.count
        assert backing is entry.backing or {backing, entry.backing} <= STORED
        if entry.backing in STORED:
            assert self.engine.swap_in(number) == (SwapIn.OK, entry.content)

    def end(self) -> None:
        """All let go of all."""
        for state in self.states:
            for number, entry in state.mine.entries.items():
                for _ in range(entry.count):
                    self.engine.free(number)
                self.engine.take_frame(number)
        for number in self.shared:
            for _ in range(self.engine.count(number)):
                self.engine.free(number)
        gauges = self.engine.gauges()
        assert (gauges.entries, gauges.stored, gauges.slots) == (0, 0, 0)
        for group in sorted(self.tree.groups, reverse=True):
            assert self.engine.end_group(group) == 0
        assert self.engine.check() == []
        self.engine.destroy()
