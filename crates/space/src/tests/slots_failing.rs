//! Slots devices of which any call fails, each in turn: nothing is lost, nothing is wrong.

use super::slots::{fill, layer_with_slots, slots_on, take_off, verify};
use super::*;
use std::collections::BTreeSet;
use vswap_platform::errno::Errno;
use vswap_store::SwapoffError;
use vswap_store::device::DeviceState;
use vswap_store::testing::{Call, Fault};

const FAULTS: [Fault; 4] = [
    Fault::Error(Errno::EIO),
    Fault::Error(Errno::ENOSPC),
    Fault::Error(Errno::EOPNOTSUPP),
    Fault::Short,
];
const PAGES: u64 = 150;

/// Fills a device, frees, fills it again and takes it off to another one, with one call of it going wrong. Says whether it
/// came to that call, and how the taking off ended.
fn fail_at(call: Call, nth: u64, fault: Fault) -> (bool, Result<(), SwapoffError>) {
    let (layer, control) = layer_with_slots(16, 16);
    let other = slots_on(&layer, "b", 16, None);
    let mut ws = workspace();
    control.on(call, nth, fault);
    let entries = fill(&layer, PAGES, &mut ws);
    for (entry, _) in &entries {
        layer.free(&[*entry]);
    }
    assert_lawful(&layer);
    assert_eq!(layer.store().slots().bytes(), 0);
    let entries = fill(&layer, PAGES, &mut ws);
    let held = layer.store().slots().held_on(0) + layer.store().slots().held_on(1);
    let stored = layer.gauges().stored_pages;
    assert_eq!(held + stored, PAGES);
    let ended = take_off(&layer, 0, usize::MAX);
    if ended.is_err() {
        let devices = layer.store().devices();
        let state = devices.iter().find(|it| it.name == "a").unwrap().state;
        assert_eq!(state, DeviceState::On);
        control.heal();
        verify(&layer, &entries, &mut ws);
        take_off(&layer, 0, usize::MAX).unwrap();
    }
    verify(&layer, &entries, &mut ws);
    assert!(control.kept_places() <= 1);
    assert!(other.stored_places() > 0);
    (control.count(call) > nth, ended.map(drop))
}

/// Every call of a kind with every fault; the ends that there were.
fn every(call: Call, at_least: usize) -> BTreeSet<String> {
    let mut ends = BTreeSet::new();
    for fault in FAULTS {
        let mut met = 0;
        for nth in 0.. {
            let (came, ended) = fail_at(call, nth, fault);
            if !came {
                break;
            }
            ends.insert(format!("{ended:?}"));
            met += 1;
        }
        assert!(met >= at_least, "{met} of {call:?}");
    }
    ends
}

#[test]
fn every_write_to_a_slots_device_may_fail() {
    // What did not go there went elsewhere, and nothing of it was left to take off.
    assert_eq!(every(Call::Write, 150).len(), 1);
}

#[test]
fn every_read_of_a_slots_device_may_fail() {
    let ends = every(Call::Read, 150);
    assert!(ends.len() > 2, "{ends:?}");
    assert!(ends.iter().all(|end| end.contains("Io")), "{ends:?}");
}

#[test]
fn every_discard_of_a_place_of_slots_may_fail() {
    assert_eq!(every(Call::Discard, 4).len(), 1);
}
