//! One thread: every path once.

use vswap_platform::file::SwapFile;
use vswap_units::{Bytes, PAGE_SIZE};

use super::directory::{Directory, store_on, write_all_back};
use crate::device::{FileDevice, NullDevice};
use crate::testing::{FaultyDevice, Numbers, any_page, noise_page};
use crate::{CodecKind, ReadItem, SEGMENT_BYTES, Store, StoreError, StoreOptions, Workspace};

const SEGMENT: u64 = SEGMENT_BYTES as u64;

fn workspace() -> Workspace {
    Workspace::new(CodecKind::Lz4).unwrap()
}

fn ram_only(segments: u32) -> Store {
    Store::new(StoreOptions::new(segments, 0)).unwrap()
}

fn swap_file(places: u64) -> FileDevice {
    let file = SwapFile::open_unnamed(std::path::Path::new("/var/tmp")).unwrap();
    FileDevice::new(file, Bytes(places * SEGMENT))
}

#[test]
fn every_page_reads_back_from_ram() {
    let (store, owners, mut ws) = (ram_only(64), Directory::new(2000), workspace());
    for owner in 0..2000 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}

#[test]
fn every_page_reads_back_with_zstd() {
    let mut ws = Workspace::new(CodecKind::Zstd(1)).unwrap();
    let (store, owners) = (ram_only(64), Directory::new(500));
    for owner in 0..500 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    owners.verify_all(&store, &mut ws);
}

#[test]
fn an_empty_store_holds_nothing() {
    let store = ram_only(1000);
    assert_eq!(
        (store.ram_bytes(), store.live_bytes(), store.device_bytes()),
        (Bytes(0), Bytes(0), Bytes(0))
    );
}

#[test]
fn memory_comes_back_when_everything_is_freed() {
    let (store, owners, mut ws) = (ram_only(128), Directory::new(4000), workspace());
    for owner in 0..4000 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    let full = store.ram_bytes().0;
    assert!(full > 10 * SEGMENT, "{full}");
    for owner in 0..4000 {
        owners.free(&store, owner);
    }
    // The open segment and eight hot ones.
    assert!(store.ram_bytes().0 <= 9 * SEGMENT);
    store.seal_all();
    store.trim();
    assert_eq!(
        (store.ram_bytes(), store.live_bytes()),
        (Bytes(0), Bytes(0))
    );
    owners.check(&store, &mut ws);
}

#[test]
fn a_full_store_says_so_and_keeps_what_it_has() {
    let (store, owners, mut ws) = (ram_only(4), Directory::new(1200), workspace());
    let stored = (0..1200)
        .take_while(|&owner| owners.store(&store, owner, owner, &mut ws).is_ok())
        .count();
    assert!(stored > 300 && stored < 1200, "{stored}");
    assert_eq!(
        owners.store(&store, 1199, 1200 * 8, &mut ws),
        Err(StoreError::NoRoom)
    );
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
    assert_eq!(store.ram_bytes(), Bytes(4 * SEGMENT));
}

#[test]
fn raw_pages_fill_segments_to_the_last_granules() {
    let (store, owners, mut ws) = (ram_only(16), Directory::new(630), workspace());
    for owner in 0..630 {
        // 63 raw pages of 1027 granules fit a segment of 65536.
        owners.store(&store, owner, owner * 8, &mut ws).unwrap();
    }
    assert_eq!(store.usage().ram_segments, 10);
    owners.verify_all(&store, &mut ws);
}

#[test]
fn what_was_written_back_reads_back_from_the_file() {
    let (store, owners, mut ws) = (
        store_on(128, swap_file(128)),
        Directory::new(3000),
        workspace(),
    );
    for owner in 0..3000 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    write_all_back(&store);
    assert!((0..3000).all(|owner| !store.is_in_ram(owners.at(owner))));
    store.trim();
    assert_eq!(store.ram_bytes(), Bytes(0));
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
    let (counters, usage) = (store.counters(), store.usage());
    assert_eq!(
        store.device_bytes().0,
        u64::from(usage.device_segments) * SEGMENT
    );
    // Once for the pages, once for the check above.
    assert!(counters.device_read_bytes.get() <= 2 * 3000 * 8192);
    assert!(counters.device_written_bytes.get() <= store.device_bytes().0);
}

#[test]
fn freed_places_go_back_to_the_device() {
    let (store, owners, mut ws) = (
        store_on(64, swap_file(64)),
        Directory::new(1500),
        workspace(),
    );
    for round in 0..3 {
        for owner in 0..1500 {
            owners.store(&store, owner, owner + round, &mut ws).unwrap();
        }
        write_all_back(&store);
        store.give_back_places(usize::MAX);
        owners.check(&store, &mut ws);
    }
    for owner in 0..1500 {
        owners.free(&store, owner);
    }
    // Only counted so far: freeing does no I/O.
    assert!(store.device_bytes().0 > 0);
    store.give_back_places(usize::MAX);
    assert_eq!(
        (store.device_bytes(), store.live_bytes()),
        (Bytes(0), Bytes(0))
    );
    owners.check(&store, &mut ws);
}

#[test]
fn reading_from_a_device_asks_for_the_covering_blocks_only() {
    let (store, owners, mut ws) = (
        store_on(8, FaultyDevice::new(8)),
        Directory::new(100),
        workspace(),
    );
    for owner in 0..100 {
        owners.store(&store, owner, owner * 8 + 2, &mut ws).unwrap();
    }
    write_all_back(&store);
    for owner in 0..100 {
        let at = owners.at(owner);
        let start = usize::from(at.location.granule) * crate::GRANULE_BYTES;
        let end = start + 12 + usize::from(at.stored_bytes);
        let blocks = end.div_ceil(PAGE_SIZE) - start / PAGE_SIZE;
        let before = store.counters().device_read_bytes.get();
        owners.verify(&store, owner, &mut ws).unwrap();
        let read = store.counters().device_read_bytes.get() - before;
        assert_eq!(read, (blocks * PAGE_SIZE) as u64);
    }
}

#[test]
fn a_segment_that_is_read_gets_a_second_chance() {
    let (store, owners, mut ws) = (
        store_on(64, FaultyDevice::new(64)),
        Directory::new(252),
        workspace(),
    );
    for owner in 0..252 {
        owners.store(&store, owner, owner * 8, &mut ws).unwrap(); // 63 raw pages per segment
    }
    store.seal_all();
    owners.verify(&store, 0, &mut ws).unwrap();
    assert_eq!(store.writeback_oldest(Bytes(1)), Ok(Some(Bytes(SEGMENT))));
    assert!(store.is_in_ram(owners.at(0)) && !store.is_in_ram(owners.at(63)));
    // Only one chance: not read again, it goes when its turn comes.
    assert_eq!(
        store.writeback_oldest(Bytes(3 * SEGMENT)),
        Ok(Some(Bytes(3 * SEGMENT)))
    );
    assert!(!store.is_in_ram(owners.at(0)));
    assert_eq!(store.writeback_oldest(Bytes(1)), Ok(None));
    owners.check(&store, &mut ws);
}

#[test]
fn neighbours_on_a_device_are_read_with_one_call() {
    let device = FaultyDevice::new(8);
    let control = device.control();
    let (store, mut ws) = (store_on(8, device), workspace());
    let items: Vec<ReadItem> = (0..16)
        .map(|owner| ReadItem {
            at: store.append(owner, &any_page(owner), &mut ws).unwrap(),
            owner,
        })
        .collect();
    write_all_back(&store);
    let mut pages = vec![vec![0_u8; PAGE_SIZE]; 16];
    let mut results = vec![Err(StoreError::NoRoom); 16];
    let mut outs: Vec<&mut [u8]> = pages.iter_mut().map(Vec::as_mut_slice).collect();
    store.read_many(&items, &mut outs, &mut results, &mut ws);
    assert!(results.iter().all(Result::is_ok));
    assert!(
        (0_u64..)
            .zip(&pages)
            .all(|(owner, page)| *page == any_page(owner))
    );
    assert_eq!(control.calls().1, 1);
}

#[test]
fn a_mixed_block_is_read_from_everywhere() {
    let (store, owners, mut ws) = (
        store_on(64, FaultyDevice::new(64)),
        Directory::new(1000),
        workspace(),
    );
    for owner in 0..600 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    write_all_back(&store);
    for owner in 600..1000 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    let mut numbers = Numbers::new(5);
    for _ in 0..50 {
        let chosen: Vec<u64> = (0..=numbers.below(15))
            .map(|_| numbers.below(1000))
            .collect();
        let items: Vec<ReadItem> = chosen
            .iter()
            .map(|&owner| ReadItem {
                at: owners.at(owner),
                owner,
            })
            .collect();
        let mut pages = vec![vec![0_u8; PAGE_SIZE]; items.len()];
        let mut results = vec![Err(StoreError::NoRoom); items.len()];
        let mut outs: Vec<&mut [u8]> = pages.iter_mut().map(Vec::as_mut_slice).collect();
        store.read_many(&items, &mut outs, &mut results, &mut ws);
        assert!(results.iter().all(Result::is_ok));
        assert!(
            chosen
                .iter()
                .zip(&pages)
                .all(|(&owner, page)| *page == any_page(owner))
        );
    }
}

#[test]
fn another_owners_object_is_refused() {
    let (store, mut ws) = (ram_only(4), workspace());
    let at = store.append(1, &any_page(3), &mut ws).unwrap();
    let mut page = vec![0; PAGE_SIZE];
    let wrong = Err(StoreError::Corrupt {
        owner: 2,
        location: at.location,
    });
    assert_eq!(store.read(at, 2, &mut page, &mut ws), wrong);
    assert_eq!(store.read(at, 1, &mut page, &mut ws), Ok(()));
}

#[test]
fn a_store_without_devices_keeps_all_in_ram() {
    let (store, mut ws) = (ram_only(4), workspace());
    store.append(1, &noise_page(3), &mut ws).unwrap();
    store.seal_all();
    assert_eq!(store.writeback_oldest(Bytes(1)), Ok(None));
    assert!(!store.can_write_back());
}

#[test]
fn the_null_device_takes_everything_and_gives_nothing() {
    let (store, mut ws) = (store_on(4, NullDevice::new(4)), workspace());
    let at = store.append(1, &noise_page(3), &mut ws).unwrap();
    write_all_back(&store);
    let mut page = vec![0; PAGE_SIZE];
    assert!(matches!(
        store.read(at, 1, &mut page, &mut ws),
        Err(StoreError::Io(_))
    ));
}

#[test]
fn the_limit_can_be_lowered_and_raised() {
    let (store, owners, mut ws) = (
        store_on(32, swap_file(64)),
        Directory::new(600),
        workspace(),
    );
    for owner in 0..600 {
        owners.store(&store, owner, owner * 8, &mut ws).unwrap();
    }
    store.set_ram_limit(2);
    assert_eq!(owners.store(&store, 0, 8, &mut ws), Ok(())); // the open one has room
    while store.ram_bytes().0 > 2 * SEGMENT {
        assert!(store.writeback_oldest(Bytes(1)).unwrap().is_some());
    }
    owners.verify_all(&store, &mut ws);
    store.set_ram_limit(1_000_000);
    assert_eq!(store.ram_limit(), 32);
}

#[test]
fn open_segments_are_written_only_when_ram_is_short() {
    let (store, mut ws) = (store_on(2, FaultyDevice::new(8)), workspace());
    store.append(1, &noise_page(3), &mut ws).unwrap();
    assert_eq!(store.writeback_oldest(Bytes(1)), Ok(None));
    store.set_ram_limit(1);
    assert_eq!(store.writeback_oldest(Bytes(1)), Ok(Some(Bytes(SEGMENT))));
}

#[test]
fn cleaning_and_writeback_do_not_run_in_circles() {
    let (store, owners, mut ws) = (
        store_on(64, FaultyDevice::new(64)),
        Directory::new(1000),
        workspace(),
    );
    for owner in 0..1000 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    write_all_back(&store);
    for owner in (0..1000).filter(|owner| owner % 7 != 0) {
        owners.free(&store, owner);
    }
    let idle = (0..50).find(|_| {
        let cleaned = store.clean(&owners, &mut ws).segments;
        cleaned == 0 && store.writeback_oldest(Bytes(1)) == Ok(None)
    });
    assert!(idle.is_some());
    owners.verify_all(&store, &mut ws);
}
