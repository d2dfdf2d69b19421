//! The life of an entry, from one side at a time.

use super::*;
use crate::{Backing, DeadEntry, Freed, GroupId, SwapInError, SwapOut};
use vswap_platform::errno::Errno;
use vswap_store::StoreError;
use vswap_store::testing::Fault;

fn one(layer: &SwapLayer) -> EntryId {
    layer.allocate(1).unwrap().first()
}

#[test]
fn a_page_comes_back_as_it_went() {
    let (layer, mut workspace) = (layer(4), workspace());
    let range = layer.allocate(16).unwrap();
    for (i, entry) in range.iter().enumerate() {
        assert!(layer.cache(entry, i as u32));
        store_page(&layer, entry, i as u64, &mut workspace);
    }
    for (i, entry) in range.iter().enumerate() {
        assert_eq!(load_page(&layer, entry, &mut workspace), page(i as u64));
    }
    assert_lawful(&layer);
}

#[test]
fn a_page_of_one_word_takes_no_space() {
    let (layer, mut workspace) = (layer(4), workspace());
    let entry = one(&layer);
    let mut pin = layer.pin(entry).unwrap();
    let out = pin.swap_out(&1.0f64.to_ne_bytes().repeat(512), &mut workspace);
    assert_eq!(out, Ok(SwapOut::Same));
    drop(pin);
    assert_eq!(layer.hint(entry), Backing::Same(1.0f64.to_bits()));
    assert_eq!(
        (
            layer.gauges().same_filled_pages,
            layer.gauges().stored_bytes
        ),
        (1, 0)
    );
    assert_eq!(
        load_page(&layer, entry, &mut workspace),
        1.0f64.to_ne_bytes().repeat(512)
    );
    layer.free(&[entry]);
    assert_eq!(layer.gauges().same_filled_pages, 0);
    assert_lawful(&layer);
}

#[test]
fn a_dead_entry_refuses_everything() {
    let (layer, mut workspace) = (layer(4), workspace());
    let entry = one(&layer);
    assert_eq!(
        layer.free(&[entry]),
        Freed {
            freed: 1,
            ..Freed::default()
        }
    );
    assert_eq!(layer.duplicate(entry), Err(DeadEntry));
    assert!(layer.pin(entry).is_none());
    assert!(!layer.cache(entry, 3));
    assert_eq!(layer.count(entry), 0);
    assert_eq!(
        layer.free(&[entry]),
        Freed {
            dead: 1,
            ..Freed::default()
        }
    );
    let mut out = page(1);
    assert_eq!(
        layer.swap_in(entry, &mut out, &mut workspace),
        Err(SwapInError::Empty)
    );
    assert_lawful(&layer);
}

#[test]
fn an_entry_outside_the_table_is_dead() {
    let layer = layer(4);
    let outside = EntryId::new(1 << 39).unwrap();
    assert!(layer.pin(outside).is_none());
    assert_eq!(layer.duplicate(outside), Err(DeadEntry));
    assert_eq!(layer.free(&[outside]).dead, 1);
}

#[test]
fn a_duplicated_entry_lives_until_its_last_free() {
    let (layer, mut workspace) = (layer(4), workspace());
    let entry = one(&layer);
    store_page(&layer, entry, 3, &mut workspace);
    assert_eq!(
        (layer.duplicate(entry), layer.duplicate(entry)),
        (Ok(2), Ok(3))
    );
    assert_eq!(layer.free(&[entry, entry]).still_counted, 2);
    assert_eq!(layer.count(entry), 1);
    assert_eq!(load_page(&layer, entry, &mut workspace), page(3));
    assert_lawful(&layer);
    assert_eq!(layer.free(&[entry]).freed, 1);
    assert_lawful(&layer);
}

#[test]
fn counts_do_not_survive_their_cluster() {
    let layer = layer(4);
    let entry = one(&layer);
    layer.duplicate(entry).unwrap();
    layer.free(&[entry, entry]);
    layer.trim();
    assert_lawful(&layer);
    assert_eq!(layer.count(one(&layer)), 1);
    assert_lawful(&layer);
}

#[test]
fn a_taken_frame_belongs_to_its_taker_alone() {
    let layer = layer(4);
    let entry = one(&layer);
    assert!(layer.cache(entry, 77));
    assert!(!layer.cache(entry, 78));
    let mut pin = layer.pin(entry).unwrap();
    assert_eq!(pin.take_frame(), Some(77));
    assert_eq!(pin.take_frame(), None);
    drop(pin);
    assert_eq!((layer.hint(entry), layer.count(entry)), (Backing::None, 1));
    assert_lawful(&layer);
}

#[test]
fn a_frame_keeps_a_freed_entry_alive_until_it_is_taken() {
    let (layer, mut workspace) = (layer(4), workspace());
    let [first, second] = [one(&layer), one(&layer)];
    assert!(layer.cache(first, 1) && layer.cache(second, 2));
    assert_eq!(layer.free(&[first, second]).still_cached, 2);
    assert_eq!(
        (layer.count(first), layer.duplicate(first)),
        (0, Err(DeadEntry))
    );
    assert_eq!(layer.free(&[first]).dead, 1);
    assert_lawful(&layer);
    assert_eq!(layer.pin(first).unwrap().take_frame(), Some(1));
    let unneeded = layer
        .pin(second)
        .unwrap()
        .swap_out(&page(1), &mut workspace);
    assert_eq!(unneeded, Ok(SwapOut::Unneeded));
    assert!(layer.pin(first).is_none() && layer.pin(second).is_none());
    assert_eq!(layer.charge(GroupId::ROOT).unwrap().entries, 0);
    assert_lawful(&layer);
}

#[test]
fn frames_of_freed_entries_can_go_to_their_owner_at_once() {
    let layer = layer(4);
    let range = layer.allocate(4).unwrap();
    let entries: Vec<_> = range.iter().collect();
    assert!(layer.cache(entries[1], 10) && layer.cache(entries[3], 30));
    let mut frames = Vec::new();
    let freed = layer.free_into(&entries, &mut |entry, frame| frames.push((entry, frame)));
    assert_eq!(freed.freed, 4);
    assert_eq!(frames, [(entries[1], 10), (entries[3], 30)]);
    assert_lawful(&layer);
}

#[test]
fn an_entry_freed_under_its_pin_returns_its_frame() {
    let (layer, mut workspace) = (layer(4), workspace());
    let [cached, stored, twice] = [one(&layer), one(&layer), one(&layer)];
    assert!(layer.cache(cached, 5));
    store_page(&layer, stored, 1, &mut workspace);
    layer.duplicate(twice).unwrap();
    assert_eq!(layer.pin(cached).unwrap().free(), Some(5));
    assert_eq!(layer.pin(stored).unwrap().free(), None);
    assert_eq!(layer.pin(twice).unwrap().free(), None);
    assert_eq!(
        [cached, stored, twice].map(|entry| layer.count(entry)),
        [0, 0, 1]
    );
    assert_lawful(&layer);
}

#[test]
fn no_room_leaves_the_page_in_its_frame() {
    let (layer, mut workspace) = (layer(1), workspace());
    let mut stored = Vec::new();
    let (entry, error) = loop {
        let entry = one(&layer);
        layer.cache(entry, stored.len() as u32);
        let noise = 7 * (stored.len() as u64 * 5 + 1);
        match layer
            .pin(entry)
            .unwrap()
            .swap_out(&page(noise), &mut workspace)
        {
            Ok(_) => stored.push((entry, noise)),
            Err(error) => break (entry, error),
        }
        assert!(stored.len() < 10_000, "the store has no limit");
    };
    assert_eq!(error, StoreError::NoRoom);
    assert_eq!(layer.hint(entry), Backing::Cached(stored.len() as u32));
    for &(entry, seed) in &stored {
        assert_eq!(load_page(&layer, entry, &mut workspace), page(seed));
    }
    assert_lawful(&layer);
}

#[test]
fn new_bytes_replace_old_ones_and_their_object() {
    let (layer, mut workspace) = (layer(4), workspace());
    let entry = one(&layer);
    for seed in [1, 2, 5, 3, 10, 7] {
        store_page(&layer, entry, seed, &mut workspace);
        assert_eq!(load_page(&layer, entry, &mut workspace), page(seed));
        assert_lawful(&layer);
    }
}

#[test]
fn a_poisoned_entry_says_so_and_can_be_freed() {
    let (layer, mut workspace) = (layer(4), workspace());
    let entry = one(&layer);
    store_page(&layer, entry, 1, &mut workspace);
    layer.pin(entry).unwrap().poison();
    let mut out = page(0);
    assert_eq!(
        layer.swap_in(entry, &mut out, &mut workspace),
        Err(SwapInError::Poisoned)
    );
    assert_eq!(layer.gauges().stored_pages, 0);
    assert_lawful(&layer);
    assert_eq!(layer.free(&[entry]).freed, 1);
    assert_lawful(&layer);
}

#[test]
fn a_block_comes_back_whatever_its_backings() {
    let (layer, mut workspace) = (layer(4), workspace());
    let entries: Vec<_> = layer.allocate(16).unwrap().iter().collect();
    for (i, &entry) in entries.iter().enumerate().skip(2) {
        store_page(&layer, entry, i as u64, &mut workspace);
    }
    layer.cache(entries[1], 9);
    let mut pages = vec![vec![0; PAGE_SIZE]; 16];
    let mut outs: Vec<&mut [u8]> = pages.iter_mut().map(Vec::as_mut_slice).collect();
    let mut results = [Ok(()); 16];
    layer.swap_in_block(&entries, &mut outs, &mut results, &mut workspace);
    assert_eq!(
        results[..2],
        [Err(SwapInError::Empty), Err(SwapInError::Cached(9))]
    );
    for i in 2..16 {
        assert_eq!((results[i], &pages[i]), (Ok(()), &page(i as u64)));
    }
    assert_lawful(&layer);
}

#[test]
fn the_store_moves_objects_without_their_owners_noticing() {
    let (layer, mut workspace) = (layer(16), workspace());
    let entries: Vec<_> = (0..64)
        .flat_map(|_| layer.allocate(16).unwrap().iter())
        .collect();
    for (i, &entry) in entries.iter().enumerate() {
        store_page(&layer, entry, i as u64, &mut workspace);
    }
    let (kept, gone): (Vec<_>, Vec<_>) = entries.iter().enumerate().partition(|(i, _)| i % 4 == 0);
    layer.free(&gone.iter().map(|&(_, &entry)| entry).collect::<Vec<_>>());
    for _ in 0..50 {
        layer.clean(&mut workspace);
        assert_lawful(&layer);
    }
    for (i, &entry) in kept {
        assert_eq!(load_page(&layer, entry, &mut workspace), page(i as u64));
    }
}

#[test]
fn written_back_pages_are_read_in_blocks() {
    let (layer, control) = layer_with_device(4);
    let mut workspace = workspace();
    let entries: Vec<_> = layer.allocate(16).unwrap().iter().collect();
    for (i, &entry) in entries.iter().enumerate() {
        store_page(&layer, entry, 5 * i as u64 + 1, &mut workspace);
    }
    write_back(&layer);
    let mut pages = vec![vec![0; PAGE_SIZE]; 16];
    let mut outs: Vec<&mut [u8]> = pages.iter_mut().map(Vec::as_mut_slice).collect();
    let mut results = [Err(SwapInError::Empty); 16];
    layer.swap_in_block(&entries, &mut outs, &mut results, &mut workspace);
    assert_eq!(results, [Ok(()); 16]);
    assert!(
        pages
            .iter()
            .enumerate()
            .all(|(i, found)| *found == page(5 * i as u64 + 1))
    );
    assert_eq!(control.calls().1, 1, "one read for 16 neighbours");
    assert_eq!(layer.gauges().swap_in_pages, 16);
    assert_lawful(&layer);
}

#[test]
fn a_failing_read_loses_nothing_but_a_damaged_one_poisons() {
    let (layer, control) = layer_with_device(4);
    let (entry, mut workspace) = (one(&layer), workspace());
    store_page(&layer, entry, 1, &mut workspace);
    write_back(&layer);
    let mut out = vec![0; PAGE_SIZE];
    control.on_read(0, Fault::Error(Errno::EIO));
    let failed = layer.swap_in(entry, &mut out, &mut workspace);
    assert_eq!(failed, Err(SwapInError::Store(StoreError::Io(Errno::EIO))));
    assert_eq!(load_page(&layer, entry, &mut workspace), page(1));
    control.on_read(0, Fault::Corrupt);
    assert_eq!(load_page(&layer, entry, &mut workspace), page(1));
    let short = layer.swap_in(entry, &mut out[..100], &mut workspace);
    assert_eq!(
        short,
        Err(SwapInError::Store(StoreError::Io(Errno::EINVAL)))
    );
    // The store reads damaged bytes once more, and so does the layer.
    for read in 0..4 {
        control.on_read(read, Fault::Corrupt);
    }
    assert_eq!(
        layer.swap_in(entry, &mut out, &mut workspace),
        Err(SwapInError::Poisoned)
    );
    assert_eq!(
        (layer.hint(entry), layer.gauges().poisoned_pages),
        (Backing::Poisoned, 1)
    );
    assert_lawful(&layer);
}

#[test]
fn an_empty_layer_holds_nearly_nothing() {
    let layer = layer(4);
    let used_little = layer.table_bytes();
    let entries: Vec<_> = (0..1000)
        .flat_map(|_| layer.allocate(16).unwrap().iter())
        .collect();
    let descriptors = entries.len() * 8;
    assert!(layer.table_bytes() >= used_little + descriptors);
    assert_eq!(layer.free(&entries).freed, entries.len());
    layer.trim();
    assert!(
        layer.table_bytes() <= used_little + 32 * 4096,
        "{}",
        layer.table_bytes()
    );
    assert_lawful(&layer);
}

#[test]
fn every_entry_of_a_small_layer_can_be_handed_out() {
    let store = Store::new(StoreOptions::new(4, 0)).unwrap();
    let layer = SwapLayer::new(LayerOptions { max_entries: 2048 }, store).unwrap();
    let mut entries: Vec<_> = std::iter::from_fn(|| layer.allocate(1))
        .map(|range| range.first())
        .collect();
    assert_eq!(entries.len(), layer.capacity());
    assert_lawful(&layer);
    entries.sort_unstable();
    entries.dedup();
    assert_eq!(entries.len(), layer.capacity());
    assert_eq!(layer.free(&entries[..100]).freed, 100);
    assert_eq!(std::iter::from_fn(|| layer.allocate(4)).count(), 25);
    assert_lawful(&layer);
}

#[test]
fn ranges_are_aligned_and_stay_in_their_cluster() {
    let layer = layer(4);
    for n in [1, 2, 3, 15, 16, 17, 64, 100, 512] {
        let range = layer.allocate(n).unwrap();
        assert_eq!(range.first().get() % n.next_power_of_two() as u64, 0);
        assert_eq!(range.iter().count(), n);
        assert_eq!(
            range.first().get() / 512,
            range.get(n - 1).unwrap().get() / 512
        );
    }
    assert!(layer.allocate(0).is_none() && layer.allocate(513).is_none());
    assert_lawful(&layer);
}

#[test]
fn after_a_fork_hook_everything_goes_on() {
    let (layer, mut workspace) = (layer(4), workspace());
    let entry = one(&layer);
    store_page(&layer, entry, 1, &mut workspace);
    layer.fork_prepare();
    layer.fork_parent(false);
    store_page(&layer, one(&layer), 2, &mut workspace);
    layer.fork_prepare();
    layer.fork_child();
    assert_eq!(load_page(&layer, entry, &mut workspace), page(1));
    assert_lawful(&layer);
    assert!(layer.allocate(16).is_some());
    assert_lawful(&layer);
}
