//! The swap layer alone, without memory to manage: what the executable model
//! in Python is compared with.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use vswap_platform::sync::{Guard, RankedMutex};
use vswap_platform::tls;
use vswap_space::{Backing, Dedup, DedupOptions, EntryId, LayerOptions, SwapLayer};
use vswap_store::testing::Control;
use vswap_store::{CodecKind, Store, StoreOptions, Tiers, Workspace};
use vswap_units::{Bytes, PAGE_SIZE};

use crate::text;

/// Threads that compress at once; more of them wait for each other.
const WORKSPACES: usize = 4;
/// Places that devices attached later may have in all.
const LATER_PLACES: u32 = 1 << 12;

/// Entries of a layer under test.
const MOST_ENTRIES: usize = 1 << 20;

/// A layer under test.
#[allow(non_camel_case_types, reason = "the C name")]
pub struct vswap_layer {
    pub(crate) layer: SwapLayer,
    workspaces: [RankedMutex<Workspace, 5>; WORKSPACES],
    /// The handles of its devices that fail when told to.
    pub(crate) controls: RankedMutex<Vec<Control>, 6>,
    /// What moving between devices of different priority remembers, and the time it is told.
    pub(crate) tiers: RankedMutex<(Tiers, u64), 7>,
    /// Pages go to slots where they may, also those that compress.
    pub(crate) prefers_slots: AtomicBool,
}

impl vswap_layer {
    /// A workspace nobody else uses: the calling thread's usual one if it can be had.
    pub(crate) fn workspace(&self) -> Guard<'_, Workspace, 5> {
        let usual = core::ptr::from_ref(tls::thread()) as usize / 64 % WORKSPACES;
        let (before, from) = self.workspaces.split_at(usual);
        let mut all = from.iter().chain(before);
        let [first, ..] = &self.workspaces;
        let mut workspace = all
            .clone()
            .find_map(RankedMutex::try_lock)
            .unwrap_or_else(|| all.next().unwrap_or(first).lock());
        workspace.set_prefers_slots(self.prefers_slots.load(Ordering::Relaxed));
        workspace
    }
}

/// Pages that a layer under test remembers for finding equal ones.
const INDEX_PAGES: usize = 1 << 14;

/// Creates a layer without devices: RAM segments, a codec, and who shares equal pages (`dedup` 0 nobody, 1 the entries of
/// a group, 2 all). NULL when it cannot be had.
#[unsafe(no_mangle)]
pub extern "C" fn vswap_layer_create(
    ram_segments: u32,
    zstd: c_int,
    dedup: c_int,
) -> *mut vswap_layer {
    build(ram_segments, zstd, dedup)
        .map_or(std::ptr::null_mut(), |layer| Box::into_raw(Box::new(layer)))
}

fn build(ram_segments: u32, zstd: c_int, dedup: c_int) -> Option<vswap_layer> {
    let kind = if zstd > 0 {
        CodecKind::Zstd(zstd)
    } else {
        CodecKind::Lz4
    };
    let scope = match dedup {
        0 => Dedup::Off,
        1 => Dedup::Group,
        _ => Dedup::Space,
    };
    let store = Store::new(StoreOptions::new(ram_segments, LATER_PLACES)).ok()?;
    let made = assemble(store, kind, MOST_ENTRIES)?;
    let layer = made.layer.with_dedup(DedupOptions::new(scope, INDEX_PAGES));
    Some(vswap_layer {
        layer: layer.ok()?,
        ..made
    })
}

/// A layer for so many entries over a store.
pub(crate) fn assemble(store: Store, kind: CodecKind, max_entries: usize) -> Option<vswap_layer> {
    let layer = SwapLayer::new(LayerOptions { max_entries }, store).ok()?;
    let [a, b, c, d] = [kind; WORKSPACES].map(Workspace::new);
    Some(vswap_layer {
        layer,
        workspaces: [a?, b?, c?, d?].map(RankedMutex::new),
        controls: RankedMutex::new(Vec::new()),
        tiers: RankedMutex::new((Tiers::default(), 0)),
        prefers_slots: AtomicBool::new(false),
    })
}

/// # Safety
/// `layer` is NULL or was created here and not destroyed.
pub(crate) unsafe fn layer_of<'a>(layer: *mut vswap_layer) -> Option<&'a vswap_layer> {
    // SAFETY: the caller's.
    unsafe { layer.as_ref() }
}

/// Destroys a layer.
///
/// # Safety
/// `layer` was created here and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_destroy(layer: *mut vswap_layer) {
    if !layer.is_null() {
        // SAFETY: the caller's.
        drop(unsafe { Box::from_raw(layer) });
    }
}

/// Allocates `count` neighbouring entries; the first goes to `first`. Returns 0 or -errno.
///
/// # Safety
/// `layer` is valid, `first` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_allocate(
    layer: *mut vswap_layer,
    count: usize,
    first: *mut u64,
) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -libc::EINVAL;
    };
    if count == 0 || count > 512 {
        return -libc::EINVAL;
    }
    match layer
        .layer
        .allocate(count)
        .and_then(|range| range.iter().next())
    {
        Some(entry) => {
            // SAFETY: the caller's.
            unsafe { first.write(entry.get()) };
            0
        }
        None => -libc::ENOMEM,
    }
}

/// Frees `count` entries from `first`. Returns how many were dead already, or -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_free(
    layer: *mut vswap_layer,
    first: u64,
    count: usize,
) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -libc::EINVAL;
    };
    let entries: Option<Vec<EntryId>> = (first..first + count as u64).map(EntryId::new).collect();
    match entries {
        Some(entries) => c_int::try_from(layer.layer.free(&entries).dead).unwrap_or(c_int::MAX),
        None => -libc::EINVAL,
    }
}

/// Adds one to an entry's count. Returns the count, or -ENOENT for a dead entry.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_duplicate(layer: *mut vswap_layer, entry: u64) -> i64 {
    // SAFETY: the caller's.
    let Some((layer, entry)) = (unsafe { layer_of(layer) }).zip(EntryId::new(entry)) else {
        return -i64::from(libc::EINVAL);
    };
    layer
        .layer
        .duplicate(entry)
        .map_or(-i64::from(libc::ENOENT), |count| count as i64)
}

/// An entry's count; 0 when dead.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_count(layer: *mut vswap_layer, entry: u64) -> u64 {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(EntryId::new(entry));
    found.map_or(0, |(layer, entry)| layer.layer.count(entry))
}

/// Gives an entry the 4096 bytes at `page`. Returns 0 same-filled, 1 stored,
/// 2 unneeded (it was only cached: its frame is free and it is gone), or
/// -ENOENT (dead entry), -ENOSPC (no room; the entry is as it was).
///
/// # Safety
/// `layer` is valid, `page` is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_store(
    layer: *mut vswap_layer,
    entry: u64,
    page: *const c_void,
) -> c_int {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(EntryId::new(entry));
    let Some((layer, entry)) = found else {
        return -libc::EINVAL;
    };
    // SAFETY: the caller's.
    let bytes = unsafe { std::slice::from_raw_parts(page.cast::<u8>(), PAGE_SIZE) };
    let mut workspace = layer.workspace();
    let Some(mut pin) = layer.layer.pin(entry) else {
        return -libc::ENOENT;
    };
    match pin.swap_out(bytes, &mut workspace) {
        Ok(vswap_space::SwapOut::Same) => 0,
        Ok(vswap_space::SwapOut::Unneeded) => 2,
        Ok(_) => 1,
        Err(_) => -libc::ENOSPC,
    }
}

/// Reads an entry's page. Returns 0, or -ENOENT (no bytes), -EBUSY (in a frame),
/// -EBADMSG (lost: poisoned), -EIO (the device failed; the bytes may still be there).
///
/// # Safety
/// `layer` is valid, `page` has room for 4096 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_load(
    layer: *mut vswap_layer,
    entry: u64,
    page: *mut c_void,
) -> c_int {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(EntryId::new(entry));
    let Some((layer, entry)) = found else {
        return -libc::EINVAL;
    };
    // SAFETY: the caller's.
    let out = unsafe { std::slice::from_raw_parts_mut(page.cast::<u8>(), PAGE_SIZE) };
    match layer.layer.swap_in(entry, out, &mut layer.workspace()) {
        Ok(()) => 0,
        Err(vswap_space::SwapInError::Empty) => -libc::ENOENT,
        Err(vswap_space::SwapInError::Cached(_)) => -libc::EBUSY,
        Err(vswap_space::SwapInError::Poisoned) => -libc::EBADMSG,
        Err(_) => -libc::EIO,
    }
}

/// Where an entry's page is: 0 nowhere, 1 one word, 2 cached, 3 stored in RAM,
/// 4 stored on a device, 5 poisoned, 6 in a plain slot; -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_backing(layer: *mut vswap_layer, entry: u64) -> c_int {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(EntryId::new(entry));
    let Some((layer, entry)) = found else {
        return -libc::EINVAL;
    };
    match layer.layer.hint(entry) {
        Backing::None => 0,
        Backing::Same(_) => 1,
        Backing::Cached(_) => 2,
        Backing::Stored(_) | Backing::Shared(_) if layer.layer.is_on_device(entry) => 4,
        Backing::Stored(_) | Backing::Shared(_) => 3,
        Backing::Poisoned => 5,
        Backing::Slot(_) => 6,
    }
}

/// Writes up to `segments` sealed segments to the device. Returns how many.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_writeback(layer: *mut vswap_layer, segments: usize) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -libc::EINVAL;
    };
    layer.layer.store().seal_all();
    let written =
        (0..segments).take_while(|_| matches!(layer.layer.writeback_oldest(Bytes(0)), Ok(Some(_))));
    c_int::try_from(written.count()).unwrap_or(c_int::MAX)
}

/// Cleans once. Returns the segments emptied.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_clean(layer: *mut vswap_layer) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -libc::EINVAL;
    };
    layer.layer.clean(&mut layer.workspace()).segments as c_int
}

/// Checks the layer's laws: returns how many are violated, a line each in `report`.
///
/// # Safety
/// `layer` is valid, `report` has room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_check(
    layer: *mut vswap_layer,
    report: *mut c_char,
    len: usize,
) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -libc::EINVAL;
    };
    let problems = layer.layer.check(&mut layer.workspace());
    // SAFETY: the caller's.
    unsafe { text::write(&problems.join("\n"), report, len) };
    c_int::try_from(problems.len()).unwrap_or(c_int::MAX)
}
