//! What a layer's bookkeeping takes: a layer as large as wanted over a device that keeps nothing, filled fast, and its tables
//! counted one by one. For `vswap bench metadata`.

use std::ffi::c_int;

use vswap_store::device::NullDevice;
use vswap_store::{CodecKind, Store, StoreOptions};
use vswap_units::{Bytes, PAGE_SIZE};

use crate::layer::{assemble, layer_of, vswap_layer};

/// RAM segments of such a layer: what does not fit goes to the device at once.
const RAM_SEGMENTS: u32 = 64;
/// Segments written when there is no room.
const WRITE_AT_ONCE: Bytes = Bytes(8 << 20);
/// Bytes of noise in a made-up page, so that it compresses about three to one, as program memory does.
const NOISE: usize = 1300;

/// Creates a layer for `entries` pages over a device of `places` segments that keeps nothing: its pages cannot be read back.
/// NULL when it cannot be had.
#[unsafe(no_mangle)]
pub extern "C" fn vswap_layer_create_null(entries: usize, places: u32) -> *mut vswap_layer {
    null_layer(entries, places).map_or(std::ptr::null_mut(), |layer| Box::into_raw(Box::new(layer)))
}

fn null_layer(entries: usize, places: u32) -> Option<vswap_layer> {
    let mut store = Store::new(StoreOptions::new(RAM_SEGMENTS, places)).ok()?;
    store.attach(Box::new(NullDevice::new(places))).ok()?;
    assemble(store, CodecKind::Lz4, entries)
}

/// Allocates up to `count` entries, gives each a made-up page and writes its number to `entries`. Returns how many; -EINVAL.
///
/// # Safety
/// `layer` is valid, `entries` has room for `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_fill(
    layer: *mut vswap_layer,
    entries: *mut u64,
    count: usize,
) -> i64 {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -i64::from(libc::EINVAL);
    };
    if entries.is_null() {
        return -i64::from(libc::EINVAL);
    }
    // SAFETY: the caller's.
    let out = unsafe { std::slice::from_raw_parts_mut(entries, count) };
    let mut page = [0_u8; PAGE_SIZE];
    let mut filled = 0;
    for place in out {
        let Some(entry) = fill_one(layer, &mut page) else {
            break;
        };
        *place = entry;
        filled += 1;
    }
    filled
}

fn fill_one(layer: &vswap_layer, page: &mut [u8]) -> Option<u64> {
    let entry = layer.layer.allocate(1)?.first();
    let mut word = entry.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in page.chunks_exact_mut(8).take(NOISE / 8) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    // Lengths of every remainder, so that padding is as with real pages.
    let tail = (entry.get() % 8) as usize;
    if let Some(place) = page.get_mut(NOISE / 8 * 8..NOISE / 8 * 8 + 8) {
        place.fill(0);
        place.iter_mut().take(tail).for_each(|byte| *byte = 0xa7);
    }
    let mut workspace = layer.workspace();
    for _ in 0..2 {
        if layer
            .layer
            .pin(entry)?
            .swap_out(page, &mut workspace)
            .is_ok()
        {
            return Some(entry.get());
        }
        let _ = layer.layer.writeback_oldest(WRITE_AT_ONCE);
    }
    None
}

/// Bytes the layer's bookkeeping takes, in this order, as many as fit in `values`: descriptors, counts above one, clusters,
/// segment table, places of devices, headers of objects, padding of objects. Returns how many there are, or -EINVAL.
///
/// # Safety
/// `layer` is valid, `values` has room for `count` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_memory(
    layer: *mut vswap_layer,
    values: *mut u64,
    count: usize,
) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -libc::EINVAL;
    };
    let (gauges, tables) = (layer.layer.gauges(), layer.layer.table_parts());
    let store = layer.layer.store();
    let headers = gauges.stored_pages * Store::HEADER_BYTES as u64;
    let all = [
        tables.descriptors as u64,
        tables.counts as u64,
        tables.clusters as u64,
        store.table_bytes().0,
        u64::from(store.usage().device_segments) * Store::PLACE_TABLE_BYTES as u64,
        headers,
        store
            .live_bytes()
            .0
            .saturating_sub(gauges.stored_bytes + headers),
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
