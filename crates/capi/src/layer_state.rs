//! The swap cache of a layer under test, and what the layer says it holds.

use std::ffi::c_int;

use vswap_space::EntryId;

use crate::layer::{layer_of, vswap_layer};

/// Binds a frame to an entry that has no bytes. Returns 1, or 0 if it has some or is dead; -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_cache(
    layer: *mut vswap_layer,
    entry: u64,
    frame: u32,
) -> c_int {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(EntryId::new(entry));
    found.map_or(-libc::EINVAL, |(layer, entry)| {
        c_int::from(layer.layer.cache(entry, frame))
    })
}

/// Takes the frame of a cached entry. Returns it, or -ENOENT if there is none; -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_take_frame(layer: *mut vswap_layer, entry: u64) -> i64 {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(EntryId::new(entry));
    let Some((layer, entry)) = found else {
        return -i64::from(libc::EINVAL);
    };
    let frame = layer
        .layer
        .pin(entry)
        .and_then(|mut pin| pin.take_frame().map(i64::from));
    frame.unwrap_or(-i64::from(libc::ENOENT))
}

/// Gives an entry's bytes up for lost. Returns 0, or -ENOENT for a dead entry; -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_poison(layer: *mut vswap_layer, entry: u64) -> c_int {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(EntryId::new(entry));
    let Some((layer, entry)) = found else {
        return -libc::EINVAL;
    };
    layer.layer.pin(entry).map_or(-libc::ENOENT, |mut pin| {
        pin.poison();
        0
    })
}

/// What the layer holds and did, in this order, as many as fit in `values`: entries in use, pages of one word, stored
/// pages, their bytes, pages swapped out and swapped in and found lost so far, segments in RAM, how many there may be,
/// segments on devices, pages in slots. Returns how many values there are, or -EINVAL.
///
/// # Safety
/// `layer` is valid, `values` has room for `count` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_gauges(
    layer: *mut vswap_layer,
    values: *mut u64,
    count: usize,
) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -libc::EINVAL;
    };
    let gauges = layer.layer.gauges();
    let store = layer.layer.store();
    let usage = store.usage();
    let all = [
        gauges.entries,
        gauges.same_filled_pages,
        gauges.stored_pages,
        gauges.stored_bytes,
        gauges.swap_out_pages,
        gauges.swap_in_pages,
        gauges.poisoned_pages,
        u64::from(usage.ram_segments),
        u64::from(store.ram_limit()),
        u64::from(usage.device_segments),
        gauges.slot_pages,
    ];
    if !values.is_null() {
        // SAFETY: the caller's.
        let out = unsafe { std::slice::from_raw_parts_mut(values, count) };
        for (to, from) in out.iter_mut().zip(all) {
            *to = from;
        }
    }
    c_int::try_from(all.len()).unwrap_or(c_int::MAX)
}
