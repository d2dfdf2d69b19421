//! Groups: who pays, and how much each may.

use std::ffi::{c_char, c_int, c_void};

use vswap_process::{AllocKind, GroupError, GroupKey};

use crate::handle::{memory_given, space_of, vswap_space};
use crate::memory::pointer;
use crate::text;

fn error_number(error: &GroupError) -> c_int {
    match error {
        GroupError::Invalid(_) => -libc::EINVAL,
        GroupError::Unknown => -libc::ENOENT,
        GroupError::Exists(_) => -libc::EEXIST,
        GroupError::Busy(..) | GroupError::InUse(_) => -libc::EBUSY,
        GroupError::TooMany => -libc::ENOSPC,
    }
}

/// # Safety
/// `err` is NULL or has room for `err_len` bytes.
unsafe fn told(result: Result<(), GroupError>, err: *mut c_char, err_len: usize) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => {
            // SAFETY: the caller's.
            unsafe { text::write(&error.to_string(), err, err_len) };
            error_number(&error)
        }
    }
}

/// Makes a group below `parent` (0: the root) with the limits of the lines
/// `key=value` (ram_max, zswap_max, swap_max: a size or none; writeback: on or
/// off; devices=all, or any number of device=NAME). Its key goes to `out`.
/// Returns 0, or -errno with one clear sentence in `err`.
///
/// # Safety
/// `space` is a handle; `name` and `limits` are C strings; `out` is writable;
/// `err` has room for `err_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_group_create(
    space: *mut vswap_space,
    parent: u32,
    name: *const c_char,
    limits: *const c_char,
    out: *mut u32,
    err: *mut c_char,
    err_len: usize,
) -> c_int {
    // SAFETY: the caller's.
    let (space, name, limits) = unsafe { (space_of(space), text::read(name), text::read(limits)) };
    let (Some(space), Some(name), Some(limits)) = (space, name, limits) else {
        return -libc::EINVAL;
    };
    let made = space.engine.create_group(GroupKey(parent), name, limits);
    // SAFETY: the caller's.
    unsafe { told(made.map(|key| out.write(key.0)), err, err_len) }
}

/// Changes limits of a group: all that the lines name, or none. Returns 0, or
/// -errno with one clear sentence in `err`.
///
/// # Safety
/// `space` is a handle; `limits` is a C string; `err` has room for `err_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_group_set(
    space: *mut vswap_space,
    group: u32,
    limits: *const c_char,
    err: *mut c_char,
    err_len: usize,
) -> c_int {
    // SAFETY: the caller's.
    let (space, limits) = unsafe { (space_of(space), text::read(limits)) };
    let (Some(space), Some(limits)) = (space, limits) else {
        return -libc::EINVAL;
    };
    // SAFETY: the caller's.
    unsafe {
        told(
            space.engine.set_group(GroupKey(group), limits),
            err,
            err_len,
        )
    }
}

/// Ends a group without live blocks and children. Returns 0, or -errno with one
/// clear sentence in `err` (-EBUSY: something of it lives).
///
/// # Safety
/// `space` is a handle; `err` has room for `err_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_group_close(
    space: *mut vswap_space,
    group: u32,
    err: *mut c_char,
    err_len: usize,
) -> c_int {
    // SAFETY: the caller's.
    let Some(space) = (unsafe { space_of(space) }) else {
        return -libc::EINVAL;
    };
    // SAFETY: the caller's.
    unsafe { told(space.engine.end_group(GroupKey(group)), err, err_len) }
}

/// Moves up to `bytes` of a group out of compressed RAM to a device; where it may
/// not use one, out of memory into compressed RAM. Returns how many were moved,
/// or -ENOENT.
///
/// # Safety
/// `space` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_group_drain(space: *mut vswap_space, group: u32, bytes: u64) -> i64 {
    // SAFETY: the caller's.
    let Some(space) = (unsafe { space_of(space) }) else {
        return -i64::from(libc::EINVAL);
    };
    match space.engine.drain_group(GroupKey(group), bytes) {
        Ok(moved) => i64::try_from(moved).unwrap_or(i64::MAX),
        Err(error) => i64::from(error_number(&error)),
    }
}

/// What all groups hold and may hold, as a JSON list. Returns the bytes it takes
/// with its end; more than `len`: it was cut, ask again. -EINVAL without a space.
///
/// # Safety
/// `space` is a handle; `json` has room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_groups(
    space: *mut vswap_space,
    json: *mut c_char,
    len: usize,
) -> i64 {
    // SAFETY: the caller's.
    let Some(space) = (unsafe { space_of(space) }) else {
        return -i64::from(libc::EINVAL);
    };
    let told = space.engine.told_groups().to_string();
    // SAFETY: the caller's.
    unsafe { text::write(&told, json, len) };
    i64::try_from(told.len() + 1).unwrap_or(i64::MAX)
}

/// A block as from `vswap_malloc`, paid for by a group; freed as any other.
///
/// # Safety
/// `space` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_group_malloc(
    space: *mut vswap_space,
    group: u32,
    size: usize,
    align: usize,
) -> *mut c_void {
    // SAFETY: the caller's.
    let space = unsafe { space_of(space) };
    let key = GroupKey(group);
    memory_given();
    let allocate = |space: &vswap_space| {
        space
            .engine
            .allocate_in(key, size.max(1), align, AllocKind::Malloc)
    };
    pointer(space.and_then(allocate))
}
