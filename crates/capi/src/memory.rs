//! Blocks of memory, and what may be asked of a range.

use std::ffi::{c_int, c_void};

use vswap_platform::errno::Errno;
use vswap_process::{AllocKind, Engine};

use crate::handle::{memory_given, signed, space_of, vswap_space};

/// An address as a pointer; NULL for none.
pub fn pointer(addr: Option<usize>) -> *mut c_void {
    addr.map_or(std::ptr::null_mut(), |addr| addr as *mut c_void)
}

/// A block of `size` bytes at a multiple of `align` (at least a page), or NULL:
/// no room, or the space was retired.
///
/// # Safety
/// `space` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_malloc(
    space: *mut vswap_space,
    size: usize,
    align: usize,
) -> *mut c_void {
    // SAFETY: the caller's.
    let space = unsafe { space_of(space) };
    memory_given();
    pointer(space.and_then(|space| space.engine.allocate(size.max(1), align, AllocKind::Malloc)))
}

/// A block of `count * size` zero bytes, or NULL.
///
/// # Safety
/// `space` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_calloc(
    space: *mut vswap_space,
    count: usize,
    size: usize,
) -> *mut c_void {
    // SAFETY: the caller's.
    let space = unsafe { space_of(space) };
    let bytes = count.checked_mul(size);
    memory_given();
    pointer(
        space
            .zip(bytes)
            .and_then(|(space, bytes)| space.engine.allocate(bytes.max(1), 1, AllocKind::Zeroed)),
    )
}

/// The block with another size, its bytes kept; NULL (and the old block as it was) without room.
///
/// # Safety
/// `space` is a handle, `block` is NULL or one of its blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_realloc(
    space: *mut vswap_space,
    block: *mut c_void,
    size: usize,
) -> *mut c_void {
    // SAFETY: the caller's.
    let Some(space) = (unsafe { space_of(space) }) else {
        return std::ptr::null_mut();
    };
    memory_given();
    match block.is_null() {
        true => pointer(space.engine.allocate(size.max(1), 1, AllocKind::Malloc)),
        false => pointer(space.engine.resize(block as usize, size.max(1))),
    }
}

/// Frees a block; NULL is fine.
///
/// # Safety
/// `space` is a handle, `block` is NULL or one of its blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_free(space: *mut vswap_space, block: *mut c_void) {
    // SAFETY: the caller's.
    if let Some(space) = unsafe { space_of(space) } {
        space.engine.release(block as usize);
        space.end_if_empty();
    }
}

/// Bytes from `block` to the end of the block it starts or lies in; 0 outside.
///
/// # Safety
/// `space` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_usable_size(space: *mut vswap_space, block: *const c_void) -> usize {
    // SAFETY: the caller's.
    let space = unsafe { space_of(space) };
    space
        .and_then(|space| space.engine.block_size(block as usize))
        .unwrap_or(0)
}

/// 1 if the address lies in the space's range.
///
/// # Safety
/// `space` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_owns(space: *mut vswap_space, addr: *const c_void) -> c_int {
    // SAFETY: the caller's.
    let space = unsafe { space_of(space) };
    space
        .is_some_and(|space| space.engine.owns(addr as usize))
        .into()
}

type RangeCall = fn(&Engine, usize, usize) -> Result<u64, Errno>;

/// # Safety
/// `space` is a handle.
unsafe fn on_range(space: *mut vswap_space, addr: *mut c_void, len: usize, call: RangeCall) -> i64 {
    // SAFETY: the caller's.
    match unsafe { space_of(space) } {
        Some(space) => signed(call(&space.engine, addr as usize, len)),
        None => -i64::from(libc::EINVAL),
    }
}

/// Moves what it can of the range out of memory. Returns pages moved, or -errno.
///
/// # Safety
/// `space` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_evict(
    space: *mut vswap_space,
    addr: *mut c_void,
    len: usize,
) -> i64 {
    // SAFETY: the caller's.
    unsafe { on_range(space, addr, len, Engine::evict) }
}

/// Brings the range in, as far as the budget allows. Returns pages, or -errno.
///
/// # Safety
/// `space` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_prefetch(
    space: *mut vswap_space,
    addr: *mut c_void,
    len: usize,
) -> i64 {
    // SAFETY: the caller's.
    unsafe { on_range(space, addr, len, Engine::prefetch) }
}

/// Keeps the range in memory. Returns pages, or -errno (ENOMEM: over the budget).
///
/// # Safety
/// `space` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_pin(space: *mut vswap_space, addr: *mut c_void, len: usize) -> i64 {
    // SAFETY: the caller's.
    unsafe { on_range(space, addr, len, Engine::pin) }
}

/// Undoes one `vswap_pin` of the same range. Returns pages, or -errno.
///
/// # Safety
/// `space` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_unpin(
    space: *mut vswap_space,
    addr: *mut c_void,
    len: usize,
) -> i64 {
    // SAFETY: the caller's.
    unsafe { on_range(space, addr, len, Engine::unpin) }
}
