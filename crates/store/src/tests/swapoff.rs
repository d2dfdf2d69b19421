//! Devices that come and go while everything runs.

use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use vswap_platform::errno::Errno;
use vswap_units::Bytes;

use super::directory::{Directory, write_all_back};
use super::stress::{cleaner, worker, writer};
use crate::device::{DeviceInfo, DeviceOptions, DeviceState};
use crate::testing::{Control, Fault, FaultyDevice};
use crate::{
    CodecKind, Progress, SEGMENT_BYTES, Store, StoreError, StoreOptions, SwapoffError, Workspace,
};

const SEGMENT: u64 = SEGMENT_BYTES as u64;
const PAGES: u64 = 3000;

fn on(store: &Store, name: &str, places: u32, priority: Option<i32>) -> Control {
    let device = FaultyDevice::new(places);
    let control = device.control();
    let options = DeviceOptions {
        name: name.to_owned(),
        priority,
        ..DeviceOptions::default()
    };
    store.swapon(Box::new(device), options).unwrap();
    control
}

fn info(store: &Store, name: &str) -> DeviceInfo {
    let all = store.devices();
    all.into_iter().find(|info| info.name == name).unwrap()
}

fn used(store: &Store, name: &str) -> u64 {
    info(store, name).used.0 / SEGMENT
}

fn names(store: &Store) -> Vec<String> {
    store.devices().into_iter().map(|info| info.name).collect()
}

/// Pages that take about 22 segments, all still in RAM.
fn filled(ram_segments: u32) -> (Store, Directory, Workspace) {
    let store = Store::new(StoreOptions::new(ram_segments, 1000)).unwrap();
    let (owners, mut ws) = (
        Directory::new(PAGES as usize),
        Workspace::new(CodecKind::Lz4).unwrap(),
    );
    for owner in 0..PAGES {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    store.seal_all();
    (store, owners, ws)
}

/// The same, all on device "a".
fn written(ram_segments: u32) -> (Store, Directory, Workspace, Control) {
    let (store, owners, ws) = filled(64);
    let control = on(&store, "a", 100, None);
    write_all_back(&store);
    store.set_ram_limit(ram_segments);
    (store, owners, ws, control)
}

fn all_is_well(store: &Store, owners: &Directory, ws: &mut Workspace) {
    store.give_back_places(usize::MAX);
    owners.verify_all(store, ws);
    owners.check(store, ws);
}

#[test]
fn the_highest_priority_is_filled_first_and_spills_to_the_next() {
    let (store, owners, mut ws) = filled(64);
    on(&store, "low", 100, Some(1));
    on(&store, "high", 5, Some(9));
    on(&store, "none", 100, None);
    write_all_back(&store);
    assert_eq!(used(&store, "high"), 5);
    assert!(used(&store, "low") > 5);
    assert_eq!(used(&store, "none"), 0);
    assert_eq!(names(&store), ["high", "low", "none"]);
    all_is_well(&store, &owners, &mut ws);
}

#[test]
fn equal_devices_are_written_in_turn() {
    let (store, owners, mut ws) = filled(64);
    on(&store, "a", 100, Some(3));
    on(&store, "b", 100, Some(3));
    write_all_back(&store);
    assert!(used(&store, "a").abs_diff(used(&store, "b")) <= 1);
    all_is_well(&store, &owners, &mut ws);
}

#[test]
fn without_a_priority_the_first_attached_comes_first() {
    let (store, ..) = filled(64);
    on(&store, "first", 4, None);
    on(&store, "second", 4, None);
    on(&store, "given", 4, Some(0));
    assert_eq!(names(&store), ["given", "first", "second"]);
}

#[test]
fn writes_into_an_empty_device_are_sequential() {
    let (store, _owners, _ws, _control) = written(64);
    let info = info(&store, "a");
    assert_eq!(info.writes - 1, info.sequential_writes);
    assert_eq!(info.writes * SEGMENT, info.used.0);
    assert!(info.written.0 <= info.used.0);
}

#[test]
fn a_device_taken_off_leaves_its_pages_in_ram() {
    let (store, owners, mut ws, _control) = written(64);
    let total = used(&store, "a");
    let mut told = Vec::new();
    let done = store.swapoff("a", Bytes::gib(1), &mut |progress| {
        told.push(progress.moved);
        true
    });
    let total = u32::try_from(total).unwrap();
    assert_eq!(
        done,
        Ok(Progress {
            moved: total,
            total
        })
    );
    assert_eq!(told, (1..=total).collect::<Vec<_>>());
    assert!(store.devices().is_empty() && !store.can_write_back());
    assert_eq!(
        (store.device_bytes(), store.device_capacity()),
        (Bytes(0), Bytes(0))
    );
    all_is_well(&store, &owners, &mut ws);
}

#[test]
fn a_device_taken_off_leaves_its_pages_on_the_others() {
    let (store, owners, mut ws, _control) = written(2);
    on(&store, "b", 10, None);
    on(&store, "c", 100, None);
    let total = used(&store, "a");
    store.swapoff("a", Bytes(0), &mut |_| true).unwrap();
    assert_eq!(used(&store, "b"), 10);
    assert_eq!(used(&store, "b") + used(&store, "c"), total);
    assert_eq!(names(&store), ["b", "c"]);
    assert_eq!(store.usage().ram_segments, 0);
    all_is_well(&store, &owners, &mut ws);
}

#[test]
fn a_slot_is_used_again() {
    let (store, owners, mut ws) = filled(64);
    for round in 0..100 {
        let name = format!("round {round}");
        on(&store, &name, 100, None);
        write_all_back(&store);
        assert!(used(&store, &name) > 10);
        store.swapoff(&name, Bytes::gib(1), &mut |_| true).unwrap();
    }
    all_is_well(&store, &owners, &mut ws);
}

#[test]
fn more_devices_than_slots_are_refused() {
    let (store, ..) = filled(64);
    for n in 0..16 {
        on(&store, &n.to_string(), 4, None);
    }
    let more = store.swapon(Box::new(FaultyDevice::new(4)), DeviceOptions::default());
    assert_eq!(more, Err(Errno::ENOSPC));
    store.swapoff("7", Bytes(0), &mut |_| true).unwrap();
    on(&store, "again", 4, None);
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_touched() {
    let (store, owners, mut ws, control) = written(4);
    on(&store, "b", 3, None);
    let total = used(&store, "a");
    let before = (control.calls(), store.devices());
    for (ram, room) in [(0, 3), (2, 5), (100, 7)] {
        // Two 256ths of a segment of RAM are no segment; four slots are the limit.
        let refused = store.swapoff("a", Bytes(ram * SEGMENT + 2), &mut |_| panic!("moved"));
        let excess = Bytes((total - room) * SEGMENT);
        assert_eq!(refused, Err(SwapoffError::DoesNotFit { excess }));
    }
    assert_eq!(before, (control.calls(), store.devices()));
    all_is_well(&store, &owners, &mut ws);
}

#[test]
fn segments_full_of_holes_need_no_more_ram_than_what_is_alive_in_them() {
    let (store, owners, mut ws, _) = written(64);
    let total = used(&store, "a");
    (0..PAGES)
        .filter(|owner| owner % 5 != 0)
        .for_each(|owner| owners.free(&store, owner));
    assert_eq!(used(&store, "a"), total);
    let refused = store.swapoff("a", Bytes(total / 8 * SEGMENT), &mut |_| panic!("moved"));
    assert!(matches!(refused, Err(SwapoffError::DoesNotFit { .. })));
    store
        .swapoff("a", Bytes((total / 3 + 1) * SEGMENT), &mut |_| true)
        .unwrap();
    all_is_well(&store, &owners, &mut ws);
}

#[test]
fn what_is_not_on_cannot_be_taken_off() {
    let (store, ..) = filled(64);
    assert_eq!(
        store.swapoff("x", Bytes(0), &mut |_| true),
        Err(SwapoffError::NotOn)
    );
}

#[test]
fn given_up_halfway_the_device_is_on_again() {
    let (store, owners, mut ws, _control) = written(64);
    on(&store, "b", 5, None);
    let total = used(&store, "a");
    let given_up = store.swapoff("a", Bytes::gib(1), &mut |progress| progress.moved < 8);
    assert_eq!(given_up, Err(SwapoffError::Cancelled));
    assert_eq!(info(&store, "a").state, DeviceState::On);
    assert_eq!((used(&store, "a"), used(&store, "b")), (total - 8, 5));
    all_is_well(&store, &owners, &mut ws);
    write_all_back(&store);
    assert_eq!(used(&store, "a"), total - 5);
    all_is_well(&store, &owners, &mut ws);
}

#[test]
fn dead_segments_are_not_moved() {
    let (store, owners, mut ws, control) = written(64);
    for owner in 0..PAGES {
        owners.free(&store, owner);
    }
    let reads = control.calls().1;
    let done = store.swapoff("a", Bytes(0), &mut |_| true).unwrap();
    assert_eq!((done.moved, done.total), (0, 0));
    assert_eq!(control.calls().1, reads);
    all_is_well(&store, &owners, &mut ws);
}

#[test]
fn a_device_closed_by_an_error_can_be_taken_off() {
    let (store, owners, mut ws) = filled(64);
    let control = on(&store, "a", 100, None);
    control.on_write(9, Fault::Error(Errno::EIO));
    while store
        .writeback_oldest(Bytes(1))
        .is_ok_and(|wrote| wrote.is_some())
    {}
    assert_eq!(info(&store, "a").state, DeviceState::Failed(Errno::EIO));
    assert_eq!(
        (info(&store, "a").errors, store.device_capacity()),
        (1, Bytes(0))
    );
    store.swapoff("a", Bytes::gib(1), &mut |_| true).unwrap();
    all_is_well(&store, &owners, &mut ws);
}

/// Takes "a" off to "b" with one call of each kind going wrong, each in turn.
fn fail_at(call: u64, fault: Fault, where_: &str) -> Result<Progress, SwapoffError> {
    let (store, owners, mut ws, from) = written(2);
    let to = on(&store, "b", 100, None);
    match where_ {
        "read" => from.on_read(call, fault),
        _ => to.on_write(call, fault),
    }
    let done = store.swapoff("a", Bytes(2 * SEGMENT), &mut |_| true);
    if done.is_err() {
        assert_eq!(info(&store, "a").state, DeviceState::On);
        from.heal();
        to.heal();
        all_is_well(&store, &owners, &mut ws);
        // "b" may be closed for writing now; then only a third one helps.
        on(&store, "c", 100, None);
        store.swapoff("a", Bytes(0), &mut |_| true).unwrap();
    }
    assert!(!names(&store).contains(&"a".to_owned()));
    to.heal();
    all_is_well(&store, &owners, &mut ws);
    done
}

#[test]
fn every_read_and_write_may_fail_and_nothing_is_lost() {
    let mut outcomes = BTreeSet::new();
    for call in 0..17 {
        for fault in [Fault::Error(Errno::EIO), Fault::Short, Fault::Corrupt] {
            let read = fail_at(call, fault, "read");
            let legal = match fault {
                // Damage on the way is healed by a second read.
                Fault::Corrupt => read.is_ok(),
                _ => matches!(read, Ok(_) | Err(SwapoffError::Store(StoreError::Io(_)))),
            };
            assert!(legal, "{call} {fault:?} {read:?}");
            outcomes.insert(read.is_ok());
        }
        for fault in [
            Fault::Error(Errno::EIO),
            Fault::Error(Errno::ENOSPC),
            Fault::Error(Errno::EBADF),
            Fault::Short,
        ] {
            let write = fail_at(call, fault, "write");
            // Two segments fit in RAM, so a write that fails once is no end.
            let legal = matches!(
                write,
                Ok(_)
                    | Err(SwapoffError::Store(StoreError::Io(_) | StoreError::Closed))
                    | Err(SwapoffError::Store(StoreError::NoRoom))
            );
            assert!(legal, "{call} {fault:?} {write:?}");
            outcomes.insert(write.is_ok());
        }
    }
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn damage_that_stays_is_never_moved_to_ram() {
    let (store, owners, mut ws) = filled(64);
    let control = on(&store, "a", 100, None);
    control.on_write(3, Fault::Corrupt);
    write_all_back(&store);
    let refused = store.swapoff("a", Bytes::gib(1), &mut |_| true);
    assert!(
        matches!(
            refused,
            Err(SwapoffError::Store(StoreError::Corrupt { .. }))
        ),
        "{refused:?}"
    );
    on(&store, "b", 100, None);
    store.swapoff("a", Bytes(0), &mut |_| true).unwrap();
    let results = (0..PAGES).map(|owner| owners.verify(&store, owner, &mut ws));
    let lost = results.filter(Result::is_err).count();
    assert!((1..=256).contains(&lost), "{lost} of one segment");
}

#[test]
fn a_device_that_is_gone_stays_on_and_says_so() {
    let (store, owners, mut ws, control) = written(64);
    control.set_condition(true, 0);
    let refused = store.swapoff("a", Bytes::gib(1), &mut |_| true);
    assert_eq!(
        refused,
        Err(SwapoffError::Store(StoreError::Io(Errno::ENODEV)))
    );
    assert!(matches!(
        owners.verify(&store, 5, &mut ws),
        Err(StoreError::Io(Errno::ENODEV))
    ));
    control.set_condition(false, 0);
    all_is_well(&store, &owners, &mut ws);
}

#[test]
fn after_a_fork_only_this_processs_places_are_given_up() {
    let (store, owners, mut ws, control) = written(64);
    let total = used(&store, "a");
    store.fork_prepare();
    store.fork_child();
    store.swapoff("a", Bytes::gib(1), &mut |_| true).unwrap();
    // The parent's bits keep every place; nothing was discarded.
    assert_eq!(control.stored_places() as u64, total);
    all_is_well(&store, &owners, &mut ws);
}

#[test]
fn a_child_has_the_device_on_that_its_parent_was_taking_off() {
    let (store, owners, mut ws, _control) = written(64);
    let number = info(&store, "a").number;
    let mut off = store.swapoff_begin(number, Bytes::gib(1)).ok().unwrap();
    store.swapoff_step(&mut off, &mut || true).ok().unwrap();
    assert_eq!(info(&store, "a").state, DeviceState::Draining);
    store.fork_prepare();
    store.fork_child();
    assert_eq!(info(&store, "a").state, DeviceState::On);
    all_is_well(&store, &owners, &mut ws);
}

#[test]
fn a_slow_device_holds_nobody_up_but_who_reads_from_it() {
    let (store, owners, mut ws, control) = written(64);
    on(&store, "b", 100, None);
    control.set_condition(false, 20_000);
    thread::scope(|scope| {
        let off = scope.spawn(|| store.swapoff("a", Bytes(0), &mut |_| true));
        let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
        while !off.is_finished() {
            for owner in 0..50 {
                owners.store(&store, owner, owner + 1, &mut ws).unwrap();
                owners.verify(&store, owner, &mut ws).unwrap();
            }
        }
        off.join().unwrap().unwrap();
    });
    all_is_well(&store, &owners, &mut ws);
}

#[test]
fn nothing_is_lost_while_devices_come_and_go_under_load() {
    let store = Store::new(StoreOptions::new(24, 1000)).unwrap();
    let owners = Directory::new(super::stress::OWNERS as usize);
    let stop = AtomicBool::new(false);
    on(&store, "keep", 60, Some(0));
    let mut rounds = (0, 0);
    thread::scope(|scope| {
        for seed in 1..=4 {
            let (store, owners, stop) = (&store, &owners, &stop);
            scope.spawn(move || worker(store, owners, seed, stop, false));
        }
        scope.spawn(|| writer(&store, &stop));
        scope.spawn(|| cleaner(&store, &owners, &stop));
        let end = std::time::Instant::now() + super::stress::seconds();
        while std::time::Instant::now() < end {
            let name = format!("round {}", rounds.0);
            on(&store, &name, 60, Some(5));
            thread::sleep(Duration::from_millis(30));
            // With the writer at work the room may be gone on the way.
            while let Err(error) = store.swapoff(&name, Bytes::mib(2), &mut |_| true) {
                let legal = matches!(
                    error,
                    SwapoffError::DoesNotFit { .. }
                        | SwapoffError::Store(StoreError::Full | StoreError::NoRoom)
                );
                assert!(legal, "{error:?}");
                rounds.1 += 1;
                thread::sleep(Duration::from_millis(5));
            }
            rounds.0 += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(rounds.0 > 3, "{rounds:?}");
    assert_eq!(names(&store), ["keep"]);
    let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
    all_is_well(&store, &owners, &mut ws);
}

/// Device "a" with segments of a group behind those of the root.
fn with_a_group() -> (Store, Directory, Workspace, crate::GroupId) {
    let (store, owners, mut ws) = filled(64);
    on(&store, "a", 100, None);
    let group = store.groups().create(crate::GroupId::ROOT).unwrap();
    for owner in 0..500 {
        owners.free(&store, owner);
        owners
            .store_for(group, &store, owner, owner, &mut ws)
            .unwrap();
    }
    store.seal_all();
    write_all_back(&store);
    assert!(store.groups().usage(group).own_device > 0);
    (store, owners, ws, group)
}

#[test]
fn what_a_group_may_not_have_elsewhere_fits_nowhere_and_nothing_is_moved() {
    for (writeback, forbidden) in [(true, 0b10), (false, 0)] {
        let (store, owners, mut ws, group) = with_a_group();
        on(&store, "b", 100, None);
        store.groups().set_rules(group, writeback, forbidden);
        let held = u64::from(store.groups().usage(group).own_device);
        let before = used(&store, "a");
        let refused = store.swapoff("a", Bytes(0), &mut |_| true);
        let excess = Bytes(held * SEGMENT);
        assert_eq!(refused, Err(SwapoffError::DoesNotFit { excess }));
        assert_eq!((used(&store, "a"), used(&store, "b")), (before, 0));
        assert_eq!(info(&store, "a").state, DeviceState::On);
        // With RAM for just these they go there.
        store
            .swapoff("a", Bytes(held * SEGMENT), &mut |_| true)
            .unwrap();
        assert_eq!(store.groups().usage(group).own_device, 0);
        all_is_well(&store, &owners, &mut ws);
    }
}

#[test]
fn a_limit_of_compressed_ram_counts_in_what_fits() {
    let (store, owners, mut ws, group) = with_a_group();
    on(&store, "b", 100, None);
    store.groups().set_rules(group, false, 0);
    store
        .groups()
        .set_limit(group, crate::Resource::Ram, Some(1))
        .unwrap();
    let held = u64::from(store.groups().usage(group).own_device);
    let refused = store.swapoff("a", Bytes(64 * SEGMENT), &mut |_| true);
    let excess = Bytes((held - 1) * SEGMENT);
    assert_eq!(refused, Err(SwapoffError::DoesNotFit { excess }));
    all_is_well(&store, &owners, &mut ws);
}

#[test]
fn whoever_may_go_anywhere_leaves_the_room_to_whoever_may_not() {
    let (store, owners, mut ws, group) = with_a_group();
    let held = store.groups().usage(group).own_device;
    let others = used(&store, "a") - u64::from(held);
    // "b" has room for the group's, RAM for the root's, which would go to "b" first.
    on(&store, "b", held, None);
    store.groups().set_rules(group, true, 0b100);
    let ram = Bytes(others * SEGMENT);
    store.swapoff("a", ram, &mut |_| true).unwrap();
    assert_eq!(used(&store, "b"), u64::from(held));
    assert_eq!(store.groups().usage(group).own_device, held);
    all_is_well(&store, &owners, &mut ws);
}
