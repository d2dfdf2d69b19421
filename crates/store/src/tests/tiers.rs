//! Segments move down from a fast device that fills up, and up when they are read again.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use vswap_platform::errno::Errno;

use super::directory::{Directory, write_all_back};
use super::stress::{OWNERS, cleaner, seconds, worker, writer};
use crate::device::{DeviceInfo, DeviceOptions};
use crate::testing::{Control, Fault, FaultyDevice};
use crate::{CodecKind, GroupId, SEGMENT_BYTES, Store, StoreOptions, Tiers, Workspace};

const LOOK: u64 = 1_000_000_000;
const PAGES: u64 = 6000;

/// A store, its owners, and what steps are told of the time.
struct Case {
    store: Store,
    owners: Directory,
    ws: Workspace,
    tiers: Tiers,
    now: u64,
}

fn on(store: &Store, name: &str, places: u32, priority: i32) -> Control {
    let device = FaultyDevice::new(places);
    let control = device.control();
    let options = DeviceOptions {
        name: name.to_owned(),
        priority: Some(priority),
        ..DeviceOptions::default()
    };
    store.swapon(Box::new(device), options).unwrap();
    control
}

fn info(store: &Store, name: &str) -> DeviceInfo {
    let mut all = store.devices().into_iter();
    all.find(|info| info.name == name).unwrap()
}

impl Case {
    /// Pages that take about 26 segments, all still in RAM.
    fn new() -> Self {
        Self::of_group(
            GroupId::ROOT,
            Store::new(StoreOptions::new(64, 1000)).unwrap(),
        )
    }

    fn of_group(group: GroupId, store: Store) -> Self {
        let owners = Directory::new(PAGES as usize);
        let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
        for owner in 0..PAGES {
            owners
                .store_for(group, &store, owner, owner, &mut ws)
                .unwrap();
        }
        store.seal_all();
        Self {
            store,
            owners,
            ws,
            tiers: Tiers::default(),
            now: 0,
        }
    }

    fn used(&self, name: &str) -> u64 {
        info(&self.store, name).used.0 / SEGMENT_BYTES as u64
    }

    /// Steps until there is nothing to do, a second later than the last time.
    fn settle(&mut self) -> u32 {
        self.now += LOOK;
        let mut steps = 0;
        while self.store.migrate_step(&mut self.tiers, self.now) {
            steps += 1;
            assert!(steps < 1000, "it never ends");
        }
        assert!(!self.store.migrate_step(&mut self.tiers, self.now));
        steps
    }

    fn moved(&self) -> (u64, u64) {
        let counters = self.store.counters();
        (counters.demoted_bytes.get(), counters.promoted_bytes.get())
    }

    fn read(&mut self, owners: core::ops::Range<u64>) {
        for owner in owners {
            self.owners
                .verify(&self.store, owner, &mut self.ws)
                .unwrap();
        }
    }

    fn is_on(&self, owner: u64, name: &str) -> bool {
        use crate::word::{Place, Rest};
        let row = self.store.table.get(self.owners.at(owner).location.segment);
        let number = info(&self.store, name).number;
        matches!(row.unwrap().word.load().rest(), Rest::Device(Place { device, .. }) if device == number)
    }

    fn all_is_well(&mut self) {
        self.store.give_back_places(usize::MAX);
        self.owners.verify_all(&self.store, &mut self.ws);
        self.owners.check(&self.store, &mut self.ws);
    }
}

#[test]
fn the_coldest_go_down_until_an_eighth_of_the_fast_device_is_free() {
    let mut case = Case::new();
    on(&case.store, "fast", 16, 9);
    on(&case.store, "slow", 100, 1);
    write_all_back(&case.store);
    assert_eq!(case.used("fast"), 16);
    let total = case.used("fast") + case.used("slow");
    assert_eq!(case.settle(), 2);
    assert_eq!((case.used("fast"), case.used("slow")), (14, total - 14));
    assert!(case.is_on(0, "slow"), "the oldest is still there");
    assert!(case.moved().0 > 0 && case.moved().1 == 0);
    assert_eq!((case.settle(), case.settle()), (0, 0));
    case.all_is_well();
}

#[test]
fn what_was_read_since_the_last_look_does_not_go_down() {
    let mut case = Case::new();
    on(&case.store, "fast", 16, 9);
    on(&case.store, "slow", 100, 1);
    write_all_back(&case.store);
    case.read(0..1);
    case.settle();
    assert!(case.is_on(0, "fast"));
    for _ in 0..3 {
        case.read(0..PAGES);
        let steps = case.settle();
        assert!(steps < 32, "{steps}");
    }
    assert!(case.is_on(0, "fast"));
    case.all_is_well();
}

#[test]
fn what_is_read_again_and_again_goes_up_and_stays() {
    let mut case = Case::new();
    let slow = on(&case.store, "slow", 100, 1);
    write_all_back(&case.store);
    on(&case.store, "fast", 16, 9);
    assert_eq!(case.settle(), 0);
    case.read(0..1);
    // Once is not again and again.
    assert_eq!((case.settle(), case.settle()), (0, 0));
    for _ in 0..3 {
        case.read(0..1);
        case.settle();
    }
    assert!(case.is_on(0, "fast"));
    assert_eq!(case.used("fast"), 1);
    let (calls, moved) = (slow.calls(), case.moved());
    assert!(moved.0 == 0 && moved.1 > 0);
    for _ in 0..10 {
        case.read(0..1);
        assert_eq!(case.settle(), 0);
    }
    assert_eq!((slow.calls(), case.moved()), (calls, moved));
    case.all_is_well();
}

#[test]
fn what_is_hot_takes_the_place_of_what_is_cold() {
    const HOT: [u64; 4] = [0, 300, 5000, 5500];
    let mut case = Case::new();
    on(&case.store, "fast", 16, 9);
    on(&case.store, "slow", 100, 1);
    write_all_back(&case.store);
    case.settle();
    for _ in 0..6 {
        for owner in HOT {
            case.read(owner..owner + 1);
        }
        case.settle();
    }
    assert!(HOT.iter().all(|&owner| case.is_on(owner, "fast")));
    assert_eq!(case.settle(), 0);
    case.all_is_well();
}

#[test]
fn when_everything_is_hot_nothing_goes_round_in_circles() {
    let mut case = Case::new();
    on(&case.store, "fast", 16, 9);
    on(&case.store, "slow", 100, 1);
    write_all_back(&case.store);
    for _ in 0..5 {
        case.read(0..PAGES);
        case.settle();
    }
    let moved = case.moved();
    for _ in 0..10 {
        case.read(0..PAGES);
        assert_eq!(case.settle(), 0);
    }
    assert_eq!(case.moved(), moved);
    case.all_is_well();
}

#[test]
fn one_device_or_equal_ones_are_no_tiers() {
    for others in [&[][..], &[("b", 100, 9)]] {
        let mut case = Case::new();
        on(&case.store, "a", 16, 9);
        for &(name, places, priority) in others {
            on(&case.store, name, places, priority);
        }
        while case
            .store
            .writeback_oldest(vswap_units::Bytes(1))
            .is_ok_and(|wrote| wrote.is_some())
        {}
        for _ in 0..4 {
            case.read(0..PAGES);
            assert_eq!(case.settle(), 0);
        }
        case.all_is_well();
    }
}

#[test]
fn without_room_below_nothing_moves() {
    let mut case = Case::new();
    on(&case.store, "fast", 16, 9);
    let slow = on(&case.store, "slow", 7, 1);
    while case
        .store
        .writeback_oldest(vswap_units::Bytes(1))
        .is_ok_and(|wrote| wrote.is_some())
    {}
    if case.used("slow") < 7 {
        case.settle();
    }
    let writes = slow.calls().0;
    assert_eq!((case.settle(), case.settle()), (0, 0));
    assert_eq!(slow.calls().0, writes);
    case.all_is_well();
}

#[test]
fn a_group_is_moved_only_to_devices_it_may_use() {
    let store = Store::new(StoreOptions::new(64, 1000)).unwrap();
    let group = store.groups().create(GroupId::ROOT).unwrap();
    let mut case = Case::of_group(group, store);
    on(&case.store, "fast", 16, 9);
    on(&case.store, "slow", 100, 1);
    write_all_back(&case.store);
    let slow = info(&case.store, "slow").number;
    case.store.groups().set_rules(group, true, 1 << slow);
    assert_eq!((case.settle(), case.settle()), (0, 0));
    case.store.groups().set_rules(group, true, 0);
    assert_eq!(case.settle(), 2);
    let fast = info(&case.store, "fast").number;
    case.store.groups().set_rules(group, true, 1 << fast);
    let promoted = case.moved().1;
    for _ in 0..4 {
        case.read(0..1);
        case.settle();
    }
    assert_eq!(case.moved().1, promoted);
    case.all_is_well();
}

#[test]
fn places_that_another_process_needs_stay() {
    let mut case = Case::new();
    on(&case.store, "fast", 16, 9);
    on(&case.store, "slow", 100, 1);
    write_all_back(&case.store);
    case.store.fork_prepare();
    case.store.fork_child();
    assert_eq!((case.settle(), case.settle()), (0, 0));
    case.all_is_well();
}

/// One read or write goes wrong on the way down, then one on the way up.
fn fail_at(call: u64, fault: Fault, of_read: bool) {
    let mut case = Case::new();
    let fast = on(&case.store, "fast", 16, 9);
    let slow = on(&case.store, "slow", 100, 1);
    write_all_back(&case.store);
    for (from, to) in [(&fast, &slow), (&slow, &fast)] {
        match of_read {
            true => from.on_read(call, fault),
            false => to.on_write(call, fault),
        }
        case.settle();
        from.heal();
        to.heal();
        for _ in 0..4 {
            case.read(0..1);
            case.settle();
        }
    }
    case.all_is_well();
}

#[test]
fn every_read_and_write_may_fail_and_nothing_is_lost() {
    for call in 0..4 {
        for fault in [Fault::Error(Errno::EIO), Fault::Short, Fault::Corrupt] {
            fail_at(call, fault, true);
        }
        for fault in [
            Fault::Error(Errno::EIO),
            Fault::Error(Errno::ENOSPC),
            Fault::Error(Errno::EBADF),
            Fault::Short,
        ] {
            fail_at(call, fault, false);
        }
    }
}

#[test]
fn a_failure_is_not_tried_again_at_once_and_others_go_first() {
    let mut case = Case::new();
    let fast = on(&case.store, "fast", 16, 9);
    on(&case.store, "slow", 100, 1);
    write_all_back(&case.store);
    fast.on_read(0, Fault::Error(Errno::EIO));
    assert_eq!(case.settle(), 0);
    assert!(case.is_on(0, "fast"));
    assert_eq!(case.settle(), 2);
    assert!(case.is_on(0, "fast"));
    case.all_is_well();
}

#[test]
fn damage_that_stays_is_not_moved() {
    let mut case = Case::new();
    let fast = on(&case.store, "fast", 16, 9);
    on(&case.store, "slow", 100, 1);
    fast.on_write(0, Fault::Corrupt);
    write_all_back(&case.store);
    for _ in 0..6 {
        case.settle();
    }
    let mut lost = 0;
    for owner in 0..PAGES {
        if case
            .owners
            .verify(&case.store, owner, &mut case.ws)
            .is_err()
        {
            assert!(case.is_on(owner, "fast"));
            lost += 1;
        }
    }
    assert!((1..=256).contains(&lost), "{lost} of one segment");
    assert_eq!(case.used("fast"), 14);
}

#[test]
fn nothing_is_lost_while_tiers_move_under_load() {
    let store = Store::new(StoreOptions::new(16, 300)).unwrap();
    on(&store, "fast", 16, 9);
    on(&store, "middle", 20, 5);
    on(&store, "slow", 200, 1);
    let owners = Directory::new(OWNERS as usize);
    let (stop, steps) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for seed in 1..=3 {
            let (store, owners, stop) = (&store, &owners, &stop);
            scope.spawn(move || worker(store, owners, seed, stop, false));
        }
        scope.spawn(|| writer(&store, &stop));
        scope.spawn(|| cleaner(&store, &owners, &stop));
        scope.spawn(|| {
            let (mut tiers, mut now) = (Tiers::default(), 0);
            while !stop.load(Ordering::Relaxed) {
                if store.migrate_step(&mut tiers, now) {
                    steps.fetch_add(1, Ordering::Relaxed);
                } else {
                    now += LOOK;
                    thread::sleep(core::time::Duration::from_millis(1));
                }
            }
        });
        thread::sleep(seconds());
        stop.store(true, Ordering::Relaxed);
    });
    assert!(steps.load(Ordering::Relaxed) > 10);
    let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
    store.give_back_places(usize::MAX);
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}
