//! Groups: who pays, and what a limit stops.

use vswap_units::Bytes;

use super::directory::{Directory, store_on, write_all_back};
use crate::testing::{FaultyDevice, Numbers};
use crate::{
    CodecKind, GroupId, InUse, MAX_DEPTH, MAX_GROUPS, Resource, SEGMENT_BYTES, Store, StoreError,
    StoreOptions, Workspace,
};

const SEGMENT: u64 = SEGMENT_BYTES as u64;

fn workspace() -> Workspace {
    Workspace::new(CodecKind::Lz4).unwrap()
}

fn ram_only(segments: u32) -> Store {
    Store::new(StoreOptions::new(segments, 0)).unwrap()
}

fn child(store: &Store, parent: GroupId) -> GroupId {
    store.groups().create(parent).unwrap()
}

/// Stores pages of noise for owners `from..to`; returns how many found room.
fn fill(
    store: &Store,
    owners: &Directory,
    group: GroupId,
    range: core::ops::Range<u64>,
    ws: &mut Workspace,
) -> usize {
    let stored = |owner| owners.store_for(group, store, owner, owner * 8, ws).is_ok();
    range.map(stored).filter(|&stored| stored).count()
}

#[test]
fn each_group_pays_for_its_own_segments_and_its_parent_for_all() {
    let (store, owners, mut ws) = (
        store_on(64, FaultyDevice::new(64)),
        Directory::new(1000),
        workspace(),
    );
    let web = child(&store, GroupId::ROOT);
    let cache = child(&store, web);
    fill(&store, &owners, GroupId::ROOT, 0..200, &mut ws);
    fill(&store, &owners, web, 200..400, &mut ws);
    fill(&store, &owners, cache, 400..800, &mut ws);
    let (all, of_web, of_cache) = (
        store.groups().usage(GroupId::ROOT),
        store.groups().usage(web),
        store.groups().usage(cache),
    );
    assert_eq!((of_cache.own_ram, of_cache.ram), (7, 7));
    assert_eq!((of_web.own_ram, of_web.ram), (4, 11));
    assert_eq!((all.own_ram, all.ram), (4, 15));
    owners.check(&store, &mut ws);
    store
        .writeback_group(cache, Bytes(3 * SEGMENT), true)
        .unwrap();
    let (of_web, of_cache) = (store.groups().usage(web), store.groups().usage(cache));
    assert_eq!((of_cache.ram, of_cache.device), (4, 3));
    assert_eq!((of_web.ram, of_web.device), (8, 3));
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}

#[test]
fn a_drain_passes_over_open_segments_without_anything_alive() {
    let (store, owners) = (store_on(64, FaultyDevice::new(64)), Directory::new(100));
    let mut lanes = [workspace(), workspace()];
    assert_eq!(fill(&store, &owners, GroupId::ROOT, 0..5, &mut lanes[0]), 5);
    assert_eq!(
        fill(&store, &owners, GroupId::ROOT, 5..20, &mut lanes[1]),
        15
    );
    assert_eq!(store.groups().usage(GroupId::ROOT).ram, 2);
    (5..20).for_each(|owner| owners.free(&store, owner));
    let freed = store.writeback_group(GroupId::ROOT, Bytes(0), true);
    assert_eq!(freed, Ok(Some(Bytes(SEGMENT))));
    let usage = store.groups().usage(GroupId::ROOT);
    assert_eq!((usage.ram, usage.device), (0, 1));
    owners.verify_all(&store, &mut lanes[0]);
    owners.check(&store, &mut lanes[0]);
}

#[test]
fn a_limit_of_ram_stops_its_group_and_nobody_else() {
    let (store, owners, mut ws) = (ram_only(64), Directory::new(1000), workspace());
    let (tight, free) = (child(&store, GroupId::ROOT), child(&store, GroupId::ROOT));
    let groups = store.groups();
    groups.set_limit(tight, Resource::Ram, Some(2)).unwrap();
    assert_eq!(fill(&store, &owners, tight, 0..300, &mut ws), 126);
    assert_eq!(fill(&store, &owners, free, 300..600, &mut ws), 300);
    let held = groups.usage(tight);
    assert_eq!(
        (held.ram, held.ram_max_events, held.fail_events),
        (2, 174, 174)
    );
    assert_eq!(groups.limiting(tight, Resource::Ram), Some(tight));
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}

#[test]
fn a_limit_of_the_parent_binds_its_children_together() {
    let (store, owners, mut ws) = (ram_only(64), Directory::new(1000), workspace());
    let top = child(&store, GroupId::ROOT);
    let (a, b) = (child(&store, top), child(&store, top));
    store
        .groups()
        .set_limit(top, Resource::Ram, Some(3))
        .unwrap();
    assert_eq!(fill(&store, &owners, a, 0..120, &mut ws), 120);
    assert_eq!(fill(&store, &owners, b, 200..400, &mut ws), 63);
    assert_eq!(store.groups().usage(top).ram, 3);
    assert_eq!(store.groups().usage(top).ram_max_events, 137);
    assert_eq!(store.groups().usage(b).fail_events, 137);
    assert_eq!(store.groups().limiting(b, Resource::Ram), Some(top));
    owners.check(&store, &mut ws);
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_and_changes_nothing() {
    let (store, owners, mut ws) = (ram_only(64), Directory::new(400), workspace());
    let group = child(&store, GroupId::ROOT);
    fill(&store, &owners, group, 0..300, &mut ws);
    let groups = store.groups();
    groups.set_limit(group, Resource::Ram, Some(9)).unwrap();
    let refused = groups.set_limit(group, Resource::Ram, Some(2));
    assert_eq!(refused, Err(InUse(5)));
    assert_eq!(groups.limit(group, Resource::Ram), Some(9));
    groups.set_limit(group, Resource::Ram, Some(5)).unwrap();
    groups.set_limit(group, Resource::Ram, None).unwrap();
    assert_eq!(groups.limit(group, Resource::Ram), None);
}

#[test]
fn a_group_that_may_not_write_back_is_passed_by_its_children_too() {
    let (store, owners, mut ws) = (
        store_on(64, FaultyDevice::new(64)),
        Directory::new(1000),
        workspace(),
    );
    let private = child(&store, GroupId::ROOT);
    let below = child(&store, private);
    store.groups().set_rules(private, false, 0);
    fill(&store, &owners, private, 0..100, &mut ws);
    fill(&store, &owners, below, 100..200, &mut ws);
    fill(&store, &owners, GroupId::ROOT, 200..300, &mut ws);
    write_all_back(&store);
    let all = store.groups().usage(GroupId::ROOT);
    assert_eq!((all.ram, all.device), (4, 2));
    assert_eq!(store.groups().usage(private).device, 0);
    assert_eq!(store.writeback_group(private, Bytes(0), true), Ok(None));
    assert!(!store.can_write_back_for(below));
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}

#[test]
fn a_full_share_of_the_device_stops_one_group_and_the_others_go_on() {
    let (store, owners, mut ws) = (
        store_on(64, FaultyDevice::new(64)),
        Directory::new(1000),
        workspace(),
    );
    let group = child(&store, GroupId::ROOT);
    store
        .groups()
        .set_limit(group, Resource::Device, Some(1))
        .unwrap();
    fill(&store, &owners, group, 0..300, &mut ws);
    fill(&store, &owners, GroupId::ROOT, 300..600, &mut ws);
    store.seal_all();
    while let Ok(Some(_)) = store.writeback_oldest(Bytes(SEGMENT)) {}
    let (all, of_group) = (
        store.groups().usage(GroupId::ROOT),
        store.groups().usage(group),
    );
    assert_eq!((of_group.device, of_group.ram), (1, 4));
    assert_eq!((all.own_device, all.own_ram), (5, 0));
    assert!(of_group.device_max_events > 0);
    assert_eq!(
        store.writeback_group(group, Bytes(0), true),
        Err(StoreError::Full)
    );
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}

#[test]
fn a_group_uses_only_the_devices_it_is_allowed() {
    let mut store = Store::new(StoreOptions::new(64, 128)).unwrap();
    store.attach(Box::new(FaultyDevice::new(64))).unwrap();
    let allowed = FaultyDevice::new(2);
    let control = allowed.control();
    store.attach(Box::new(allowed)).unwrap();
    let (owners, mut ws) = (Directory::new(400), workspace());
    let group = child(&store, GroupId::ROOT);
    store.groups().set_rules(group, true, 0b01);
    fill(&store, &owners, group, 0..300, &mut ws);
    store.seal_all();
    assert_eq!(
        store.writeback_oldest(Bytes(SEGMENT * 2)),
        Ok(Some(Bytes(SEGMENT * 2)))
    );
    assert_eq!(
        store.writeback_oldest(Bytes(SEGMENT)),
        Err(StoreError::Full)
    );
    assert_eq!(control.calls().0, 2);
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}

#[test]
fn the_cleaner_keeps_groups_apart_and_works_for_one_at_its_limit() {
    let (store, owners, mut ws) = (ram_only(256), Directory::new(4000), workspace());
    let group = child(&store, GroupId::ROOT);
    store
        .groups()
        .set_limit(group, Resource::Ram, Some(5))
        .unwrap();
    // So much of the others is alive that all together need no cleaning.
    fill(&store, &owners, GroupId::ROOT, 1000..4000, &mut ws);
    assert_eq!(fill(&store, &owners, group, 0..400, &mut ws), 315);
    (0..315)
        .filter(|owner| owner % 3 != 0)
        .for_each(|owner| owners.free(&store, owner));
    while store.clean(&owners, &mut ws).segments > 0 {
        assert!(store.groups().usage(group).ram <= 6);
    }
    assert!(
        store.groups().usage(group).ram <= 3,
        "{:?}",
        store.groups().usage(group)
    );
    assert_eq!(fill(&store, &owners, group, 400..520, &mut ws), 120);
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}

#[test]
fn small_holes_are_gathered_for_a_group_at_its_limit_that_no_device_can_relieve() {
    let (store, owners, mut ws) = (ram_only(256), Directory::new(3000), workspace());
    let group = child(&store, GroupId::ROOT);
    let limit = |most| store.groups().set_limit(group, Resource::Ram, most);
    limit(Some(20)).unwrap();
    let held = fill(&store, &owners, group, 0..2000, &mut ws) as u64;
    (0..held)
        .step_by(10)
        .for_each(|owner| owners.free(&store, owner));
    limit(None).unwrap();
    let without = store.clean(&owners, &mut ws);
    assert_eq!(without.segments, 0, "nine tenths live: far from a limit");
    limit(Some(20)).unwrap();
    while store.clean(&owners, &mut ws).segments > 0 {
        assert!(store.groups().usage(group).ram <= 21);
    }
    assert!(store.groups().usage(group).ram < 20);
    assert!(fill(&store, &owners, group, 2000..2060, &mut ws) >= 60);
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}

#[test]
fn what_an_ended_group_still_pays_for_is_its_parents() {
    let (store, owners, mut ws) = (
        store_on(64, FaultyDevice::new(64)),
        Directory::new(400),
        workspace(),
    );
    let top = child(&store, GroupId::ROOT);
    let group = child(&store, top);
    fill(&store, &owners, group, 0..300, &mut ws);
    store.writeback_group(group, Bytes(SEGMENT), true).unwrap();
    assert!(!store.end_group(top) && !store.end_group(GroupId::ROOT));
    assert!(store.end_group(group) && !store.end_group(group));
    let held = store.groups().usage(top);
    assert_eq!((held.own_ram, held.own_device), (4, 1));
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
    // Its number is used again, and begins with nothing.
    assert_eq!(child(&store, GroupId::ROOT), group);
    assert_eq!(store.groups().usage(group), Default::default());
    owners.check(&store, &mut ws);
    assert_eq!(owners.store_for(group, &store, 300, 8, &mut ws), Ok(()));
    assert!(!store.groups().is_within(group, top));
}

#[test]
fn an_ended_group_without_owners_gives_everything_back() {
    let (store, owners, mut ws) = (
        store_on(64, FaultyDevice::new(64)),
        Directory::new(400),
        workspace(),
    );
    let group = child(&store, GroupId::ROOT);
    fill(&store, &owners, group, 0..300, &mut ws);
    store
        .writeback_group(group, Bytes(2 * SEGMENT), true)
        .unwrap();
    (0..300).for_each(|owner| owners.free(&store, owner));
    assert!(store.end_group(group));
    store.give_back_places(usize::MAX);
    let left = store.groups().usage(GroupId::ROOT);
    assert_eq!((left.ram, left.device), (0, 0));
    assert_eq!(store.device_bytes(), Bytes(0));
    owners.check(&store, &mut ws);
}

#[test]
fn groups_are_so_many_and_so_deep_and_no_more() {
    let store = ram_only(4);
    let mut at = GroupId::ROOT;
    for _ in 0..MAX_DEPTH {
        at = child(&store, at);
    }
    assert_eq!(store.groups().create(at), None);
    for _ in MAX_DEPTH + 1..MAX_GROUPS {
        child(&store, GroupId::ROOT);
    }
    assert_eq!(store.groups().create(GroupId::ROOT), None);
}

#[test]
fn a_forked_child_charges_what_it_has() {
    let (store, owners, mut ws) = (
        store_on(64, FaultyDevice::new(64)),
        Directory::new(600),
        workspace(),
    );
    let group = child(&store, GroupId::ROOT);
    fill(&store, &owners, group, 0..300, &mut ws);
    fill(&store, &owners, GroupId::ROOT, 300..600, &mut ws);
    store.writeback_group(group, Bytes(SEGMENT), true).unwrap();
    store.leave_half_done_for_tests();
    store.fork_prepare();
    store.fork_child();
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}

/// Every law after every step, with limits, ends and all.
#[test]
fn charges_are_right_after_every_step_of_a_random_walk() {
    let (store, owners, mut ws) = (
        store_on(40, FaultyDevice::new(40)),
        Directory::new(500),
        workspace(),
    );
    let mut numbers = Numbers::new(7);
    let mut open = vec![GroupId::ROOT];
    for _ in 0..400 {
        let group = open[numbers.below(open.len() as u64) as usize];
        match numbers.below(8) {
            0 if open.len() < 12 => open.extend(store.groups().create(group)),
            1 => {
                let ends = store.end_group(group);
                open.retain(|&other| !ends || other != group);
            }
            2 => {
                let what = [Resource::Ram, Resource::Device][numbers.below(2) as usize];
                let limit = Some(numbers.below(12) as u32).filter(|&limit| limit > 2);
                let held = store.groups().usage(group);
                let use_now = [held.ram, held.device][what as usize];
                let set = store.groups().set_limit(group, what, limit);
                assert_eq!(set.is_err(), limit.is_some_and(|limit| use_now > limit));
            }
            3 => store.groups().set_rules(group, numbers.below(3) > 0, 0),
            4 => drop(store.writeback_group(group, Bytes(numbers.below(4) * SEGMENT), true)),
            5 => drop(store.clean(&owners, &mut ws)),
            6 => (0..40).for_each(|_| owners.free(&store, numbers.below(500))),
            _ => (0..40).for_each(|_| {
                let owner = numbers.below(500);
                let _ = owners.store_for(group, &store, owner, numbers.next() >> 8, &mut ws);
            }),
        }
        for &group in &open {
            let held = store.groups().usage(group);
            for (what, held) in [(Resource::Ram, held.ram), (Resource::Device, held.device)] {
                let limit = store.groups().limit(group, what);
                assert!(
                    limit.is_none_or(|most| held <= most + 1),
                    "{group:?} {what:?}"
                );
            }
        }
        owners.check(&store, &mut ws);
    }
    owners.verify_all(&store, &mut ws);
}
