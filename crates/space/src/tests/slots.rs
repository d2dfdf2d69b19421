//! Pages in plain slots, beside the log.

use super::*;
use crate::{Backing, EmptyError, SwapOut};
use std::cell::Cell;
use vswap_store::testing::Fault;

/// A layer with a slots device in memory of so many places of 64 slots.
fn layer_with_slots(ram_mib: u32, places: u32) -> (SwapLayer, Control) {
    let layer = layer(ram_mib);
    let device = FaultyDevice::new(places);
    let control = device.control();
    layer.store().slots().attach(Box::new(device)).unwrap();
    (layer, control)
}

/// Seeds of pages that do not compress, and of some that do.
const RAW: u64 = 7;
const SHORT: u64 = 8;

fn store_as(layer: &SwapLayer, seed: u64, ws: &mut Workspace) -> (EntryId, SwapOut) {
    let entry = layer.allocate(1).unwrap().first();
    let out = layer.pin(entry).unwrap().swap_out(&page(seed), ws).unwrap();
    (entry, out)
}

#[test]
fn what_does_not_compress_goes_to_a_slot_and_the_rest_to_the_log() {
    let (layer, _) = layer_with_slots(4, 4);
    let mut ws = workspace();
    let (raw, out) = store_as(&layer, RAW, &mut ws);
    assert_eq!(out, SwapOut::Slot);
    let (short, out) = store_as(&layer, SHORT, &mut ws);
    assert!(matches!(out, SwapOut::Stored { .. }));
    assert!(matches!(layer.hint(raw), Backing::Slot(_)));
    assert_eq!(load_page(&layer, raw, &mut ws), page(RAW));
    assert_eq!(load_page(&layer, short, &mut ws), page(SHORT));
    assert_eq!(layer.gauges().slot_pages, 1);
    assert_lawful(&layer);
    layer.free(&[raw, short]);
    assert_eq!(
        (layer.gauges().slot_pages, layer.store().slots().bytes()),
        (0, 0)
    );
    assert_lawful(&layer);
}

#[test]
fn the_first_slot_is_the_headers_and_is_never_used() {
    let (layer, _) = layer_with_slots(4, 1);
    let mut ws = workspace();
    let mut seen = Vec::new();
    for i in 0..63 {
        let (entry, out) = store_as(&layer, RAW * (5 * i + 1), &mut ws);
        assert_eq!(out, SwapOut::Slot);
        if let Backing::Slot(slot) = layer.hint(entry) {
            seen.push(slot.index);
        }
    }
    assert_eq!(seen, (1..64).collect::<Vec<u32>>());
    assert_lawful(&layer);
}

#[test]
fn a_full_slots_device_leaves_pages_to_the_log() {
    let (layer, _) = layer_with_slots(4, 1);
    let mut ws = workspace();
    let entries: Vec<_> = (0..100)
        .map(|i| (store_as(&layer, RAW * (5 * i + 1), &mut ws).0, i))
        .collect();
    assert_eq!(layer.gauges().slot_pages, 63);
    for (entry, i) in entries {
        assert_eq!(load_page(&layer, entry, &mut ws), page(RAW * (5 * i + 1)));
    }
    assert_lawful(&layer);
}

#[test]
fn a_page_that_finds_no_room_in_the_log_goes_to_a_slot() {
    let (layer, _) = layer_with_slots(1, 64);
    let mut ws = workspace();
    let entries: Vec<_> = (0..2000)
        .map(|i| (store_as(&layer, SHORT + 35 * i, &mut ws).0, i))
        .collect();
    assert!(layer.gauges().slot_pages > 0 && layer.gauges().stored_pages > 0);
    for (entry, i) in entries {
        assert_eq!(load_page(&layer, entry, &mut ws), page(SHORT + 35 * i));
    }
    assert_lawful(&layer);
}

#[test]
fn a_failing_write_takes_no_slot_and_the_log_takes_the_page() {
    let (layer, control) = layer_with_slots(4, 4);
    let mut ws = workspace();
    control.on_write(0, Fault::Error(vswap_platform::errno::Errno::EIO));
    let (entry, out) = store_as(&layer, RAW, &mut ws);
    assert!(matches!(out, SwapOut::Stored { bytes: 4096 }));
    assert!(!layer.store().slots().is_open());
    assert_eq!(load_page(&layer, entry, &mut ws), page(RAW));
    assert_lawful(&layer);
}

#[test]
fn a_failing_read_loses_nothing() {
    let (layer, control) = layer_with_slots(4, 4);
    let mut ws = workspace();
    let (entry, _) = store_as(&layer, RAW, &mut ws);
    control.on_read(0, Fault::Error(vswap_platform::errno::Errno::EIO));
    let mut out = vec![0; PAGE_SIZE];
    assert!(layer.swap_in(entry, &mut out, &mut ws).is_err());
    assert_eq!(load_page(&layer, entry, &mut ws), page(RAW));
    assert_lawful(&layer);
}

#[test]
fn an_emptied_slots_device_holds_nothing_and_entries_keep_their_bytes() {
    let (layer, _) = layer_with_slots(16, 16);
    let mut ws = workspace();
    let entries: Vec<_> = (0..600)
        .map(|i| (store_as(&layer, RAW * (5 * i + 1), &mut ws).0, i))
        .collect();
    layer.duplicate(entries[3].0).unwrap();
    let mut buffer = vec![0; PAGE_SIZE];
    let done = layer
        .empty_slots(0, &mut buffer, &mut ws, &mut |_| true)
        .unwrap();
    assert_eq!(done.moved, 600);
    assert!(done.visited >= 600);
    assert_eq!(layer.store().slots().held_on(0), 0);
    for (entry, i) in entries {
        assert!(matches!(layer.hint(entry), Backing::Stored(_)));
        assert_eq!(load_page(&layer, entry, &mut ws), page(RAW * (5 * i + 1)));
    }
    assert_lawful(&layer);
}

#[test]
fn emptying_that_is_stopped_or_finds_no_room_loses_nothing() {
    let (layer, _) = layer_with_slots(3, 16);
    let mut ws = workspace();
    let entries: Vec<_> = (0..1000)
        .map(|i| (store_as(&layer, RAW * (5 * i + 1), &mut ws).0, i))
        .collect();
    let mut buffer = vec![0; PAGE_SIZE];
    let asked = Cell::new(0);
    let stopped = layer.empty_slots(0, &mut buffer, &mut ws, &mut |_| {
        asked.set(asked.get() + 1);
        false
    });
    assert_eq!((stopped, asked.get()), (Err(EmptyError::Stopped), 1));
    let full = layer.empty_slots(0, &mut buffer, &mut ws, &mut |_| true);
    assert!(matches!(full, Err(EmptyError::Store(_))));
    assert!(layer.store().slots().is_open());
    assert_eq!(
        layer.empty_slots(5, &mut buffer, &mut ws, &mut |_| true),
        Err(EmptyError::NoDevice)
    );
    for (entry, i) in entries {
        assert_eq!(load_page(&layer, entry, &mut ws), page(RAW * (5 * i + 1)));
    }
    assert_lawful(&layer);
}

#[test]
fn a_forked_child_has_the_slots_and_gives_back_only_its_own_need() {
    let (layer, _) = layer_with_slots(4, 4);
    let mut ws = workspace();
    let (entry, _) = store_as(&layer, RAW, &mut ws);
    layer.fork_prepare();
    layer.fork_child();
    // What was the child's is freed; its parent, which this process was before, still needs it.
    assert_eq!(load_page(&layer, entry, &mut ws), page(RAW));
    let Backing::Slot(slot) = layer.hint(entry) else {
        panic!("not in a slot")
    };
    layer.free(&[entry]);
    let mut out = vec![0; PAGE_SIZE];
    layer.store().slots().read(slot, &mut out).unwrap();
    assert_eq!(out, page(RAW));
    let (other, _) = store_as(&layer, RAW * 3, &mut ws);
    assert_ne!(layer.hint(other), Backing::Slot(slot));
    assert_lawful(&layer);
}

#[test]
fn the_parent_goes_on_with_its_slots_after_a_fork() {
    let (layer, _) = layer_with_slots(4, 4);
    let mut ws = workspace();
    for forked in [true, false] {
        let (entry, _) = store_as(&layer, RAW, &mut ws);
        layer.fork_prepare();
        layer.fork_parent(forked);
        assert_eq!(load_page(&layer, entry, &mut ws), page(RAW));
        layer.free(&[entry]);
        assert_lawful(&layer);
    }
}

#[test]
fn a_group_that_is_restricted_on_devices_uses_no_slot() {
    let (layer, _) = layer_with_slots(4, 4);
    let mut ws = workspace();
    let groups = layer.store().groups();
    let silent = groups.create(vswap_store::GroupId::ROOT).unwrap();
    groups.set_rules(silent, false, 0);
    let entry = layer.allocate_for(silent, 1).unwrap().first();
    let out = layer.pin(entry).unwrap().swap_out(&page(RAW), &mut ws);
    assert_eq!(out, Ok(SwapOut::Stored { bytes: 4096 }));
    assert_eq!(load_page(&layer, entry, &mut ws), page(RAW));
    assert_lawful(&layer);
}

/// Swaps pages of these seeds out at once, from neighbouring memory.
fn store_run(layer: &SwapLayer, seeds: &[u64], ws: &mut Workspace) -> (Vec<EntryId>, u16) {
    let entries: Vec<_> = layer.allocate(seeds.len()).unwrap().iter().collect();
    for (frame, &entry) in entries.iter().enumerate() {
        assert!(layer.cache(entry, frame as u32));
    }
    let pages: Vec<u8> = seeds.iter().flat_map(|&seed| page(seed)).collect();
    let done = layer.swap_out_run(entries.iter().copied(), &pages, ws).done;
    (entries, done)
}

#[test]
fn neighbours_that_go_to_slots_go_there_in_one_write() {
    let (layer, control) = layer_with_slots(4, 4);
    let mut ws = workspace();
    let seeds: Vec<u64> = (0..16).map(|i| RAW * (5 * i + 1)).collect();
    let (entries, done) = store_run(&layer, &seeds, &mut ws);
    assert_eq!(done, 0xffff);
    assert_eq!(control.calls().0, 1);
    for (&entry, &seed) in entries.iter().zip(&seeds) {
        assert!(matches!(layer.hint(entry), Backing::Slot(_)));
        assert_eq!(load_page(&layer, entry, &mut ws), page(seed));
    }
    assert_lawful(&layer);
}

#[test]
fn a_run_of_all_sorts_goes_where_each_page_belongs() {
    let (layer, control) = layer_with_slots(4, 1);
    let mut ws = workspace();
    let seeds = [RAW, RAW, SHORT, RAW, RAW, RAW, SHORT, RAW];
    let (entries, done) = store_run(&layer, &seeds, &mut ws);
    assert_eq!((done, control.calls().0), (0xff, 3));
    // 57 slots are left: the device fills up in the middle of the fourth run, and the log takes the rest.
    let many = vec![RAW; 16];
    let more: Vec<_> = (0..4).map(|_| store_run(&layer, &many, &mut ws)).collect();
    assert_eq!(layer.gauges().slot_pages, 63);
    assert_eq!(layer.gauges().swap_out_raw_pages, 7);
    for (entry, seed) in entries.iter().zip(seeds) {
        assert_eq!(load_page(&layer, *entry, &mut ws), page(seed));
    }
    for (entries, done) in more {
        assert_eq!(done, 0xffff);
        for entry in entries {
            assert_eq!(load_page(&layer, entry, &mut ws), page(RAW));
        }
    }
    assert_lawful(&layer);
}

#[test]
fn pages_of_a_run_that_fit_nowhere_stay_in_their_frames() {
    let (layer, control) = layer_with_slots(0, 4);
    let mut ws = workspace();
    control.on_write(0, Fault::Error(vswap_platform::errno::Errno::EIO));
    let (entries, done) = store_run(&layer, &[RAW; 4], &mut ws);
    for (i, &entry) in entries.iter().enumerate() {
        let cached = layer.hint(entry) == Backing::Cached(i as u32);
        assert_eq!(done >> i & 1 == 0, cached);
    }
    assert_lawful(&layer);
}

#[test]
fn a_page_that_others_have_pinned_stays_and_its_neighbours_go() {
    let (layer, _) = layer_with_slots(4, 4);
    let mut ws = workspace();
    let entries: Vec<_> = layer.allocate(4).unwrap().iter().collect();
    for (frame, &entry) in entries.iter().enumerate() {
        assert!(layer.cache(entry, frame as u32));
    }
    let pages: Vec<u8> = (0..4).flat_map(|_| page(RAW)).collect();
    let pin = layer.pin(entries[2]).unwrap();
    let done = layer
        .swap_out_run(entries.iter().copied(), &pages, &mut ws)
        .done;
    drop(pin);
    assert_eq!(done, 0b1011);
    assert_eq!(layer.hint(entries[2]), Backing::Cached(2));
    for i in [0, 1, 3] {
        assert_eq!(load_page(&layer, entries[i], &mut ws), page(RAW));
    }
    assert_lawful(&layer);
}
