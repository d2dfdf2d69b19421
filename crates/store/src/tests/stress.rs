//! Many threads with every byte verified while writeback and cleaning run.

use core::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vswap_units::Bytes;

use super::directory::{Directory, store_on};
use crate::device::{FileDevice, SwapDevice};
use crate::testing::{Control, Fault, FaultyDevice, Numbers};
use crate::{CodecKind, Store, StoreError, StoreOptions, Workspace};

pub(super) const OWNERS: u64 = 6000;

pub(super) fn seconds() -> Duration {
    let seconds = std::env::var("VSWAP_STRESS_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}

/// Stores, frees and verifies at random until told to stop.
pub(super) fn worker(
    store: &Store,
    owners: &Directory,
    seed: u64,
    stop: &AtomicBool,
    may_fail: bool,
) {
    let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
    let mut numbers = Numbers::new(seed);
    while !stop.load(Ordering::Relaxed) {
        let owner = numbers.below(OWNERS);
        match numbers.below(10) {
            0..4 => {
                let stored = owners.store(store, owner, numbers.next() >> 8, &mut ws);
                assert!(
                    matches!(stored, Ok(()) | Err(StoreError::NoRoom)),
                    "{stored:?}"
                );
            }
            4 => owners.free(store, owner),
            _ => match owners.verify(store, owner, &mut ws) {
                Ok(()) => {}
                Err(StoreError::Io(_) | StoreError::Corrupt { .. }) if may_fail => {}
                Err(error) => panic!("owner {owner}: {error}"),
            },
        }
    }
}

/// Writes back whatever can be.
pub(super) fn writer(store: &Store, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if !matches!(store.writeback_oldest(Bytes::mib(1)), Ok(Some(_))) {
            thread::yield_now();
        }
    }
}

pub(super) fn cleaner(store: &Store, owners: &Directory, stop: &AtomicBool) {
    let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
    while !stop.load(Ordering::Relaxed) {
        if store.clean(owners, &mut ws).segments == 0 {
            thread::yield_now();
        }
    }
}

fn run(store: &Store, control: Option<&Control>) {
    let owners = Directory::new(OWNERS as usize);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 1..=4 {
            let (owners, stop) = (&owners, &stop);
            scope.spawn(move || worker(store, owners, seed, stop, control.is_some()));
        }
        scope.spawn(|| writer(store, &stop));
        scope.spawn(|| writer(store, &stop));
        scope.spawn(|| cleaner(store, &owners, &stop));
        let end = Instant::now() + seconds();
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
            if let Some(control) = control {
                control.on_read(3, Fault::Corrupt);
                control.on_read(9, Fault::Error(vswap_platform::errno::Errno::EIO));
                control.on_write(2, Fault::Error(vswap_platform::errno::Errno::ENOSPC));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    if let Some(control) = control {
        control.heal();
    }
    let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
    owners.verify_all(store, &mut ws);
    store.give_back_places(usize::MAX);
    owners.check(store, &mut ws);
}

#[test]
fn nothing_is_lost_while_everything_happens_in_memory() {
    run(&store_on(24, FaultyDevice::new(200)), None);
}

#[test]
fn nothing_is_lost_while_everything_happens_on_a_file() {
    let file =
        vswap_platform::file::SwapFile::open_unnamed(std::path::Path::new("/var/tmp")).unwrap();
    run(&store_on(12, FileDevice::new(file, Bytes::mib(64))), None);
}

#[test]
fn nothing_is_lost_when_the_device_is_too_small() {
    run(&store_on(16, FaultyDevice::new(5)), None);
}

#[test]
fn nothing_is_lost_when_reads_and_writes_fail_now_and_then() {
    let device = FaultyDevice::new(100);
    assert_eq!(device.capacity_places(), 100);
    let control = device.control();
    run(&store_on(16, device), Some(&control));
}

#[test]
fn nothing_is_lost_when_the_device_breaks_on_the_way() {
    let device = FaultyDevice::new(100);
    let control = device.control();
    control.on_write(40, Fault::Short);
    let store = store_on(16, device);
    run(&store, None);
}

#[test]
fn nothing_is_lost_while_segments_are_read_ahead() {
    let device = FaultyDevice::new(200);
    let control = device.control();
    let mut options = StoreOptions::new(16, 200);
    options.readahead_segments = 3;
    let mut store = Store::new(options).unwrap();
    store.attach(Box::new(device)).unwrap();
    run(&store, Some(&control));
}
