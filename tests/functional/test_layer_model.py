"""Random operations on the engine's swap layer and on the model of it (docs/model.md), compared after each step.

`VSWAP_MODEL_SECONDS=600 pytest tests/functional/test_layer_model.py` looks for so long, with other numbers each time.
`VSWAP_MODEL_VERBOSE=1 pytest -s ...` prints each operation before it is done, for when the engine takes Python down with it.
"""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support.engine_layer import Call, Fault
from support.lockstep import Lockstep
from support.pages import KINDS, page
from support.sizes import model_seconds
from vswap.model import Backing, Trouble

AT = st.integers(0, 1 << 12)
FEW = st.integers(1, 16)
MANY = st.sampled_from([1, 2, 5, 20, 64, 65, 130, 200])
"""64 pages that do not compress fill a segment."""
KIND = st.sampled_from(KINDS)
SEED = st.integers(0, 40)
"""Small, so that pages come twice."""
READ_FAULTS = st.lists(
    st.sampled_from([Fault.ERROR, Fault.SHORT, Fault.CORRUPT]), min_size=1, max_size=4
)
DISCARD_FAULTS = st.lists(st.sampled_from(list(Fault)), min_size=1, max_size=4)
GROUP = st.integers(0, 11)
NUMBERS = st.frozensets(st.integers(0, 2))
PRIORITY = st.sampled_from([None, 0, 5, 10])
RANGES = st.one_of(st.just(1), st.integers(1, 40), st.sampled_from([16, 64, 200, 512]))


def has_entries(machine: LayerMachine) -> bool:
    return bool(machine.both.model.entries)


def has_devices(machine: LayerMachine) -> bool:
    return any(device.on for device in machine.both.model.devices)


class LayerMachine(RuleBasedStateMachine):
    """One life of a layer."""

    both: Lockstep

    @initialize(
        ram_segments=st.integers(2, 6),
        devices=st.sampled_from(
            [
                [(4, None)],
                [(16, 9), (24, 1)],
                [(1, None), (2, None), (3, None)],
                [(8, 0), (8, 0)],
                [(24, 1)],
                [],
            ]
        ),
        zstd=st.sampled_from([0, 0, 1]),
        dedup=st.sampled_from([0, 1, 2]),
        parents=st.sampled_from([[], [0, 0], [0, 1, 1], [0, 1, 2, 3]]),
    )
    def begin(
        self,
        ram_segments: int,
        devices: list[tuple[int, int | None]],
        zstd: int,
        dedup: int,
        parents: list[int],
    ) -> None:
        self.both = Lockstep(ram_segments, zstd, dedup)
        for places, priority in devices:
            self.both.swapon(places, priority)
        for parent in parents:
            self.both.create_group(parent)

    @rule(count=RANGES, group=GROUP)
    def allocate(self, count: int, group: int) -> None:
        if len(self.both.model.entries) < 700:
            self.both.allocate(count, self.both.group(group))

    @rule(count=MANY, kind=st.sampled_from(["noise", "half", "text"]), seed=SEED, group=GROUP)
    def allocate_and_swap_out(self, count: int, kind: str, seed: int, group: int) -> None:
        if len(self.both.model.entries) < 700:
            for i, entry in enumerate(self.both.allocate(count, self.both.group(group))):
                self.both.swap_out(entry, page(kind, seed + i))

    @precondition(has_entries)
    @rule(at=AT)
    def duplicate(self, at: int) -> None:
        for entry in self.both.live(at):
            self.both.duplicate(entry)

    @precondition(has_entries)
    @rule(at=AT, count=MANY)
    def free(self, at: int, count: int) -> None:
        """A run of numbers: dead ones in between are counted and do no harm."""
        for first in self.both.live(at):
            self.both.free(first, count)

    @precondition(has_entries)
    @rule(at=AT, step=st.integers(1, 7), count=MANY)
    def free_scattered(self, at: int, step: int, count: int) -> None:
        """Holes, for the cleaner to gather."""
        for entry in self.both.live(at, count * step)[::step]:
            self.both.free(entry)

    @precondition(has_entries)
    @rule(at=AT, count=FEW)
    def cache(self, at: int, count: int) -> None:
        for entry in self.both.live(at, count):
            self.both.cache(entry)

    @precondition(has_entries)
    @rule(at=AT, count=FEW)
    def take_frame(self, at: int, count: int) -> None:
        for entry in self.both.live(at, count):
            self.both.take_frame(entry)

    @precondition(has_entries)
    @rule(at=AT, count=MANY, kind=KIND, seed=SEED)
    def swap_out(self, at: int, count: int, kind: str, seed: int) -> None:
        for i, entry in enumerate(self.both.live(at, count)):
            self.both.swap_out(entry, page(kind, seed + i))

    @precondition(has_entries)
    @rule(at=AT, count=FEW)
    def swap_in(self, at: int, count: int) -> None:
        for entry in self.both.live(at, count):
            self.both.swap_in(entry)

    @precondition(has_entries)
    @rule(at=AT)
    def poison(self, at: int) -> None:
        for entry in self.both.live(at):
            self.both.poison(entry)

    @rule(segments=st.sampled_from([1, 2, 9]))
    def writeback(self, segments: int) -> None:
        self.both.writeback(segments)

    @rule()
    def clean(self) -> None:
        self.both.clean()

    @rule(parent=GROUP)
    def create_group(self, parent: int) -> None:
        self.both.create_group(self.both.group(parent))

    @rule(group=GROUP)
    def end_group(self, group: int) -> None:
        self.both.end_group(self.both.group(group))

    @rule(group=GROUP, device=st.booleans(), segments=st.sampled_from([None, 0, 1, 2, 3]))
    def limit_group(self, group: int, device: bool, segments: int | None) -> None:
        self.both.limit_group(self.both.group(group), device=device, segments=segments)

    @rule(group=GROUP, writeback=st.booleans(), forbidden=NUMBERS, forbidden_slots=NUMBERS)
    def rule_group(
        self,
        group: int,
        writeback: bool,
        forbidden: frozenset[int],
        forbidden_slots: frozenset[int],
    ) -> None:
        self.both.rule_group(
            self.both.group(group),
            writeback=writeback,
            forbidden=forbidden,
            forbidden_slots=forbidden_slots,
        )

    @rule(group=GROUP, segments=st.sampled_from([1, 2, 9]))
    def writeback_group(self, group: int, segments: int) -> None:
        self.both.writeback_group(self.both.group(group), segments)

    @rule(places=st.one_of(st.integers(1, 8), st.integers(16, 20)), priority=PRIORITY)
    def swapon(self, places: int, priority: int | None) -> None:
        if len(self.both.devices_on(slots=False)) < 4:
            self.both.swapon(places, priority)

    @rule(places=st.integers(1, 4), priority=PRIORITY)
    def swapon_slots(self, places: int, priority: int | None) -> None:
        if len(self.both.devices_on(slots=True)) < 3:
            self.both.swapon(places, priority, slots=True)

    @rule(on=st.booleans())
    def prefer_slots(self, on: bool) -> None:
        self.both.prefer_slots(on)

    @precondition(has_devices)
    @rule(at=AT, ram=st.integers(0, 4), most=st.sampled_from([1000, 1000, 1, 2]))
    def swapoff(self, at: int, ram: int, most: int) -> None:
        self.both.swapoff(self.both.device(at), ram, most)

    @precondition(has_devices)
    @rule(beyond=st.integers(0, 4), pages=st.sampled_from([2, 2, 40]), seed=SEED, group=GROUP)
    def fill_the_best_device(self, beyond: int, pages: int, seed: int, group: int) -> None:
        """Segments with little in them, so that it gets full, or with enough to come up again."""
        on = self.both.devices_on(slots=False)
        best = max(on, key=lambda it: it[1].priority, default=None)
        for i in range(self.both.room(best[0]) + beyond if best else 0):
            if len(self.both.model.entries) < 700:
                for n, entry in enumerate(self.both.allocate(pages, self.both.group(group))):
                    self.both.swap_out(entry, page("noise", seed + pages * i + n))
                self.both.writeback(1)

    @precondition(has_devices)
    @rule(reads=st.lists(AT, max_size=3), looks=st.integers(1, 6), places=st.integers(16, 20))
    def looks(self, reads: list[int], looks: int, places: int) -> None:
        """What is read before each look comes up in the end, what is not goes down."""
        if len(self.both.devices_on(slots=False)) == 1:
            self.both.swapon(places, priority=20 if reads else 0)
        on_devices = sorted(self.both.stored_at(Backing.DEVICE))
        for _ in range(looks):
            for at in reads if on_devices else []:
                self.both.swap_in(on_devices[at % len(on_devices)])
            self.both.look()

    # Devices that fail

    @precondition(has_devices)
    @rule(
        at=AT,
        nth=st.sampled_from([0, 0, 1, 2]),
        fault=st.sampled_from(list(Fault)),
        segments=st.sampled_from([1, 2, 9]),
    )
    def writeback_goes_wrong(self, at: int, nth: int, fault: Fault, segments: int) -> None:
        device = self.both.device(at)
        self.both.writeback_with_fault(device, nth, fault, segments)

    @precondition(has_devices)
    @rule(
        at=AT,
        nth=st.sampled_from([0, 0, 1, 2]),
        fault=st.sampled_from(list(Fault)),
        call=st.sampled_from([Call.READ, Call.WRITE]),
    )
    def a_look_goes_wrong(self, at: int, nth: int, fault: Fault, call: Call) -> None:
        self.both.look_with_fault(self.both.device(at), nth, fault, call)

    @precondition(has_devices)
    @rule(
        at=AT,
        nth=st.integers(0, 3),
        fault=st.sampled_from(list(Fault)),
        count=FEW,
        kind=KIND,
        seed=SEED,
    )
    def swap_out_goes_wrong(
        self, at: int, nth: int, fault: Fault, count: int, kind: str, seed: int
    ) -> None:
        entries = self.both.live(at, count) if self.both.model.entries else []
        pages = {entry: page(kind, seed + i) for i, entry in enumerate(entries)}
        self.both.swap_out_with_fault(self.both.device(at), nth, fault, pages)

    @precondition(has_devices)
    @rule(at=AT, faults=READ_FAULTS, count=FEW)
    def swap_in_goes_wrong(self, at: int, faults: list[Fault], count: int) -> None:
        device = self.both.device(at)
        entries = self.both.stored_on(device)[at % 50 :][:count]
        self.both.swap_in_with_faults(device, faults, entries)

    @precondition(has_devices)
    @rule(at=AT, faults=DISCARD_FAULTS, count=MANY)
    def giving_back_goes_wrong(self, at: int, faults: list[Fault], count: int) -> None:
        device = self.both.device(at)
        entries = self.both.stored_on(device)[:count]
        self.both.discard_with_faults(device, faults, lambda: self.both.free_and_give_back(entries))

    @precondition(has_devices)
    @rule(at=AT, faults=DISCARD_FAULTS, ram=st.integers(0, 4))
    def giving_back_goes_wrong_in_swapoff(self, at: int, faults: list[Fault], ram: int) -> None:
        device = self.both.device(at)
        self.both.discard_with_faults(
            device, faults, lambda: drop(self.both.swapoff(device, ram, 1000))
        )

    @precondition(has_devices)
    @rule(at=AT, faults=READ_FAULTS, ram=st.integers(0, 4))
    def swapoff_goes_wrong(self, at: int, faults: list[Fault], ram: int) -> None:
        self.both.swapoff_with_faults(self.both.device(at), faults, ram)

    @precondition(has_devices)
    @rule(at=AT, faults=READ_FAULTS)
    def cleaning_goes_wrong(self, at: int, faults: list[Fault]) -> None:
        self.both.clean_with_faults(self.both.device(at), faults)

    @precondition(has_devices)
    @rule(at=AT, segments=st.integers(0, 2), count=FEW, seed=SEED)
    def a_device_is_gone_for_a_while(self, at: int, segments: int, count: int, seed: int) -> None:
        device = self.both.device(at)
        entries = self.both.stored_on(device)[:count]
        with self.both.gone(device):
            for entry in entries:
                self.both.swap_in(entry, Trouble(refused=True))
            for i, entry in enumerate(entries[::2]):
                self.both.swap_out(entry, page("noise", seed + i))
            self.both.writeback(segments)
            self.both.look()
            self.both.clean()

    @precondition(has_devices)
    @rule(at=AT, delay_us=st.integers(1, 300))
    def a_device_is_slow_for_a_while(self, at: int, delay_us: int) -> None:
        device = self.both.device(at)
        with self.both.slow(device, delay_us):
            self.both.writeback(2)
            for entry in self.both.stored_on(device)[:4]:
                self.both.swap_in(entry)
            self.both.look()

    @invariant()
    def both_agree(self) -> None:
        if hasattr(self, "both"):
            self.both.compare()

    def teardown(self) -> None:
        if hasattr(self, "both"):
            self.both.end()


def drop(_: object) -> None:
    """What comes of it is looked at elsewhere."""


def profile(**changes: Any) -> settings:
    """One profile for all: reproducible, unless a long run asks for new numbers."""
    return settings(
        **{
            "max_examples": 250,
            "stateful_step_count": 40,
            "deadline": None,
            "derandomize": True,
            "print_blob": True,
            "database": None,
            "verbosity": Verbosity.verbose
            if os.environ.get("VSWAP_MODEL_VERBOSE")
            else Verbosity.normal,
            "suppress_health_check": list(HealthCheck),
            **changes,
        }
    )


@pytest.mark.model_seconds
def test_the_engine_does_what_the_model_says() -> None:
    seconds = model_seconds()
    if not seconds:
        run_state_machine_as_test(LayerMachine, settings=profile())
        return
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        run_state_machine_as_test(
            LayerMachine,
            settings=profile(derandomize=False, max_examples=30, stateful_step_count=80),
        )
