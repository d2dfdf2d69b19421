//! Space that cannot be given back: it is reused, and nothing else comes of it.

use vswap_platform::errno::Errno;
use vswap_units::Bytes;

use super::directory::{Directory, store_on, write_all_back};
use crate::device::{DeviceInfo, DeviceOptions, DeviceState, SwapDevice};
use crate::testing::{Call, Control, Fault, FaultyDevice};
use crate::{CodecKind, SEGMENT_BYTES, Store, StoreOptions, SwapoffError, Workspace};

const SEGMENT: u64 = SEGMENT_BYTES as u64;
const PAGES: u64 = 1500;
const PLACES: u32 = 24;
const FAULTS: [Fault; 5] = [
    Fault::Error(Errno::EIO),
    Fault::Error(Errno::EOPNOTSUPP),
    Fault::Error(Errno::ENOSPC),
    Fault::Short,
    Fault::Corrupt,
];

struct Scene {
    store: Store,
    owners: Directory,
    ws: Workspace,
    control: Control,
}

/// Pages that take about 12 segments, all on one device of [`PLACES`].
fn scene() -> Scene {
    let device = FaultyDevice::new(PLACES);
    let control = device.control();
    let mut scene = Scene {
        store: store_on(64, device),
        owners: Directory::new(PAGES as usize),
        ws: Workspace::new(CodecKind::Lz4).unwrap(),
        control,
    };
    scene.fill(0);
    scene
}

impl Scene {
    fn fill(&mut self, round: u64) {
        for owner in 0..PAGES {
            let seed = owner + 10_000 * round;
            self.owners
                .store(&self.store, owner, seed, &mut self.ws)
                .unwrap();
        }
        write_all_back(&self.store);
    }

    fn free_all(&self) {
        (0..PAGES).for_each(|owner| self.owners.free(&self.store, owner));
        self.store.give_back_places(usize::MAX);
    }

    fn info(&self) -> DeviceInfo {
        self.store.devices().remove(0)
    }

    /// What is held is what is there, whatever could not be given back beside it.
    fn all_is_well(&mut self) {
        self.store.give_back_places(usize::MAX);
        assert_eq!(
            self.info().used.0 / SEGMENT,
            self.control.stored_places() as u64
        );
        assert_eq!(self.info().state, DeviceState::On);
        self.owners.verify_all(&self.store, &mut self.ws);
        self.owners.check(&self.store, &mut self.ws);
    }
}

impl Scene {
    /// A refusal is told, unless the device gives nothing back at all; one that says it did cannot be told.
    fn counts_are_honest(&self, call: u64, fault: Fault) {
        let (info, asked) = (self.info(), self.control.count(Call::Discard));
        let refused = u64::from(asked > call && fault != Fault::Corrupt);
        assert_eq!(info.discards, asked - refused);
        let is_told = fault != Fault::Error(Errno::EOPNOTSUPP);
        assert_eq!(info.errors, refused * u64::from(is_told));
    }
}

/// Fills, frees, fills again, cleans and takes off, with one discard going wrong. Says whether it came to that discard.
fn fail_at(call: u64, fault: Fault) -> bool {
    let mut scene = scene();
    scene.control.on_discard(call, fault);
    scene.free_all();
    scene.all_is_well();
    scene.fill(1);
    scene.all_is_well();
    let others = (0..PAGES).filter(|owner| owner % 3 != 0);
    others.for_each(|owner| scene.owners.free(&scene.store, owner));
    while scene.store.clean(&scene.owners, &mut scene.ws).segments > 0 {}
    scene.all_is_well();
    scene.counts_are_honest(call, fault);
    scene
        .store
        .swapoff("", Bytes::gib(1), &mut |_| true)
        .unwrap();
    assert_eq!(scene.control.stored_places(), 0);
    assert!(scene.control.kept_places() <= 1);
    scene.owners.verify_all(&scene.store, &mut scene.ws);
    scene.owners.check(&scene.store, &mut scene.ws);
    scene.control.count(Call::Discard) > call
}

#[test]
fn every_discard_may_fail_and_nothing_is_lost() {
    for fault in FAULTS {
        let calls = (0..).take_while(|&call| fail_at(call, fault)).count();
        assert!(calls > 10, "{calls} discards went wrong, each in turn");
    }
}

#[test]
fn a_place_that_could_not_be_given_back_is_free_and_used_again() {
    let mut scene = scene();
    let used = scene.info().used;
    (0..)
        .take(100)
        .for_each(|call| scene.control.on_discard(call, FAULTS[0]));
    scene.free_all();
    let info = scene.info();
    assert_eq!((info.used, info.discards), (Bytes(0), 0));
    assert_eq!(info.errors, used.0 / SEGMENT);
    assert_eq!(scene.control.kept_places() as u64, used.0 / SEGMENT);
    assert!(scene.store.can_write_back());
    scene.fill(2);
    assert_eq!(scene.info().used, used);
    assert_eq!(scene.control.kept_places(), 0, "written over");
    scene.control.heal();
    scene.all_is_well();
}

#[test]
fn a_device_that_is_gone_when_places_are_given_back_is_as_good_as_before_when_it_is_back() {
    let mut scene = scene();
    scene.control.set_condition(true, 0);
    scene.free_all();
    assert_eq!(scene.info().used, Bytes(0));
    scene.control.set_condition(false, 0);
    scene.fill(3);
    scene.all_is_well();
}

/// A device on a file system with so much left.
struct OnFileSystem(FaultyDevice, u64);

impl SwapDevice for OnFileSystem {
    fn capacity_places(&self) -> u32 {
        self.0.capacity_places()
    }

    fn write(&self, place: u32, bytes: &[u8]) -> Result<(), Errno> {
        self.0.write(place, bytes)
    }

    fn read(&self, place: u32, offset: usize, out: &mut [u8]) -> Result<(), Errno> {
        self.0.read(place, offset, out)
    }

    fn discard(&self, place: u32) -> Result<(), Errno> {
        self.0.discard(place)
    }

    fn identity(&self) -> Option<(u64, u64)> {
        Some((7, 7))
    }

    fn free_bytes(&self) -> Option<u64> {
        Some(self.1)
    }
}

/// Takes a device off to another one on the same file system, which is full but for what comes free.
fn off_to_a_full_file_system(fault: Option<Fault>) -> Result<(), SwapoffError> {
    let store = Store::new(StoreOptions::new(64, 1000)).unwrap();
    let (owners, mut ws) = (
        Directory::new(1000),
        Workspace::new(CodecKind::Lz4).unwrap(),
    );
    let device = FaultyDevice::new(PLACES);
    let control = device.control();
    for (name, device) in [("a", device), ("b", FaultyDevice::new(PLACES))] {
        let options = DeviceOptions {
            name: name.to_owned(),
            ..DeviceOptions::default()
        };
        let device = Box::new(OnFileSystem(device, 0));
        store.swapon(device, options).unwrap();
    }
    for owner in 0..1000 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    write_all_back(&store);
    if let Some(fault) = fault {
        control.on_discard(0, fault);
    }
    (0..300).for_each(|owner| owners.free(&store, owner));
    store.give_back_places(usize::MAX);
    assert!(control.count(Call::Discard) > 0);
    let mut last = None;
    let done = store.swapoff("a", Bytes(0), &mut |progress| {
        last = Some(progress);
        true
    });
    assert_eq!(
        last.is_none(),
        done.is_err(),
        "refused before anything is touched"
    );
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
    done.map(drop)
}

#[test]
fn room_that_comes_free_by_emptying_is_counted_only_where_places_can_be_given_back() {
    assert_eq!(off_to_a_full_file_system(None), Ok(()));
    for fault in &FAULTS[..4] {
        let refused = off_to_a_full_file_system(Some(*fault));
        assert!(
            matches!(refused, Err(SwapoffError::DoesNotFit { .. })),
            "{fault:?} {refused:?}"
        );
    }
}
