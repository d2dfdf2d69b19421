//! Pages in plain slots, beside the log.

use super::*;
use crate::{Backing, SwapOut};
use core::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use vswap_store::device::{DeviceKind, DeviceOptions, DeviceState};
use vswap_store::testing::Fault;
use vswap_store::{SEGMENT_BYTES, Step, StoreError, SwapoffError};
use vswap_units::Bytes;

/// A layer with a slots device in memory of so many places of 64 slots.
pub(super) fn layer_with_slots(ram_mib: u32, places: u32) -> (SwapLayer, Control) {
    let layer = layer(ram_mib);
    let control = slots_on(&layer, "a", places, None);
    (layer, control)
}

fn options(name: &str, priority: Option<i32>) -> DeviceOptions {
    DeviceOptions {
        name: name.to_owned(),
        kind: DeviceKind::Slots,
        priority,
    }
}

pub(super) fn slots_on(
    layer: &SwapLayer,
    name: &str,
    places: u32,
    priority: Option<i32>,
) -> Control {
    let device = FaultyDevice::new(places);
    let control = device.control();
    let slots = layer.store().slots();
    slots
        .attach(Box::new(device), options(name, priority))
        .unwrap();
    control
}

fn ram(layer: &SwapLayer) -> Bytes {
    Bytes(u64::from(layer.store().ram_limit()) * SEGMENT_BYTES as u64)
}

/// Takes a slots device off in one go; gives up after `most` steps.
pub(super) fn take_off(
    layer: &SwapLayer,
    number: u8,
    most: usize,
) -> Result<(u64, u32), SwapoffError> {
    let (mut buffer, mut ws) = (vec![0; PAGE_SIZE], workspace());
    let mut off = layer.slots_off_begin(number, ram(layer))?;
    for _ in 0..most {
        match layer.slots_off_step(&mut off, &mut buffer, &mut ws, &mut || true) {
            Ok(Step::Empty) => {
                let done = (off.visited(), off.progress().moved);
                layer.slots_off_end(off).close();
                return Ok(done);
            }
            Ok(Step::Moved) => {}
            Ok(Step::Waiting) => thread::yield_now(),
            Err(error) => {
                layer.slots_off_cancel(&off);
                return Err(error);
            }
        }
    }
    layer.slots_off_cancel(&off);
    Err(SwapoffError::Cancelled)
}

/// Seeds of pages that do not compress, and of some that do.
pub(super) const RAW: u64 = 7;
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

pub(super) fn fill(layer: &SwapLayer, pages: u64, ws: &mut Workspace) -> Vec<(EntryId, u64)> {
    (0..pages)
        .map(|i| (store_as(layer, RAW * (5 * i + 1), ws).0, i))
        .collect()
}

pub(super) fn verify(layer: &SwapLayer, entries: &[(EntryId, u64)], ws: &mut Workspace) {
    for &(entry, i) in entries {
        assert_eq!(load_page(layer, entry, ws), page(RAW * (5 * i + 1)));
    }
    assert_lawful(layer);
}

#[test]
fn a_slots_device_taken_off_is_gone_and_entries_keep_their_bytes() {
    let (layer, _) = layer_with_slots(16, 16);
    let mut ws = workspace();
    let entries = fill(&layer, 600, &mut ws);
    layer.duplicate(entries[3].0).unwrap();
    let (visited, moved) = take_off(&layer, 0, usize::MAX).unwrap();
    assert_eq!(moved, 600);
    assert!(visited >= 600);
    assert!(layer.store().devices().is_empty());
    assert!(!layer.store().slots().is_open());
    assert_eq!(layer.store().slots().bytes(), 0);
    for (entry, _) in &entries {
        assert!(matches!(layer.hint(*entry), Backing::Stored(_)));
    }
    verify(&layer, &entries, &mut ws);
}

#[test]
fn a_number_is_used_again_for_another_slots_device() {
    let (layer, _) = layer_with_slots(16, 4);
    let mut ws = workspace();
    let first = fill(&layer, 100, &mut ws);
    take_off(&layer, 0, usize::MAX).unwrap();
    slots_on(&layer, "b", 4, None);
    let second = fill(&layer, 100, &mut ws);
    let names: Vec<_> = layer.store().devices();
    assert_eq!((names[0].name.as_str(), names[0].number), ("b", 0));
    assert_eq!(layer.store().slots().held_on(0), 100);
    verify(&layer, &first, &mut ws);
    verify(&layer, &second, &mut ws);
}

#[test]
fn pages_of_one_slots_device_go_to_the_other() {
    let (layer, _) = layer_with_slots(16, 16);
    let mut ws = workspace();
    let entries = fill(&layer, 300, &mut ws);
    slots_on(&layer, "b", 16, None);
    take_off(&layer, 0, usize::MAX).unwrap();
    assert_eq!(layer.store().slots().held_on(1), 300);
    verify(&layer, &entries, &mut ws);
}

#[test]
fn the_slots_device_of_the_highest_priority_is_filled_first() {
    let layer = layer(16);
    slots_on(&layer, "none", 4, None);
    slots_on(&layer, "low", 4, Some(1));
    slots_on(&layer, "high", 1, Some(9));
    let mut ws = workspace();
    let entries = fill(&layer, 100, &mut ws);
    let told = layer.store().devices();
    let told: Vec<_> = told
        .iter()
        .map(|info| (info.name.as_str(), info.used.0 >> 12, info.kind))
        .collect();
    let kind = DeviceKind::Slots;
    assert_eq!(
        told,
        [("high", 63, kind), ("low", 37, kind), ("none", 0, kind)]
    );
    verify(&layer, &entries, &mut ws);
}

#[test]
fn what_fits_nowhere_is_refused_before_a_page_is_touched() {
    let (layer, control) = layer_with_slots(3, 16);
    let mut ws = workspace();
    let entries = fill(&layer, 1000, &mut ws);
    let calls = control.calls();
    let refused = take_off(&layer, 0, usize::MAX).unwrap_err();
    // 12 segments of 63 pages are room for 756.
    let excess = Bytes((1000 - 12 * 63) * PAGE_SIZE as u64);
    assert_eq!(refused, SwapoffError::DoesNotFit { excess });
    assert_eq!(control.calls(), calls);
    assert_eq!(layer.store().devices()[0].state, DeviceState::On);
    assert_eq!(layer.store().slots().held_on(0), 1000);
    verify(&layer, &entries, &mut ws);
}

#[test]
fn taking_off_that_is_given_up_or_fails_loses_nothing() {
    let (layer, control) = layer_with_slots(16, 16);
    let mut ws = workspace();
    let entries = fill(&layer, 500, &mut ws);
    assert_eq!(take_off(&layer, 0, 3), Err(SwapoffError::Cancelled));
    assert!(layer.store().slots().is_open());
    let left = layer.store().slots().held_on(0);
    assert!(left > 0 && left < 500);
    verify(&layer, &entries, &mut ws);
    control.on_read(7, Fault::Error(vswap_platform::errno::Errno::EIO));
    assert!(matches!(
        take_off(&layer, 0, usize::MAX),
        Err(SwapoffError::Store(StoreError::Io(_)))
    ));
    assert!(layer.store().slots().is_open());
    assert_eq!(take_off(&layer, 5, 1), Err(SwapoffError::NotOn));
    let off = layer.slots_off_begin(0, ram(&layer)).unwrap();
    assert_eq!(take_off(&layer, 0, 1), Err(SwapoffError::Draining));
    layer.slots_off_cancel(&off);
    verify(&layer, &entries, &mut ws);
    take_off(&layer, 0, usize::MAX).unwrap();
    verify(&layer, &entries, &mut ws);
}

#[test]
fn a_page_stays_in_its_slot_while_ram_has_no_room() {
    let (layer, _) = layer_with_slots(16, 16);
    let mut ws = workspace();
    let entries = fill(&layer, 20, &mut ws);
    let mut buffer = vec![0; PAGE_SIZE];
    let mut off = layer.slots_off_begin(0, ram(&layer)).unwrap();
    let step = layer.slots_off_step(&mut off, &mut buffer, &mut ws, &mut || false);
    assert!(matches!(step, Err(SwapoffError::Store(StoreError::NoRoom))));
    assert_eq!((off.progress().moved, off.progress().total), (0, 20));
    let step = layer.slots_off_step(&mut off, &mut buffer, &mut ws, &mut || true);
    assert!(matches!(step, Ok(Step::Moved)));
    layer.slots_off_cancel(&off);
    verify(&layer, &entries, &mut ws);
}

#[test]
fn equal_pages_that_leave_their_slots_come_to_share_one_object() {
    let (layer, _) = layer_with_slots(16, 16);
    let print = vswap_store::dedup::fingerprint;
    let layer = super::dedup::sharing(layer, crate::Dedup::Group, print);
    let mut ws = workspace();
    let mut entries = fill(&layer, 50, &mut ws);
    entries.extend(fill(&layer, 50, &mut ws));
    assert_eq!(layer.store().slots().held_on(0), 100);
    take_off(&layer, 0, usize::MAX).unwrap();
    assert_eq!(layer.gauges().shared_pages, 100);
    verify(&layer, &entries, &mut ws);
    for (entry, _) in entries {
        layer.free(&[entry]);
    }
    assert_lawful(&layer);
}

#[test]
fn slots_devices_come_and_go_under_threads() {
    let (layer, _) = layer_with_slots(24, 16);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..3_u64 {
            let (layer, done) = (&layer, &done);
            scope.spawn(move || {
                let mut ws = workspace();
                let mut held: Vec<(EntryId, u64)> = Vec::new();
                let mut seed = worker * 1000;
                while !done.load(Ordering::Relaxed) {
                    seed += 1;
                    held.push((store_as(layer, RAW * (5 * seed + 1), &mut ws).0, seed));
                    if held.len() > 200 {
                        let (entry, i) = held.swap_remove((seed as usize * 7) % held.len());
                        assert_eq!(load_page(layer, entry, &mut ws), page(RAW * (5 * i + 1)));
                        layer.free(&[entry]);
                    }
                }
                for (entry, i) in held {
                    assert_eq!(load_page(layer, entry, &mut ws), page(RAW * (5 * i + 1)));
                    layer.free(&[entry]);
                }
            });
        }
        for round in 0..12_u8 {
            let (here, next) = (round % 2, (round + 1) % 2);
            // At rest one device is on, so the new one gets the other number.
            slots_on(&layer, "next", 16, None);
            take_off(&layer, here, usize::MAX).unwrap();
            assert_eq!(layer.store().devices()[0].number, next);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(layer.store().slots().bytes(), 0);
    assert_lawful(&layer);
}

#[test]
fn a_fork_in_the_middle_leaves_the_child_with_the_device_on() {
    let (layer, _) = layer_with_slots(16, 16);
    let mut ws = workspace();
    let entries = fill(&layer, 100, &mut ws);
    let mut buffer = vec![0; PAGE_SIZE];
    let mut off = layer.slots_off_begin(0, ram(&layer)).unwrap();
    let step = layer.slots_off_step(&mut off, &mut buffer, &mut ws, &mut || true);
    assert!(matches!(step, Ok(Step::Moved)));
    layer.fork_prepare();
    layer.fork_child();
    assert_eq!(layer.store().devices()[0].state, DeviceState::On);
    verify(&layer, &entries, &mut ws);
    take_off(&layer, 0, usize::MAX).unwrap();
    verify(&layer, &entries, &mut ws);
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
fn a_group_uses_the_slots_devices_that_are_not_forbidden_to_it() {
    let (layer, _) = layer_with_slots(16, 4);
    slots_on(&layer, "b", 4, None);
    let mut ws = workspace();
    let groups = layer.store().groups();
    let group = groups.create(vswap_store::GroupId::ROOT).unwrap();
    groups.set_all_rules(group, true, 0, 0b01);
    let entries: Vec<_> = layer.allocate_for(group, 8).unwrap().iter().collect();
    for (i, &entry) in entries.iter().enumerate() {
        let bytes = page(RAW * (5 * i as u64 + 1));
        let out = layer.pin(entry).unwrap().swap_out(&bytes, &mut ws);
        assert_eq!(out, Ok(SwapOut::Slot));
    }
    assert_eq!(layer.store().slots().held_on(1), 8);
    let entries: Vec<_> = entries.into_iter().zip(0..).collect();
    verify(&layer, &entries, &mut ws);
    // "a" has room, but not for these; with RAM they have some elsewhere.
    let nothing = layer.slots_off_begin(1, Bytes(0)).map(drop);
    let excess = Bytes(8 * PAGE_SIZE as u64);
    assert_eq!(nothing, Err(SwapoffError::DoesNotFit { excess }));
    take_off(&layer, 1, usize::MAX).unwrap();
    assert_eq!(layer.store().slots().held_on(0), 0);
    verify(&layer, &entries, &mut ws);
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
