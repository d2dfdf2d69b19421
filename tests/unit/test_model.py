"""The model of the swap layer is what docs/model.md says, and needs nothing native."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from vswap.model import (
    LEGAL,
    STORED,
    Backing,
    Charges,
    Device,
    Event,
    Freed,
    Group,
    GroupCharge,
    GroupTree,
    Layer,
    RangeError,
    SpecificationError,
    Step,
    SwapIn,
    SwapOut,
    Trouble,
    may_change_tier,
)

MODEL = Path(__file__).parents[2] / "python" / "vswap" / "model"
TEXT = b"some page of text" * 240 + bytes(16)
ZEROS = bytes(4096)
WORD_OF_A_DOUBLE = bytes.fromhex("9a9999999999b93f") * 512


def one_entry() -> tuple[Layer, int]:
    layer = Layer(devices=[Device(places=8)])
    return layer, layer.allocate(512, 1)[0]


def test_the_model_imports_nothing_but_itself_and_pythons_own() -> None:
    allowed = {"__future__", "collections", "dataclasses", "enum", "vswap"}
    for path in MODEL.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None
                assert node.module.split(".")[0] in allowed
                assert not node.module.startswith("vswap") or node.module.startswith("vswap.model")
            assert not isinstance(node, ast.Import)


def test_the_model_loads_neither_engine_nor_cffi() -> None:
    program = (
        "import sys, vswap.model; print([m for m in sys.modules if 'cffi' in m or 'numpy' in m])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("first", "count"), [(0, 1), (511, 1), (513, 2), (514, 3), (1020, 8), (512, 513), (512, 0)]
)
def test_a_range_that_is_no_allocation_is_refused(first: int, count: int) -> None:
    with pytest.raises(RangeError):
        Layer().allocate(first, count)


def test_an_entry_in_use_is_not_handed_out() -> None:
    layer, _ = one_entry()
    with pytest.raises(SpecificationError, match="twice"):
        layer.allocate(512, 4)


def test_only_an_allocation_brings_a_free_entry_into_use() -> None:
    steps = {step for backing, step in LEGAL if backing is Backing.FREE}
    assert steps == {Step.HAND_OUT}


def test_every_backing_in_use_can_end() -> None:
    for backing in set(Backing) - {Backing.FREE}:
        assert Backing.FREE in LEGAL[backing, Step.END]


def test_bytes_move_only_between_places_that_hold_bytes() -> None:
    assert {backing for backing, step in LEGAL if step is Step.MOVE} == STORED


def test_a_page_of_one_word_is_kept_in_the_descriptor_if_the_word_fits() -> None:
    layer, entry = one_entry()
    assert layer.may_swap_out(entry, ZEROS, ram_is_full=True) == {SwapOut.SAME}
    assert layer.may_swap_out(entry, WORD_OF_A_DOUBLE, ram_is_full=False) == {SwapOut.STORED}
    with pytest.raises(SpecificationError):
        layer.swap_out(entry, ZEROS, SwapOut.SAME, Backing.RAM)


def test_a_swap_out_without_room_changes_nothing() -> None:
    layer, entry = one_entry()
    layer.swap_out(entry, TEXT, SwapOut.STORED, Backing.RAM)
    layer.swap_out(entry, TEXT[::-1], SwapOut.NO_ROOM, Backing.RAM)
    layer.swap_in(entry, SwapIn.OK, TEXT)


def test_wrong_bytes_are_refused() -> None:
    layer, entry = one_entry()
    layer.swap_out(entry, TEXT, SwapOut.STORED, Backing.RAM)
    with pytest.raises(SpecificationError, match="wrong bytes"):
        layer.swap_in(entry, SwapIn.OK, ZEROS)


def test_nothing_moves_while_nobody_moves_it() -> None:
    layer, entry = one_entry()
    layer.swap_out(entry, TEXT, SwapOut.STORED, Backing.RAM)
    for event in (Event.NOTHING, Event.CLEAN):
        with pytest.raises(SpecificationError):
            layer.moved(entry, Backing.DEVICE, event, device=0)


def test_a_lost_page_stays_lost_until_it_is_given_new_bytes() -> None:
    layer, entry = one_entry()
    layer.swap_out(entry, TEXT, SwapOut.STORED, Backing.RAM)
    assert layer.lose(entry)
    assert layer.may_swap_in(entry, Trouble()) == {SwapIn.LOST}
    layer.swap_out(entry, ZEROS, SwapOut.SAME, Backing.SAME)
    assert layer.may_swap_in(entry) == {SwapIn.OK}


def test_charged_is_what_is_there() -> None:
    layer = Layer()
    entries = layer.allocate(512, 4)
    layer.swap_out(entries[0], ZEROS, SwapOut.SAME, Backing.SAME)
    layer.swap_out(entries[1], TEXT, SwapOut.STORED, Backing.RAM)
    layer.cache(entries[2], 9)
    assert layer.charges() == Charges(entries=4, same=1, stored=1)
    assert layer.free(entries) == Freed(freed=3, still_cached=1)
    assert layer.charges() == Charges(entries=1, same=0, stored=0)


def test_a_full_device_is_only_full_and_a_failed_one_is_closed() -> None:
    device = Device(places=4)
    device.write_failed(for_want_of_space=True)
    assert not device.closed
    device.write_failed(for_want_of_space=False)
    device.write_failed(for_want_of_space=True)
    assert device.closed


def charge(own: int, ram: int, device: int = 0) -> GroupCharge:
    return GroupCharge(0, 0, own, ram, 0, device, 0, 0, 0)


def test_charges_of_groups_add_up_to_the_root_and_limits_hold() -> None:
    tree = GroupTree()
    tree.create(5, parent=0)
    tree.create(6, parent=5)
    assert tree.broken_laws({0: charge(1, 6), 5: charge(2, 5), 6: charge(3, 3)}) == []
    assert tree.broken_laws({0: charge(1, 6), 5: charge(2, 5), 6: charge(3, 4)})
    tree.groups[5].ram_max = 4
    assert tree.broken_laws({0: charge(1, 6), 5: charge(2, 5), 6: charge(3, 3)}) == []
    tree.groups[5].ram_max = 3
    assert tree.broken_laws({0: charge(1, 6), 5: charge(2, 5), 6: charge(3, 3)})


def test_what_a_group_may_not_do_nobody_below_it_may() -> None:
    tree = GroupTree({5: Group(0, writeback=False, forbidden=frozenset({1})), 6: Group(5)})
    assert not tree.may_write_back(6)
    assert tree.forbidden(6) == {1}
    assert tree.may_write_back(0)


def test_an_entry_of_a_group_without_writeback_never_reaches_a_device() -> None:
    layer = Layer(devices=[Device(places=8)], tree=GroupTree({5: Group(0, writeback=False)}))
    (entry,) = layer.allocate(512, 1, group=5)
    layer.swap_out(entry, TEXT, SwapOut.STORED, Backing.RAM)
    with pytest.raises(SpecificationError, match="forbidden"):
        layer.moved(entry, Backing.DEVICE, Event.WRITEBACK, device=0)


def test_a_page_on_a_device_is_on_one_that_is_on_and_takes_it() -> None:
    layer, entry = one_entry()
    layer.swap_out(entry, TEXT, SwapOut.STORED, Backing.RAM)
    with pytest.raises(SpecificationError, match="nowhere"):
        layer.moved(entry, Backing.DEVICE, Event.WRITEBACK)
    layer.devices[0].write_failed(for_want_of_space=False)
    with pytest.raises(SpecificationError, match="shut"):
        layer.moved(entry, Backing.DEVICE, Event.WRITEBACK, device=0)
    layer.devices.append(Device(places=1, slots=True))
    with pytest.raises(SpecificationError, match="DEVICE on"):
        layer.moved(entry, Backing.DEVICE, Event.WRITEBACK, device=1)


def test_a_page_that_does_not_shrink_goes_to_a_slot_and_others_when_there_is_no_room() -> None:
    places = {
        (shrinks, full): Layer.places_for(shrinks=shrinks, ram_is_full=full, slots=0)
        for shrinks in (True, False)
        for full in (True, False)
    }
    assert places[True, False] == {Backing.RAM}
    assert places[True, True] == {Backing.RAM, Backing.SLOT}
    assert places[False, False] == places[False, True] == {Backing.SLOT}
    assert Layer.places_for(shrinks=False, ram_is_full=True, slots=None) == {Backing.RAM}


def slots_layer() -> tuple[Layer, int, int]:
    devices = [
        Device(places=8),
        Device(places=1, priority=1, number=0, slots=True),
        Device(places=1, priority=5, number=1, slots=True),
    ]
    layer = Layer(devices=devices, tree=GroupTree({5: Group(0)}))
    return layer, layer.allocate(512, 1)[0], layer.allocate(1024, 1, group=5)[0]


def test_slots_are_filled_by_priority_and_only_where_the_group_may() -> None:
    layer, of_root, of_group = slots_layer()
    assert layer.slots_for(of_root, {1: 63, 2: 63}) == 2
    assert layer.slots_for(of_root, {1: 63, 2: 0}) == 1
    assert layer.slots_for(of_root, {}) is None
    layer.tree.groups[5].forbidden_slots = frozenset({1})
    assert layer.slots_for(of_group, {1: 63, 2: 63}) == 1
    layer.tree.groups[5].device_max = 10
    assert layer.slots_for(of_group, {1: 63, 2: 63}) is None


def test_nothing_comes_to_a_slot_but_by_a_swap_out_or_from_another_slot() -> None:
    layer, entry, _ = slots_layer()
    layer.swap_out(entry, TEXT, SwapOut.STORED, Backing.RAM)
    with pytest.raises(SpecificationError):
        layer.moved(entry, Backing.SLOT, Event.SLOTS_OFF, device=1)
    layer.swap_out(entry, TEXT, SwapOut.STORED, Backing.SLOT, device=2)
    assert layer.charges() == Charges(entries=2, same=0, stored=0, slots=1)
    with pytest.raises(SpecificationError):
        layer.moved(entry, Backing.DEVICE, Event.WRITEBACK, device=0)
    layer.moved(entry, Backing.SLOT, Event.SLOTS_OFF, device=1)
    layer.moved(entry, Backing.RAM, Event.SLOTS_OFF)


def test_what_a_slots_device_changes_in_silence_nobody_can_tell() -> None:
    layer, entry, _ = slots_layer()
    layer.swap_out(entry, TEXT, SwapOut.STORED, Backing.SLOT, device=2)
    assert layer.may_swap_in(entry, Trouble(corrupt_reads=9)) == {SwapIn.OK}
    assert SwapIn.DEVICE_FAILED in layer.may_swap_in(entry, Trouble(refused=True))


def test_a_look_moves_pages_only_between_devices_and_by_what_was_read() -> None:
    fast, slow = Device(places=16, priority=9), Device(places=100, priority=1)
    read = {"was_read": True, "others_were_read": True}
    unread = {"was_read": False, "others_were_read": False}
    assert may_change_tier(fast, slow, **unread) and not may_change_tier(fast, slow, **read)
    assert may_change_tier(slow, fast, **read) and not may_change_tier(slow, fast, **unread)
    assert not may_change_tier(fast, Device(places=16, priority=9), **read)
    assert not may_change_tier(Device(places=15, priority=9), slow, **unread)
    layer, entry = one_entry()
    layer.swap_out(entry, TEXT, SwapOut.STORED, Backing.RAM)
    with pytest.raises(SpecificationError):
        layer.moved(entry, Backing.DEVICE, Event.LOOK, device=0)


def test_a_guest_that_could_not_be_parted_goes_where_any_host_of_its_page_may() -> None:
    tree = GroupTree({5: Group(0), 6: Group(0)})
    layer = Layer(devices=[Device(places=8)], tree=tree, has_guests=True)
    first, second = layer.allocate(512, 1, group=5)[0], layer.allocate(1024, 1, group=6)[0]
    for entry in (first, second):
        layer.swap_out(entry, TEXT, SwapOut.STORED, Backing.RAM)
    tree.groups[5].writeback = False
    layer.moved(first, Backing.DEVICE, Event.WRITEBACK, device=0)
    layer.free([second])
    layer.end_group(6)
    layer.moved(first, Backing.RAM, Event.CLEAN)
    layer.moved(first, Backing.DEVICE, Event.WRITEBACK, device=0)
    layer.swap_out(first, TEXT[::-1], SwapOut.STORED, Backing.RAM)
    with pytest.raises(SpecificationError, match="forbidden"):
        layer.moved(first, Backing.DEVICE, Event.WRITEBACK, device=0)


def test_a_cluster_serves_one_group_at_a_time() -> None:
    layer = Layer(tree=GroupTree({5: Group(0)}))
    layer.allocate(512, 1, group=5)
    with pytest.raises(SpecificationError, match="cluster"):
        layer.allocate(514, 1)
    assert not layer.may_end_group(5)
    layer.free([512])
    layer.end_group(5)
    layer.allocate(514, 1)
