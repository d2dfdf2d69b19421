//! What was in a slot before it became a segment's.

use std::sync::Arc;

use vswap_platform::errno::Errno;
use vswap_platform::sync::RankedMutex;
use vswap_units::{Bytes, PAGE_SIZE};

use crate::device::{DeviceOptions, SwapDevice};
use crate::testing::{noise_page, text_page};
use crate::{CodecKind, SEGMENT_BYTES, Store, StoreOptions, Stored, Workspace};

const LEFT: u8 = 0xa7;
const SLOTS: u32 = 4;

/// Keeps what was written to it.
struct Recorder(Arc<RankedMutex<Vec<u8>, 59>>);

impl SwapDevice for Recorder {
    fn capacity_places(&self) -> u32 {
        64
    }

    fn write(&self, _: u32, bytes: &[u8]) -> Result<(), Errno> {
        self.0.lock().extend_from_slice(bytes);
        Ok(())
    }

    fn read(&self, _: u32, _: usize, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EIO)
    }

    fn discard(&self, _: u32) -> Result<(), Errno> {
        Ok(())
    }
}

fn check(store: &Store, stored: &[(u64, Stored)], ws: &mut Workspace) {
    let report = store.check(&mut stored.iter().copied(), ws);
    assert!(report.is_clean(), "{report:?}");
}

/// Slots that are taken from now on held other bytes before.
fn soil(store: &Store) {
    let slots: Vec<u32> = (0..SLOTS).map_while(|_| store.ram.take(0)).collect();
    assert_eq!(slots.len(), SLOTS as usize);
    for slot in slots {
        store.ram.tail(slot, 0).unwrap().fill(LEFT);
        store.ram.put(slot);
    }
}

#[test]
fn what_a_slot_held_before_is_never_written_to_a_device() {
    let store = Store::new(StoreOptions::new(SLOTS, 0)).unwrap();
    soil(&store);
    let written = Arc::new(RankedMutex::new(Vec::new()));
    let device = Recorder(Arc::clone(&written));
    store
        .swapon(Box::new(device), DeviceOptions::default())
        .unwrap();
    let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
    // Pages of many lengths, none of which holds the byte.
    for seed in 0..1500 {
        let page = text_page(seed);
        store.append(seed + 1, &page, &mut ws).unwrap();
    }
    store.seal_all();
    while store.writeback_oldest(Bytes(1)).unwrap().is_some() {}
    let written = written.lock();
    assert!(written.len() > 2 * SEGMENT_BYTES, "{}", written.len());
    let longest = written
        .chunk_by(|a, b| a == b)
        .filter(|same| same.first() == Some(&LEFT))
        .map(<[u8]>::len)
        .max();
    // A header or a checksum may have the byte by chance.
    assert!(longest.unwrap_or(0) < 3, "{longest:?} bytes in a row");
}

#[test]
fn pages_given_to_the_log_are_its_next_slot_and_all_are_counted() {
    let store = Store::new(StoreOptions::new(SLOTS, 0)).unwrap();
    let pages = SEGMENT_BYTES / PAGE_SIZE;
    let (area, _) = store.ram_area();
    let mut places = Vec::new();
    let mut give = |pages: usize| {
        store.fill_ram(pages, |place, most| {
            places.push((place - area) / PAGE_SIZE);
            most
        })
    };
    assert_eq!(give(16), 16);
    assert_eq!(give(16), 16);
    assert_eq!(give(40), 32, "no more than the slot wants");
    assert_eq!(give(16), 0, "one ready slot is enough");
    assert_eq!(places, [0, 16, 32]);
    assert_eq!(store.ram_bytes(), Bytes(SEGMENT_BYTES as u64));
    let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
    let page = noise_page(1);
    let kept = store.append(1, &page, &mut ws).unwrap();
    assert_eq!(store.ram_bytes(), Bytes(SEGMENT_BYTES as u64));
    check(&store, &[(1, kept)], &mut ws);
    // Half a slot: the log wants it before it is full.
    assert_eq!(store.fill_ram(pages / 2, |_, most| most), pages / 2);
    let mut stored = vec![(1, kept)];
    for owner in 2..100 {
        stored.push((
            owner,
            store.append(owner, &noise_page(owner), &mut ws).unwrap(),
        ));
    }
    let mut out = vec![0; PAGE_SIZE];
    for &(owner, at) in &stored {
        store.read(at, owner, &mut out, &mut ws).unwrap();
        assert_eq!(out, noise_page(owner));
    }
    check(&store, &stored, &mut ws);
}

#[test]
fn a_slot_begun_in_vain_goes_back_and_one_begun_well_goes_when_memory_is_wanted() {
    let store = Store::new(StoreOptions::new(SLOTS, 0)).unwrap();
    assert_eq!(store.fill_ram(16, |_, _| 0), 0);
    assert_eq!(store.ram_bytes(), Bytes(0));
    assert_eq!(store.fill_ram(16, |_, most| most), 16);
    assert_eq!(store.ram_bytes(), Bytes(SEGMENT_BYTES as u64));
    store.ram.trim();
    assert_eq!(store.ram_bytes(), Bytes(0));
    check(&store, &[], &mut Workspace::new(CodecKind::Lz4).unwrap());
}

#[test]
fn an_open_segment_of_which_nothing_is_alive_is_begun_anew() {
    let store = Store::new(StoreOptions::new(SLOTS, 0)).unwrap();
    let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
    let mut append = |owner| store.append(owner, &noise_page(owner), &mut ws).unwrap();
    let dead: Vec<Stored> = (1..20).map(&mut append).collect();
    dead.into_iter().for_each(|at| store.free(at));
    let kept: Vec<(u64, Stored)> = (21..80).map(|owner| (owner, append(owner))).collect();
    // 59 pages of 4 KiB and a header: one segment, where 19 dead ones before them would make it two.
    assert_eq!(store.ram_bytes(), Bytes(SEGMENT_BYTES as u64));
    check(&store, &kept, &mut ws);
}
