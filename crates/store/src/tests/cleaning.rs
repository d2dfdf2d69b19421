//! Cleaning, in RAM and on devices.

use vswap_units::Bytes;

use super::directory::{Directory, store_on, write_all_back};
use crate::testing::{Fault, FaultyDevice};
use crate::{CodecKind, Location, Owners, SEGMENT_BYTES, Store, StoreOptions, Workspace};

const SEGMENT: u64 = SEGMENT_BYTES as u64;

fn workspace() -> Workspace {
    Workspace::new(CodecKind::Lz4).unwrap()
}

/// Fills `count` owners and frees all but every `keep`-th.
fn mostly_holes(store: &Store, count: u64, keep: u64, ws: &mut Workspace) -> Directory {
    let owners = Directory::new(count as usize);
    for owner in 0..count {
        owners.store(store, owner, owner, ws).unwrap();
    }
    store.seal_all();
    for owner in (0..count).filter(|owner| owner % keep != 0) {
        owners.free(store, owner);
    }
    owners
}

#[test]
fn cleaning_gathers_what_is_left_and_gives_the_rest_back() {
    let (store, mut ws) = (Store::new(StoreOptions::new(64, 0)).unwrap(), workspace());
    let owners = mostly_holes(&store, 5000, 4, &mut ws);
    let before = store.usage();
    let mut rounds = 0;
    while store.clean(&owners, &mut ws).segments > 0 {
        owners.check(&store, &mut ws);
        rounds += 1;
        assert!(rounds < 50);
    }
    owners.verify_all(&store, &mut ws);
    let after = store.usage();
    assert_eq!(after.ram_live, before.ram_live);
    assert!(
        after.ram_live.0 * 100 >= u64::from(after.ram_segments) * SEGMENT * 75,
        "{after:?}"
    );
    assert!(
        after.ram_segments * 3 <= before.ram_segments * 2,
        "{before:?} {after:?}"
    );
}

#[test]
fn a_full_store_can_be_cleaned() {
    let (store, owners, mut ws) = (
        Store::new(StoreOptions::new(8, 0)).unwrap(),
        Directory::new(2000),
        workspace(),
    );
    let full = (0..2000)
        .find(|&owner| owners.store(&store, owner, owner, &mut ws).is_err())
        .unwrap();
    (0..full)
        .filter(|owner| owner % 2 == 1)
        .for_each(|owner| owners.free(&store, owner));
    while store.clean(&owners, &mut ws).segments > 0 {}
    owners.store(&store, 1, 8, &mut ws).unwrap();
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}

#[test]
fn small_holes_are_gathered_where_ram_is_tight_and_nowhere_else() {
    let (store, mut ws) = (Store::new(StoreOptions::new(64, 0)).unwrap(), workspace());
    let owners = Directory::new(4000);
    for owner in 0..4000 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    store.seal_all();
    (0..4000)
        .step_by(10)
        .for_each(|owner| owners.free(&store, owner));
    while store.clean(&owners, &mut ws).segments > 0 {}
    let before = store.usage();
    store.set_ram_tight(true);
    for _ in 0..50 {
        store.clean(&owners, &mut ws);
    }
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
    let after = store.usage();
    assert_eq!(after.ram_live, before.ram_live);
    assert!(
        after.ram_segments < before.ram_segments,
        "{before:?} {after:?}"
    );
}

#[test]
fn nothing_is_cleaned_while_little_is_dead() {
    let (store, mut ws) = (Store::new(StoreOptions::new(64, 0)).unwrap(), workspace());
    let owners = Directory::new(2000);
    for owner in 0..2000 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    (3..2000)
        .step_by(20)
        .for_each(|owner| owners.free(&store, owner));
    assert_eq!(store.clean(&owners, &mut ws).objects, 0);
}

/// Owners that do not let go of anything, whatever `place` says.
struct Stubborn(bool);

impl Owners for Stubborn {
    fn relocate(
        &self,
        _owner: u64,
        _from: Location,
        place: &mut dyn FnMut() -> Option<Location>,
    ) -> bool {
        if self.0 {
            let _ = place();
        }
        false
    }
}

#[test]
fn what_its_owner_keeps_stays_where_it_is() {
    for copies in [false, true] {
        let (store, mut ws) = (Store::new(StoreOptions::new(64, 0)).unwrap(), workspace());
        let owners = mostly_holes(&store, 1500, 4, &mut ws);
        let before = owners.live();
        for _ in 0..8 {
            assert_eq!(store.clean(&Stubborn(copies), &mut ws).objects, 0);
        }
        assert_eq!(owners.live(), before);
        store.seal_all();
        owners.check(&store, &mut ws);
    }
}

#[test]
fn a_stubborn_segment_does_not_stop_the_others() {
    let (store, mut ws) = (Store::new(StoreOptions::new(64, 0)).unwrap(), workspace());
    let owners = mostly_holes(&store, 3000, 8, &mut ws);
    // The owner of one object in the emptiest segment is busy: its lock is held.
    struct Busy<'a>(&'a Directory, u32);
    impl Owners for Busy<'_> {
        fn relocate(
            &self,
            owner: u64,
            from: Location,
            place: &mut dyn FnMut() -> Option<Location>,
        ) -> bool {
            from.segment != self.1 && self.0.relocate(owner, from, place)
        }
    }
    let busy = owners.at(0).location.segment;
    let mut cleaned = 0;
    for _ in 0..20 {
        cleaned += store.clean(&Busy(&owners, busy), &mut ws).segments;
    }
    assert!(cleaned > 5);
    assert_eq!(owners.at(0).location.segment, busy);
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}

#[test]
fn half_dead_segments_on_a_device_are_gathered_too() {
    let (store, mut ws) = (store_on(64, FaultyDevice::new(64)), workspace());
    let owners = Directory::new(3000);
    for owner in 0..3000 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    write_all_back(&store);
    (0..3000)
        .filter(|owner| owner % 5 != 0)
        .for_each(|owner| owners.free(&store, owner));
    let before = store.device_bytes();
    for _ in 0..40 {
        store.clean(&owners, &mut ws);
        owners.check(&store, &mut ws);
    }
    assert!(store.device_bytes().0 * 2 < before.0);
    owners.verify_all(&store, &mut ws);
}

#[test]
fn a_device_that_does_not_read_back_is_not_cleaned_into_ram() {
    let device = FaultyDevice::new(64);
    let control = device.control();
    let (store, mut ws) = (store_on(64, device), workspace());
    let owners = Directory::new(1000);
    for owner in 0..1000 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    write_all_back(&store);
    (0..1000)
        .filter(|owner| owner % 5 != 0)
        .for_each(|owner| owners.free(&store, owner));
    for n in 0..40 {
        control.on_read(
            n,
            if n % 2 == 0 {
                Fault::Corrupt
            } else {
                Fault::Error(vswap_platform::errno::Errno::EIO)
            },
        );
    }
    for _ in 0..10 {
        store.clean(&owners, &mut ws);
    }
    control.heal();
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
    assert!(store.writeback_oldest(Bytes(1)).is_ok());
}
