//! Groups of a layer under test: who pays, and for how much at most.

use std::ffi::c_int;

use vswap_space::{EntryId, GroupId, StillInUse};
use vswap_store::Resource;
use vswap_units::{Bytes, PAGE_SIZE};

use crate::layer::{layer_of, vswap_layer};

fn resource_of(number: c_int) -> Option<Resource> {
    match number {
        0 => Some(Resource::Ram),
        1 => Some(Resource::Device),
        _ => None,
    }
}

fn count_of(pages: u64) -> c_int {
    c_int::try_from(pages).unwrap_or(c_int::MAX)
}

/// Makes a group under `parent` (0: the root). Returns its number, or -ENOSPC; -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_group_create(layer: *mut vswap_layer, parent: usize) -> c_int {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(GroupId::new(parent));
    let Some((layer, parent)) = found else {
        return -libc::EINVAL;
    };
    let made = layer.layer.store().groups().create(parent);
    made.map_or(-libc::ENOSPC, |group| group.index() as c_int)
}

/// Ends a group. Pages of others in its segments that may not go where its parent's may get bytes of their own. Returns how
/// many found no room for that, or -EBUSY (entries of it are in use), -ENOTEMPTY (it has children or is no such group);
/// -EINVAL. Nobody makes a group, ends one or allocates for it meanwhile.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_group_end(layer: *mut vswap_layer, group: usize) -> c_int {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(GroupId::new(group));
    let Some((layer, group)) = found else {
        return -libc::EINVAL;
    };
    let mut page = vec![0; PAGE_SIZE];
    match layer
        .layer
        .end_group(group, &mut page, &mut layer.workspace())
    {
        Ok(parted) => count_of(parted.left),
        Err(StillInUse::Entries(_)) => -libc::EBUSY,
        Err(StillInUse::NotALeaf) => -libc::ENOTEMPTY,
    }
}

/// Limits a group and those below it to so many segments in RAM (`resource` 0) or on devices (1); below 0: no limit.
/// Returns 0, or -EBUSY (more are in use, and nothing changed); -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_group_limit(
    layer: *mut vswap_layer,
    group: usize,
    resource: c_int,
    segments: i64,
) -> c_int {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(GroupId::new(group));
    let Some(((layer, group), resource)) = found.zip(resource_of(resource)) else {
        return -libc::EINVAL;
    };
    let limit = u32::try_from(segments).ok();
    match layer
        .layer
        .store()
        .groups()
        .set_limit(group, resource, limit)
    {
        Ok(()) => 0,
        Err(_) => -libc::EBUSY,
    }
}

/// Says whether a group's bytes may go to devices, and to which never: of those for segments and of those for slots, a bit
/// each. Pages that groups may share no longer get bytes of their own. Returns how many found no room for that; -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_group_rules(
    layer: *mut vswap_layer,
    group: usize,
    writeback: c_int,
    forbidden_devices: u32,
    forbidden_slots: u32,
) -> c_int {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(GroupId::new(group));
    let Some((layer, group)) = found else {
        return -libc::EINVAL;
    };
    let forbidden = (forbidden_devices as u16, forbidden_slots as u8);
    let groups = layer.layer.store().groups();
    groups.set_all_rules(group, writeback != 0, forbidden.0, forbidden.1);
    let mut page = vec![0; PAGE_SIZE];
    let parted = layer.layer.part_guests(&mut page, &mut layer.workspace());
    count_of(parted.left)
}

/// What a group is charged for, in this order, as much as fits: its own entries, and those with its children's; its own
/// segments in RAM, and with its children's; the same of devices; times its limit of RAM stopped a segment, and that of
/// devices; pages that found no room under a limit. Returns how many values there are, or -ENOENT; -EINVAL.
///
/// # Safety
/// `layer` is valid, `values` has room for `count` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_group_charge(
    layer: *mut vswap_layer,
    group: usize,
    values: *mut u64,
    count: usize,
) -> c_int {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(GroupId::new(group));
    let Some((layer, group)) = found else {
        return -libc::EINVAL;
    };
    let Some(charge) = layer.layer.charge(group) else {
        return -libc::ENOENT;
    };
    let held = charge.store;
    let all = [
        charge.entries,
        charge.all_entries,
        held.own_ram.into(),
        held.ram.into(),
        held.own_device.into(),
        held.device.into(),
        held.ram_max_events,
        held.device_max_events,
        held.fail_events,
    ];
    if !values.is_null() {
        // SAFETY: the caller's.
        let out = unsafe { std::slice::from_raw_parts_mut(values, count) };
        for (to, from) in out.iter_mut().zip(all) {
            *to = from;
        }
    }
    all.len() as c_int
}

/// [`vswap_layer_allocate`], and the group pays. Returns 0 or -errno.
///
/// # Safety
/// `layer` is valid, `first` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_allocate_for(
    layer: *mut vswap_layer,
    group: usize,
    count: usize,
    first: *mut u64,
) -> c_int {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(GroupId::new(group));
    let Some((layer, group)) = found.filter(|_| (1..=512).contains(&count)) else {
        return -libc::EINVAL;
    };
    match layer.layer.allocate_for(group, count) {
        Some(range) => {
            // SAFETY: the caller's.
            unsafe { first.write(range.first().get()) };
            0
        }
        None => -libc::ENOMEM,
    }
}

/// The group that pays for an entry in use; -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_group_of(layer: *mut vswap_layer, entry: u64) -> c_int {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(EntryId::new(entry));
    found.map_or(-libc::EINVAL, |(layer, entry)| {
        layer.layer.group_of(entry).index() as c_int
    })
}

/// Writes up to `segments` segments of a group and those below it to devices. Returns how many; -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_group_writeback(
    layer: *mut vswap_layer,
    group: usize,
    segments: usize,
) -> c_int {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(GroupId::new(group));
    let Some((layer, group)) = found else {
        return -libc::EINVAL;
    };
    let store = layer.layer.store();
    let written = (0..segments)
        .take_while(|_| matches!(store.writeback_group(group, Bytes(0), true), Ok(Some(_))));
    c_int::try_from(written.count()).unwrap_or(c_int::MAX)
}
