//! mmap, munmap and mprotect.

use core::ffi::{c_int, c_void};

use vswap_platform::errno::Errno;
use vswap_platform::sys;

use crate::bridge::{self, Kind};
use crate::rules::{self, Split};
use crate::{real, state};

const FAILED: *mut c_void = libc::MAP_FAILED;

/// Fails a call the C way.
pub fn fail(error: c_int) -> c_int {
    crate::errno::set_errno(error);
    -1
}

fn pointer(raw: isize) -> *mut c_void {
    let result = real::result(raw);
    core::ptr::with_exposed_provenance_mut(result.cast_unsigned())
}

/// Runs a call on the parts of a range: `outside` on what is not managed (the
/// kernel's result), `inside` on what is. Stops at the first failure.
pub fn on_parts(
    addr: usize,
    len: usize,
    outside: &dyn Fn(usize, usize) -> isize,
    inside: &dyn Fn(usize, usize) -> Result<(), Errno>,
) -> c_int {
    let (low, high) = bridge::range();
    let Split {
        before,
        inside: ours,
        after,
    } = rules::split(addr, len, low, high);
    if before.1 > 0 && real::result(outside(before.0, before.1)) != 0 {
        return -1;
    }
    if ours.1 > 0
        && let Err(errno) = inside(ours.0, ours.1)
    {
        return fail(errno.0);
    }
    if after.1 > 0 && real::result(outside(after.0, after.1)) != 0 {
        return -1;
    }
    0
}

/// Whether a range has a managed part.
pub fn touches(addr: usize, len: usize) -> bool {
    let (low, high) = bridge::range();
    rules::split(addr, len, low, high).inside.1 > 0
}

/// `mmap(2)`.
///
/// # Safety
/// As of the system call.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn mmap(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    let place = addr.addr();
    if rules::is_managed(place, len, prot, flags)
        && let Some(got) = map_managed(len, prot)
    {
        return got;
    }
    if flags & libc::MAP_FIXED != 0
        && let Some(pages) = rules::page_range(place, len)
        && touches(place, pages)
    {
        if rules::is_fresh_over(prot, flags) {
            return map_over(addr, pages, prot, flags);
        }
        if let Err(errno) = yield_to_foreign(place, pages) {
            crate::errno::set_errno(errno.0);
            return FAILED;
        }
    }
    // SAFETY: the caller's promise.
    pointer(unsafe { sys::mmap(place, len, prot, flags, fd, offset) })
}

/// `mmap(2)` under its large-file name.
///
/// # Safety
/// As of the system call.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn mmap64(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { mmap(addr, len, prot, flags, fd, offset) }
}

/// A new mapping from the engine; `None` when it is the kernel's business. A
/// full budget is an error, except for reservations of address space.
fn map_managed(len: usize, prot: c_int) -> Option<*mut c_void> {
    if len < state::LARGE {
        return None;
    }
    let live = state::live(len)?;
    if len < live.map_min() {
        return None;
    }
    let rounded = len.checked_next_multiple_of(vswap_units::PAGE_SIZE)?;
    let got = bridge::allocate(rounded, rules::alignment(rounded), Kind::Map(prot));
    match got {
        Some(addr) => Some(core::ptr::with_exposed_provenance_mut(addr)),
        None if prot == libc::PROT_NONE => None,
        None => {
            crate::errno::set_errno(libc::ENOMEM);
            Some(FAILED)
        }
    }
}

/// Fresh zeroed memory at a fixed place: what is ours stays managed.
fn map_over(addr: *mut c_void, len: usize, prot: c_int, flags: c_int) -> *mut c_void {
    let result = on_parts(
        addr.addr(),
        len,
        &|addr, len| {
            // SAFETY: the program asked for this part to be replaced.
            let raw = unsafe { sys::mmap(addr, len, prot, flags, -1, 0) };
            raw.min(0)
        },
        &|addr, len| {
            bridge::discard(addr, len)?;
            bridge::protect(addr, len, prot)
        },
    );
    if result == 0 { addr } else { FAILED }
}

/// Something that is not ours is about to be mapped over a range.
pub fn yield_to_foreign(addr: usize, len: usize) -> Result<(), Errno> {
    let (low, high) = bridge::range();
    let (addr, len) = rules::split(addr, len, low, high).inside;
    if len > 0 {
        bridge::foreign(addr, len)?;
    }
    Ok(())
}

/// `munmap(2)`.
///
/// # Safety
/// As of the system call.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn munmap(addr: *mut c_void, len: usize) -> c_int {
    unmap_anywhere(addr.addr(), len)
}

/// Takes mappings away, managed or not.
pub fn unmap_anywhere(addr: usize, len: usize) -> c_int {
    let Some(len) = rules::page_range(addr, len) else {
        return fail(libc::EINVAL);
    };
    on_parts(
        addr,
        len,
        // SAFETY: the program gives up this part.
        &|addr, len| unsafe { sys::munmap(addr, len) },
        &bridge::unmap,
    )
}

/// `mprotect(2)`.
///
/// # Safety
/// As of the system call.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn mprotect(addr: *mut c_void, len: usize, prot: c_int) -> c_int {
    let place = addr.addr();
    let Some(pages) = rules::page_range(place, len).filter(|&pages| touches(place, pages)) else {
        // SAFETY: the caller's promise.
        return c_result(unsafe { sys::mprotect(place, len, prot) });
    };
    on_parts(
        place,
        pages,
        // SAFETY: the caller's promise, for a part of its range.
        &|addr, len| unsafe { sys::mprotect(addr, len, prot) },
        &|addr, len| bridge::protect(addr, len, prot),
    )
}

/// A raw result as a C int.
pub fn c_result(raw: isize) -> c_int {
    c_int::try_from(real::result(raw)).unwrap_or(-1)
}
