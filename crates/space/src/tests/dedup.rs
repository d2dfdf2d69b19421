//! Entries with equal pages: shared, moved, written back, given up, forked; and never taken for equal when they are not.

use super::*;
use crate::{Backing, Dedup, DedupOptions, GroupId, SwapOut};
use vswap_store::dedup::fingerprint;
use vswap_store::testing::Fault;

const PAGES: u64 = 100;

/// All pages look alike: every candidate has to be told by its bytes.
fn all_alike(_page: &[u8]) -> u64 {
    42
}

/// Two in three pages look like one of eight others.
pub(super) fn mostly_alike(page: &[u8]) -> u64 {
    fingerprint(page) % 8
}

pub(super) fn sharing(layer: SwapLayer, scope: Dedup, print: fn(&[u8]) -> u64) -> SwapLayer {
    layer
        .with_dedup(DedupOptions {
            scope,
            index_pages: 1 << 14,
            fingerprint: print,
        })
        .unwrap()
}

/// A seed whose page compresses, and is worth sharing.
fn seed(i: u64) -> u64 {
    i * 35 + 1
}

fn fill(layer: &SwapLayer, workspace: &mut Workspace) -> Vec<EntryId> {
    let entries: Vec<_> = (0..PAGES)
        .map(|_| layer.allocate(1).unwrap().first())
        .collect();
    for (i, &entry) in (0..).zip(&entries) {
        store_page(layer, entry, seed(i), workspace);
    }
    entries
}

fn assert_filled(layer: &SwapLayer, entries: &[EntryId], workspace: &mut Workspace) {
    for (i, &entry) in (0..).zip(entries) {
        assert_eq!(load_page(layer, entry, workspace), page(seed(i)), "{i}");
    }
}

#[test]
fn equal_pages_take_the_space_of_one() {
    let (layer, mut workspace) = (sharing(layer(8), Dedup::Group, fingerprint), workspace());
    let first = fill(&layer, &mut workspace);
    let alone = layer.gauges().stored_bytes;
    let more: Vec<_> = (0..3).map(|_| fill(&layer, &mut workspace)).collect();
    let now = layer.gauges();
    assert_eq!(now.stored_bytes, alone);
    assert_eq!((now.shared_objects, now.shared_pages), (PAGES, 4 * PAGES));
    assert_eq!((now.stored_pages, now.dedup_hits), (4 * PAGES, 3 * PAGES));
    assert_eq!(now.dedup_saved_bytes, 3 * alone);
    assert!(matches!(layer.hint(first[0]), Backing::Shared(_)));
    assert_lawful(&layer);
    for entries in more.iter().chain([&first]) {
        assert_filled(&layer, entries, &mut workspace);
    }
}

#[test]
fn a_page_is_shared_and_says_so() {
    let (layer, mut workspace) = (sharing(layer(4), Dedup::Group, fingerprint), workspace());
    let range = layer.allocate(2).unwrap();
    let mut out = |i| {
        layer
            .pin(range.get(i).unwrap())
            .unwrap()
            .swap_out(&page(1), &mut workspace)
    };
    assert!(matches!(out(0), Ok(SwapOut::Stored { .. })));
    assert_eq!(out(1), Ok(SwapOut::Shared));
    // Again over itself: it stays one of two sharers.
    assert_eq!(out(1), Ok(SwapOut::Shared));
    assert_eq!(layer.gauges().shared_pages, 2);
    assert_lawful(&layer);
}

#[test]
fn without_deduplication_nothing_is_shared() {
    let options = DedupOptions::new(Dedup::Off, 1 << 10);
    let (layer, mut workspace) = (layer(8).with_dedup(options).unwrap(), workspace());
    fill(&layer, &mut workspace);
    fill(&layer, &mut workspace);
    assert_eq!(layer.gauges().shared_pages, 0);
    assert_lawful(&layer);
}

#[test]
fn pages_that_look_alike_and_differ_are_not_shared() {
    let (layer, mut workspace) = (sharing(layer(8), Dedup::Group, all_alike), workspace());
    let entries: Vec<_> = layer.allocate(40).unwrap().iter().collect();
    for (i, &entry) in (0..).zip(&entries) {
        store_page(&layer, entry, seed(i), &mut workspace);
    }
    let now = layer.gauges();
    assert_eq!((now.dedup_hits, now.dedup_different), (0, 39));
    assert_filled(&layer, &entries, &mut workspace);
    // The last one is known, so its twin is found among all that look alike.
    let twin = layer.allocate(1).unwrap().first();
    store_page(&layer, twin, seed(39), &mut workspace);
    assert_eq!(layer.gauges().dedup_hits, 1);
    assert_eq!(load_page(&layer, twin, &mut workspace), page(seed(39)));
    assert_lawful(&layer);
}

#[test]
fn one_byte_is_enough_to_be_another_page() {
    let (layer, mut workspace) = (sharing(layer(8), Dedup::Group, all_alike), workspace());
    let original = page(1);
    let entry = layer.allocate(1).unwrap().first();
    for byte in [0, 8, 1000, 2047, 2048, 4095] {
        layer
            .pin(entry)
            .unwrap()
            .swap_out(&original, &mut workspace)
            .unwrap();
        let mut other = original.clone();
        other[byte] ^= 0x80;
        let second = layer.allocate(1).unwrap().first();
        layer
            .pin(second)
            .unwrap()
            .swap_out(&other, &mut workspace)
            .unwrap();
        assert_eq!(load_page(&layer, second, &mut workspace), other);
        assert_eq!(load_page(&layer, entry, &mut workspace), original);
    }
    assert_eq!(layer.gauges().dedup_hits, 0);
    assert_lawful(&layer);
}

#[test]
fn the_object_stays_until_its_last_sharer_leaves_whoever_paid_first() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let (layer, mut workspace) = (sharing(layer(8), Dedup::Group, fingerprint), workspace());
        let mut copies: Vec<_> = (0..3).map(|_| Some(fill(&layer, &mut workspace))).collect();
        let bytes = layer.gauges().stored_bytes;
        for (gone, which) in order.into_iter().enumerate() {
            layer.free(&copies[which].take().unwrap());
            assert_lawful(&layer);
            for entries in copies.iter().flatten() {
                assert_eq!(layer.gauges().stored_bytes, bytes);
                assert_filled(&layer, entries, &mut workspace);
            }
            assert_eq!(layer.gauges().shared_pages, (2 - gone as u64) * PAGES);
        }
        let now = layer.gauges();
        assert_eq!(
            (now.stored_bytes, now.dedup_saved_bytes, now.shared_objects),
            (0, 0, 0)
        );
        assert_eq!(layer.store().live_bytes(), Bytes(0));
        layer.trim();
        assert_lawful(&layer);
    }
}

#[test]
fn an_entry_that_gets_other_bytes_leaves_the_others_theirs() {
    let (layer, mut workspace) = (sharing(layer(8), Dedup::Group, fingerprint), workspace());
    let (first, second) = (fill(&layer, &mut workspace), fill(&layer, &mut workspace));
    for (i, &entry) in (0..).zip(&first) {
        store_page(&layer, entry, 10_000 + i, &mut workspace);
    }
    assert_filled(&layer, &second, &mut workspace);
    for (i, &entry) in (0..).zip(&first) {
        assert_eq!(load_page(&layer, entry, &mut workspace), page(10_000 + i));
    }
    assert_lawful(&layer);
}

#[test]
fn shared_objects_move_with_the_cleaner() {
    let (layer, mut workspace) = (sharing(layer(8), Dedup::Group, fingerprint), workspace());
    let (first, second) = (fill(&layer, &mut workspace), fill(&layer, &mut workspace));
    let filler: Vec<_> = (0..2000)
        .map(|i| {
            let entry = layer.allocate(1).unwrap().first();
            store_page(&layer, entry, seed(1000 + i), &mut workspace);
            entry
        })
        .collect();
    let at = |entry| match layer.hint(entry) {
        Backing::Shared(id) => layer.shared_place(id).unwrap(),
        other => panic!("{other:?}"),
    };
    let before: Vec<_> = first.iter().map(|&entry| at(entry)).collect();
    layer.store().seal_all();
    layer.free(&filler);
    let mut moved = 0;
    loop {
        let cleaned = layer.clean(&mut workspace);
        moved += cleaned.objects;
        if cleaned.objects == 0 {
            break;
        }
    }
    assert!(u64::from(moved) >= PAGES, "{moved}");
    assert!(
        first
            .iter()
            .zip(&before)
            .all(|(&entry, &before)| at(entry) != before)
    );
    assert_filled(&layer, &first, &mut workspace);
    assert_filled(&layer, &second, &mut workspace);
    assert_lawful(&layer);
}

#[test]
fn shared_objects_are_written_back_and_read_from_the_device() {
    let (layer, control) = layer_with_device(8);
    let (layer, mut workspace) = (sharing(layer, Dedup::Group, fingerprint), workspace());
    let (first, second) = (fill(&layer, &mut workspace), fill(&layer, &mut workspace));
    write_back(&layer);
    assert!(first.iter().all(|&entry| layer.is_on_device(entry)));
    assert_filled(&layer, &first, &mut workspace);
    let mut pages = vec![vec![0; PAGE_SIZE]; 16];
    for (at, block) in second.chunks(16).enumerate() {
        let mut outs: Vec<_> = pages.iter_mut().map(Vec::as_mut_slice).collect();
        let mut results = vec![Ok(()); block.len()];
        layer.swap_in_block(block, &mut outs, &mut results, &mut workspace);
        for i in 0..block.len() {
            assert_eq!(results[i], Ok(()));
            assert_eq!(pages[i], page(seed((at * 16 + i) as u64)));
        }
    }
    // What is on a device is not worth I/O: the third copy is stored anew, the fourth shares with it.
    let hits = layer.gauges().dedup_hits;
    let third = fill(&layer, &mut workspace);
    assert_eq!(layer.gauges().dedup_hits, hits);
    let fourth = fill(&layer, &mut workspace);
    assert_eq!(layer.gauges().dedup_hits, hits + PAGES);
    for entries in [&first, &second, &third, &fourth] {
        assert_filled(&layer, entries, &mut workspace);
    }
    assert_lawful(&layer);
    drop(control);
}

#[test]
fn a_shared_page_that_cannot_be_read_is_lost_for_each_sharer_alone_and_counts_stay_right() {
    let (layer, control) = layer_with_device(8);
    let (layer, mut workspace) = (sharing(layer, Dedup::Group, fingerprint), workspace());
    let (first, second) = (fill(&layer, &mut workspace), fill(&layer, &mut workspace));
    write_back(&layer);
    let (single, mut out) = (first[0], vec![0; PAGE_SIZE]);
    // The store reads damaged bytes once more, and so does the layer. One damaged byte need not be in the page.
    let poisoned = (0..100).any(|_| {
        (0..4).for_each(|read| control.on_read(read, Fault::Corrupt));
        layer.swap_in(single, &mut out, &mut workspace).is_err()
    });
    assert!(poisoned);
    control.heal();
    assert_eq!(layer.hint(first[0]), Backing::Poisoned);
    assert_filled(&layer, &second, &mut workspace);
    assert_lawful(&layer);
}

#[test]
fn a_forked_child_has_shares_of_its_own() {
    let (layer, mut workspace) = (sharing(layer(8), Dedup::Group, fingerprint), workspace());
    let (first, second) = (fill(&layer, &mut workspace), fill(&layer, &mut workspace));
    layer.fork_prepare();
    layer.fork_child();
    layer.free(&first);
    assert_filled(&layer, &second, &mut workspace);
    assert_lawful(&layer);
    let third = fill(&layer, &mut workspace);
    layer.fork_prepare();
    layer.fork_parent(false);
    assert_filled(&layer, &third, &mut workspace);
    assert_lawful(&layer);
}

#[test]
fn a_full_store_still_shares_and_refuses_nothing_it_can_do() {
    let (layer, mut workspace) = (sharing(layer(1), Dedup::Group, fingerprint), workspace());
    let (first, second) = (fill(&layer, &mut workspace), fill(&layer, &mut workspace));
    let mut rest = Vec::new();
    for i in 0.. {
        let entry = layer.allocate(1).unwrap().first();
        rest.push(entry);
        let out = layer
            .pin(entry)
            .unwrap()
            .swap_out(&page(seed(5000 + i)), &mut workspace);
        if out.is_err() {
            break;
        }
    }
    let third = fill(&layer, &mut workspace);
    for entries in [&first, &second, &third] {
        assert_filled(&layer, entries, &mut workspace);
    }
    assert_lawful(&layer);
}

#[test]
fn collisions_of_the_index_never_share_different_bytes() {
    let (layer, mut workspace) = (sharing(layer(16), Dedup::Group, mostly_alike), workspace());
    let mut kept = Vec::new();
    for round in 0..40u64 {
        for i in 0..30 {
            let entry = layer.allocate(1).unwrap().first();
            let seed = seed((i * 7 + round) % 45);
            store_page(&layer, entry, seed, &mut workspace);
            kept.push((entry, seed));
        }
        if round % 3 == 0 {
            for (entry, _) in kept.drain(..20) {
                layer.free(&[entry]);
            }
        }
        layer.clean(&mut workspace);
    }
    for &(entry, seed) in &kept {
        assert_eq!(load_page(&layer, entry, &mut workspace), page(seed));
    }
    assert_lawful(&layer);
}

/// Two groups with the same page each, and a third sharer of the second group.
fn across(layer: &SwapLayer, groups: [GroupId; 3], workspace: &mut Workspace) -> Vec<EntryId> {
    let entries = groups.map(|group| layer.allocate_for(group, 1).unwrap().first());
    for entry in entries {
        store_page(layer, entry, seed(1), workspace);
    }
    entries.to_vec()
}

#[test]
fn groups_share_only_where_that_is_asked_for_and_the_charge_moves_when_the_payer_leaves() {
    for (scope, hits) in [(Dedup::Group, 1), (Dedup::Space, 2)] {
        let (layer, mut workspace) = (sharing(layer(8), scope, fingerprint), workspace());
        let [a, b] = [(); 2].map(|()| layer.store().groups().create(GroupId::ROOT).unwrap());
        let entries = across(&layer, [a, b, b], &mut workspace);
        assert_eq!(layer.gauges().dedup_hits, hits, "{scope:?}");
        assert_lawful(&layer);
        let charged = |group| layer.charge(group).unwrap().store.own_ram;
        if scope == Dedup::Space {
            assert_eq!((charged(a), charged(b)), (1, 0), "the first one pays");
        }
        layer.free(&entries[..1]);
        layer.store().seal_all();
        assert_eq!((charged(a), charged(b)), (0, 1), "{scope:?}");
        for &entry in &entries[1..] {
            assert_eq!(load_page(&layer, entry, &mut workspace), page(seed(1)));
        }
        assert_lawful(&layer);
        super::groups::end(&layer, a).unwrap();
        layer.free(&entries[1..]);
        super::groups::end(&layer, b).unwrap();
        assert_lawful(&layer);
    }
}

#[test]
fn a_group_that_may_not_write_back_shares_with_none_that_may() {
    let (layer, mut workspace) = (sharing(layer(8), Dedup::Space, fingerprint), workspace());
    let groups = layer.store().groups();
    let [a, b] = [(); 2].map(|()| groups.create(GroupId::ROOT).unwrap());
    groups.set_rules(b, false, 0);
    let [first, apart, last] = across(&layer, [a, b, a], &mut workspace)[..] else {
        panic!("three entries");
    };
    assert_eq!(layer.hint(first), layer.hint(last));
    assert!(matches!(layer.hint(apart), Backing::Stored(_)));
    assert_lawful(&layer);
}
