//! Devices that fail: nothing is lost, nothing is wrong.

use vswap_platform::errno::Errno;
use vswap_units::{Bytes, PAGE_SIZE};

use super::directory::{Directory, store_on, write_all_back};
use crate::testing::{Control, Fault, FaultyDevice};
use crate::{CodecKind, ReadItem, Store, StoreError, StoreOptions, Workspace};

struct Scene {
    store: Store,
    owners: Directory,
    ws: Workspace,
    control: Control,
}

fn scene(places: u32, count: u64) -> Scene {
    let device = FaultyDevice::new(places);
    let control = device.control();
    let store = store_on(64, device);
    let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
    let owners = Directory::new(count as usize);
    for owner in 0..count {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    store.seal_all();
    Scene {
        store,
        owners,
        ws,
        control,
    }
}

impl Scene {
    fn all_is_well(&mut self) {
        self.control.heal();
        self.owners.verify_all(&self.store, &mut self.ws);
        self.owners.check(&self.store, &mut self.ws);
    }
}

#[test]
fn a_failed_write_leaves_the_segment_in_ram_and_closes_the_device() {
    for fault in [Fault::Error(Errno::EIO), Fault::Short] {
        let mut scene = scene(64, 2000);
        scene.control.on_write(2, fault);
        assert!(scene.store.writeback_oldest(Bytes(1)).is_ok());
        assert!(scene.store.writeback_oldest(Bytes(1)).is_ok());
        assert_eq!(
            scene.store.writeback_oldest(Bytes(1)),
            Err(StoreError::Io(Errno::EIO))
        );
        assert_eq!(scene.store.device_error(), Some((0, Errno::EIO)));
        assert!(!scene.store.can_write_back());
        assert_eq!(scene.store.writeback_oldest(Bytes(1)), Ok(None));
        assert_eq!(scene.store.usage().device_segments, 2);
        scene.all_is_well();
    }
}

#[test]
fn the_next_device_takes_over() {
    let (first, second) = (FaultyDevice::new(64), FaultyDevice::new(64));
    first.control().on_write(1, Fault::Error(Errno::EIO));
    let mut store = Store::new(StoreOptions::new(64, 128)).unwrap();
    store.attach(Box::new(first)).unwrap();
    store.attach(Box::new(second)).unwrap();
    let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
    let owners = Directory::new(2000);
    for owner in 0..2000 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    write_all_back(&store);
    assert_eq!(store.usage().ram_segments, 0);
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}

#[test]
fn a_full_device_is_used_again_when_places_are_freed() {
    let mut scene = scene(3, 2000);
    assert_eq!(
        scene.store.writeback_oldest(Bytes::gib(1)),
        Ok(Some(Bytes::kib(768)))
    );
    assert_eq!(
        scene.store.writeback_oldest(Bytes(1)),
        Err(StoreError::Full)
    );
    assert!(scene.store.can_write_back());
    let on_device = scene
        .owners
        .live()
        .into_iter()
        .filter(|(_, at)| !scene.store.is_in_ram(*at));
    for (owner, _) in on_device.collect::<Vec<_>>() {
        scene.owners.free(&scene.store, owner);
    }
    assert_eq!(
        scene.store.writeback_oldest(Bytes(1)),
        Ok(Some(Bytes::kib(256)))
    );
    scene.all_is_well();
}

#[test]
fn a_full_disk_is_not_a_broken_one() {
    let mut scene = scene(64, 1000);
    scene.control.on_write(0, Fault::Error(Errno::ENOSPC));
    assert_eq!(
        scene.store.writeback_oldest(Bytes(1)),
        Err(StoreError::Full)
    );
    assert!(scene.store.writeback_oldest(Bytes(1)).unwrap().is_some());
    scene.all_is_well();
}

#[test]
fn a_read_error_is_an_error_and_passes() {
    let mut scene = scene(64, 500);
    write_all_back(&scene.store);
    for fault in [Fault::Error(Errno::EIO), Fault::Short] {
        scene.control.on_read(0, fault);
        let read = scene.owners.verify(&scene.store, 7, &mut scene.ws);
        assert_eq!(read, Err(StoreError::Io(Errno::EIO)));
        assert_eq!(scene.owners.verify(&scene.store, 7, &mut scene.ws), Ok(()));
    }
    scene.all_is_well();
}

#[test]
fn damaged_bytes_are_never_handed_out() {
    let mut scene = scene(64, 500);
    write_all_back(&scene.store);
    for owner in 0..500 {
        scene.control.on_read(0, Fault::Corrupt);
        scene.control.on_read(1, Fault::Corrupt);
        let read = scene.owners.verify(&scene.store, owner, &mut scene.ws);
        assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
    }
    scene.all_is_well();
}

#[test]
fn damage_while_writing_is_found_when_reading() {
    let mut scene = scene(64, 300);
    for n in 0..64 {
        scene.control.on_write(n, Fault::Corrupt);
    }
    write_all_back(&scene.store);
    for owner in 0..300 {
        let read = scene.owners.verify(&scene.store, owner, &mut scene.ws);
        assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
    }
}

#[test]
fn reading_many_fails_one_by_one() {
    let mut scene = scene(64, 16);
    write_all_back(&scene.store);
    let items: Vec<ReadItem> = (0..16)
        .map(|owner| ReadItem {
            at: scene.owners.at(owner),
            owner,
        })
        .collect();
    let mut pages = vec![vec![0_u8; PAGE_SIZE]; 16];
    let mut results = vec![Ok(()); 16];
    // The common read and the third single one fail.
    scene.control.on_read(0, Fault::Error(Errno::EIO));
    scene.control.on_read(3, Fault::Error(Errno::EIO));
    let mut outs: Vec<&mut [u8]> = pages.iter_mut().map(Vec::as_mut_slice).collect();
    scene
        .store
        .read_many(&items, &mut outs, &mut results, &mut scene.ws);
    let failed: Vec<usize> = (0..16).filter(|&i| results[i].is_err()).collect();
    assert_eq!(failed, [2]);
    scene.all_is_well();
}

#[test]
fn damage_on_the_way_is_healed_by_a_second_read() {
    let mut scene = scene(64, 300);
    write_all_back(&scene.store);
    for owner in 0..300 {
        scene.control.on_read(0, Fault::Corrupt);
        let read = scene.owners.verify(&scene.store, owner, &mut scene.ws);
        assert_eq!(read, Ok(()));
    }
}

#[test]
fn what_was_read_ahead_badly_is_read_again() {
    let device = FaultyDevice::new(64);
    let control = device.control();
    let mut options = StoreOptions::new(64, 64);
    options.readahead_segments = 2;
    let mut store = Store::new(options).unwrap();
    store.attach(Box::new(device)).unwrap();
    let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
    let owners = Directory::new(100);
    for owner in 0..100 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    write_all_back(&store);
    owners.verify(&store, 2, &mut ws).unwrap();
    control.on_read(0, Fault::Corrupt); // the whole segment, ahead
    owners.verify_all(&store, &mut ws);
    let reads = control.calls().1;
    owners.verify_all(&store, &mut ws);
    assert_eq!(control.calls().1, reads, "all of it is here by now");
    owners.check(&store, &mut ws);
}
