//! Groups: every entry has a payer, and pays where its cluster does.

use super::*;
use crate::{CLUSTER_ENTRIES, GroupId, Parted, StillInUse};
use vswap_store::{Resource, StoreError};

fn group(layer: &SwapLayer, parent: GroupId) -> GroupId {
    layer.store().groups().create(parent).unwrap()
}

fn entries(layer: &SwapLayer, group: GroupId, n: usize) -> Vec<EntryId> {
    let ranges = (0..n).step_by(16).map(|_| layer.allocate_for(group, 16));
    ranges.flat_map(|range| range.unwrap().iter()).collect()
}

/// The end of a group whose number of parted guests is of no interest.
pub(super) fn end(layer: &SwapLayer, group: GroupId) -> Result<Parted, StillInUse> {
    layer.end_group(group, &mut [0; PAGE_SIZE], &mut workspace())
}

#[test]
fn an_entry_belongs_to_the_group_it_was_made_for_and_shares_no_cluster_with_others() {
    let (layer, mut workspace) = (layer(8), workspace());
    let [a, b] = [group(&layer, GroupId::ROOT), group(&layer, GroupId::ROOT)];
    let mut clusters = Vec::new();
    for payer in [a, GroupId::ROOT, b, a, GroupId::ROOT] {
        for entry in entries(&layer, payer, 160) {
            assert_eq!(layer.group_of(entry), payer);
            clusters.push((entry.cluster(), payer));
            store_page(&layer, entry, entry.get(), &mut workspace);
        }
    }
    clusters.sort_unstable();
    clusters.dedup();
    assert_eq!(clusters.len(), 3);
    assert_eq!(layer.charge(a).unwrap().entries, 320);
    assert_eq!(layer.charge(GroupId::ROOT).unwrap().entries, 320);
    assert_eq!(layer.charge(GroupId::ROOT).unwrap().all_entries, 800);
    assert_lawful(&layer);
}

#[test]
fn a_cluster_that_ran_empty_serves_another_group() {
    let layer = layer(4);
    let a = group(&layer, GroupId::ROOT);
    let of_a = entries(&layer, a, CLUSTER_ENTRIES);
    layer.free(&of_a);
    layer.trim();
    assert_lawful(&layer);
    let of_root = entries(&layer, GroupId::ROOT, 16);
    assert_eq!(of_root[0].cluster(), of_a[0].cluster());
    assert_eq!(layer.group_of(of_root[0]), GroupId::ROOT);
    assert_eq!(layer.charge(a).unwrap().entries, 0);
    assert_lawful(&layer);
}

#[test]
fn a_group_takes_entries_only_from_clusters_of_its_own_however_full_they_are() {
    let layer = layer(4);
    let a = group(&layer, GroupId::ROOT);
    // Many clusters of the root with a hole each, below the one of the group.
    let mut holes = entries(&layer, GroupId::ROOT, 40 * CLUSTER_ENTRIES);
    let of_a = entries(&layer, a, CLUSTER_ENTRIES);
    holes.retain(|entry| entry.offset() < 16);
    layer.free(&holes);
    layer.free(&of_a[32..48]);
    layer.trim();
    let again = layer.allocate_for(a, 16).unwrap();
    assert_eq!(again.first().cluster(), of_a[0].cluster());
    assert_lawful(&layer);
}

#[test]
fn a_group_at_its_limit_keeps_its_pages_and_others_go_on() {
    let (layer, mut workspace) = (layer(8), workspace());
    let [tight, other] = [group(&layer, GroupId::ROOT), group(&layer, GroupId::ROOT)];
    let groups = layer.store().groups();
    groups.set_limit(tight, Resource::Ram, Some(1)).unwrap();
    let mut refused = 0;
    for (at, entry) in entries(&layer, tight, 160).into_iter().enumerate() {
        layer.cache(entry, at as u32);
        let swapped = layer
            .pin(entry)
            .unwrap()
            .swap_out(&page(7 * at as u64 + 7), &mut workspace);
        if swapped.is_err() {
            assert_eq!(swapped, Err(StoreError::NoRoom));
            assert_eq!(layer.hint(entry), crate::Backing::Cached(at as u32));
            refused += 1;
        }
    }
    assert!(refused > 0);
    assert_eq!(layer.charge(tight).unwrap().store.fail_events, refused);
    for entry in entries(&layer, other, 160) {
        store_page(&layer, entry, 7 * entry.get(), &mut workspace);
    }
    assert_lawful(&layer);
}

#[test]
fn a_group_ends_when_its_entries_are_free_and_gives_everything_back() {
    let (layer, mut workspace) = (layer(8), workspace());
    let a = group(&layer, GroupId::ROOT);
    let below = group(&layer, a);
    let of_below = entries(&layer, below, 320);
    for &entry in &of_below {
        store_page(&layer, entry, entry.get(), &mut workspace);
    }
    assert_eq!(end(&layer, below), Err(StillInUse::Entries(320)));
    assert_eq!(end(&layer, a), Err(StillInUse::NotALeaf));
    layer.free(&of_below);
    assert_eq!(end(&layer, below), Ok(Parted::default()));
    assert_eq!(end(&layer, a), Ok(Parted::default()));
    assert_eq!((layer.charge(a), layer.charge(below)), (None, None));
    assert_eq!(layer.gauges().entries, 0);
    assert_eq!(layer.charge(GroupId::ROOT).unwrap().store.ram, 0);
    assert_lawful(&layer);
}

#[test]
fn a_forked_child_keeps_groups_apart() {
    let (layer, mut workspace) = (layer(8), workspace());
    let a = group(&layer, GroupId::ROOT);
    for entry in entries(&layer, a, 80) {
        store_page(&layer, entry, entry.get(), &mut workspace);
    }
    layer.fork_prepare();
    layer.fork_child();
    for entry in entries(&layer, a, 80) {
        store_page(&layer, entry, entry.get(), &mut workspace);
        assert_eq!(layer.group_of(entry), a);
    }
    assert_lawful(&layer);
}

#[test]
fn a_page_that_goes_to_a_slot_because_of_a_limit_found_room_and_is_no_failure() {
    let (layer, _) = super::slots::layer_with_slots(8, 4);
    let mut workspace = workspace();
    let tight = group(&layer, GroupId::ROOT);
    let groups = layer.store().groups();
    groups.set_limit(tight, Resource::Ram, Some(0)).unwrap();
    let all = entries(&layer, tight, 64);
    for &entry in &all {
        // Pages that compress, so that the log is asked first.
        store_page(&layer, entry, 16 * entry.get() + 1, &mut workspace);
    }
    let charge = layer.charge(tight).unwrap().store;
    assert!(layer.gauges().slot_pages > 0 && charge.ram_max_events > 0);
    assert_eq!((charge.fail_events, groups.refused_by(tight)), (0, None));
    // One more than there are slots has no room anywhere.
    for entry in entries(&layer, tight, 256) {
        let mut pin = layer.pin(entry).unwrap();
        let _ = pin.swap_out(&page(16 * entry.get() + 1), &mut workspace);
    }
    let fails = layer.charge(tight).unwrap().store.fail_events;
    assert!(fails > 0 && groups.refused_by(tight) == Some(tight));
    assert_lawful(&layer);
}

#[test]
fn what_groups_may_share_no_longer_is_parted_and_stays_off_forbidden_devices() {
    let (layer, _control) = layer_with_device(8);
    let print = vswap_store::dedup::fingerprint;
    let layer = super::dedup::sharing(layer, crate::Dedup::Space, print);
    let (mut workspace, mut buffer) = (workspace(), vec![0; PAGE_SIZE]);
    let [pays, guest] = [group(&layer, GroupId::ROOT), group(&layer, GroupId::ROOT)];
    let (theirs, ours) = (entries(&layer, pays, 64), entries(&layer, guest, 64));
    for (i, (&a, &b)) in (1_u64..).zip(theirs.iter().zip(&ours)) {
        store_page(&layer, a, 35 * i + 1, &mut workspace);
        store_page(&layer, b, 35 * i + 1, &mut workspace);
    }
    let shared = layer.gauges().shared_pages;
    assert!(shared > 100, "{shared}");
    layer.store().groups().set_rules(guest, false, 0);
    let parted = layer.part_guests(&mut buffer, &mut workspace);
    assert_eq!((parted.pages, parted.left), (shared / 2, 0));
    assert_eq!(layer.part_guests(&mut buffer, &mut workspace).pages, 0);
    write_back(&layer);
    assert!(theirs.iter().all(|&entry| layer.is_on_device(entry)));
    assert!(ours.iter().all(|&entry| !layer.is_on_device(entry)));
    for (i, (&a, &b)) in (1_u64..).zip(theirs.iter().zip(&ours)) {
        assert_eq!(load_page(&layer, a, &mut workspace), page(35 * i + 1));
        assert_eq!(load_page(&layer, b, &mut workspace), page(35 * i + 1));
    }
    assert_lawful(&layer);
}

/// Pages that `first` and `second` share, in segments of `first`'s on the only device.
fn shared_on_device(
    layer: &SwapLayer,
    [first, second]: [GroupId; 2],
    workspace: &mut Workspace,
) -> [Vec<EntryId>; 2] {
    let both = [first, second].map(|group| entries(layer, group, 64));
    for entries in &both {
        for (i, &entry) in (1_u64..).zip(entries) {
            store_page(layer, entry, 35 * i + 1, workspace);
        }
    }
    assert_eq!(layer.gauges().shared_pages, 128);
    write_back(layer);
    assert!(
        both.iter()
            .flatten()
            .all(|&entry| layer.is_on_device(entry))
    );
    both
}

#[test]
fn guests_of_a_payer_who_left_while_the_object_was_on_a_device_are_parted_when_rules_change() {
    let (layer, _control) = layer_with_device(8);
    let print = vswap_store::dedup::fingerprint;
    let layer = super::dedup::sharing(layer, crate::Dedup::Space, print);
    let (mut workspace, mut buffer) = (workspace(), vec![0; PAGE_SIZE]);
    let [host, guest] = [group(&layer, GroupId::ROOT), group(&layer, GroupId::ROOT)];
    let [theirs, ours] = shared_on_device(&layer, [host, guest], &mut workspace);
    layer.free(&theirs);
    layer.store().groups().set_rules(guest, false, 0);
    let parted = layer.part_guests(&mut buffer, &mut workspace);
    assert_eq!((parted.pages, parted.left), (64, 0));
    write_back(&layer);
    assert!(ours.iter().all(|&entry| !layer.is_on_device(entry)));
    for (i, &entry) in (1_u64..).zip(&ours) {
        assert_eq!(load_page(&layer, entry, &mut workspace), page(35 * i + 1));
    }
    assert_lawful(&layer);
}

#[test]
fn the_end_of_a_group_parts_those_who_may_not_go_where_its_parent_may() {
    for may in [false, true] {
        let (layer, _control) = layer_with_device(8);
        let print = vswap_store::dedup::fingerprint;
        let layer = super::dedup::sharing(layer, crate::Dedup::Space, print);
        let mut workspace = workspace();
        let [host, guest] = [group(&layer, GroupId::ROOT), group(&layer, GroupId::ROOT)];
        let [theirs, ours] = shared_on_device(&layer, [host, guest], &mut workspace);
        layer.free(&theirs);
        // Both may use the device their pages are on, and not the second one.
        if !may {
            for group in [host, guest] {
                layer.store().groups().set_rules(group, true, 2);
            }
        }
        let parted = end(&layer, host).unwrap();
        assert_eq!((parted.pages, parted.left), (if may { 0 } else { 64 }, 0));
        for (i, &entry) in (1_u64..).zip(&ours) {
            assert_eq!(load_page(&layer, entry, &mut workspace), page(35 * i + 1));
        }
        assert!(ours.iter().all(|&entry| layer.is_on_device(entry) == may));
        assert_lawful(&layer);
    }
}
