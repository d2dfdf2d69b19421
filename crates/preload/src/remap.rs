//! mremap: managed memory grows, shrinks and moves by the engine.

use core::ffi::{c_int, c_void};

use libc::{MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE};
use vswap_platform::sys;

use crate::bridge::{self, Kind};
use crate::mapping::{touches, yield_to_foreign};
use crate::{real, rules};

fn fail(error: c_int) -> *mut c_void {
    crate::errno::set_errno(error);
    libc::MAP_FAILED
}

/// `mremap(2)`. The fifth argument is there only with `MREMAP_FIXED`; reading
/// it as a register otherwise is harmless, and it is ignored then.
///
/// # Safety
/// As of the system call.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn mremap(
    old: *mut c_void,
    old_len: usize,
    new_len: usize,
    flags: c_int,
    new: *mut c_void,
) -> *mut c_void {
    let fixed = flags & MREMAP_FIXED != 0;
    if fixed
        && let Some(len) = rules::page_range(new.addr(), new_len)
        && let Err(errno) = yield_to_foreign(new.addr(), len)
    {
        return fail(errno.0);
    }
    if !touches(old.addr(), old_len.max(1)) {
        // SAFETY: the caller's promise.
        let raw = unsafe { sys::mremap(old.addr(), old_len, new_len, flags, new.addr()) };
        return core::ptr::with_exposed_provenance_mut(real::result(raw).cast_unsigned());
    }
    let (Some(old_len), Some(new_len)) = (
        rules::page_range(old.addr(), old_len),
        rules::page_range(0, new_len),
    ) else {
        return fail(libc::EINVAL);
    };
    let (_, high) = bridge::range();
    if !bridge::owns(old.addr()) || old_len > high - old.addr() {
        return fail(libc::EFAULT); // one mapping only, as in the kernel
    }
    let known = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
    let moves = flags & MREMAP_MAYMOVE != 0;
    if flags & !known != 0 || (!moves && flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) != 0) {
        return fail(libc::EINVAL);
    }
    let dont_unmap = flags & MREMAP_DONTUNMAP != 0;
    if fixed || dont_unmap {
        if dont_unmap && old_len != new_len {
            return fail(libc::EINVAL);
        }
        let place = if fixed { new } else { core::ptr::null_mut() };
        // SAFETY: the caller's promise; the range is managed as a whole.
        return unsafe { move_to(old, old_len, new_len, place, dont_unmap) };
    }
    resize(old, old_len, new_len, moves)
}

fn resize(old: *mut c_void, old_len: usize, new_len: usize, moves: bool) -> *mut c_void {
    if new_len == old_len {
        return old;
    }
    if new_len < old_len {
        let tail = old.addr() + new_len;
        return match bridge::unmap(tail, old_len - new_len) {
            Ok(()) => old,
            Err(errno) => fail(errno.0),
        };
    }
    if !moves {
        return fail(libc::ENOMEM);
    }
    // SAFETY: the program may read its own mapping, which ends here.
    unsafe { grow(old, old_len, new_len) }
}

/// A longer managed mapping with the same bytes, then zeros.
unsafe fn grow(old: *mut c_void, old_len: usize, new_len: usize) -> *mut c_void {
    let kind = Kind::Map(libc::PROT_READ | libc::PROT_WRITE);
    let Some(addr) = bridge::allocate(new_len, rules::alignment(new_len), kind) else {
        return fail(libc::ENOMEM);
    };
    let to: *mut c_void = core::ptr::with_exposed_provenance_mut(addr);
    // SAFETY: the old mapping is readable, the new one is longer and distinct.
    unsafe { core::ptr::copy_nonoverlapping(old.cast::<u8>(), to.cast::<u8>(), old_len) };
    match bridge::unmap(old.addr(), old_len) {
        Ok(()) => to,
        Err(errno) => fail(errno.0),
    }
}

/// Copies managed memory to a place the program chose (or, with
/// `MREMAP_DONTUNMAP`, any place), then takes the old memory away. The copy is
/// ordinary memory when the place is the program's.
unsafe fn move_to(
    old: *mut c_void,
    old_len: usize,
    new_len: usize,
    place: *mut c_void,
    dont_unmap: bool,
) -> *mut c_void {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let mut flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    if !place.is_null() {
        flags |= libc::MAP_FIXED;
    }
    // SAFETY: a new mapping, at a place the program gave up if it is fixed.
    let raw = unsafe { sys::mmap(place.addr(), new_len, prot, flags, -1, 0) };
    if real::result(raw) == -1 {
        return libc::MAP_FAILED;
    }
    let to: *mut c_void = core::ptr::with_exposed_provenance_mut(raw.cast_unsigned());
    // SAFETY: the program may read its own old mapping; the new one holds
    // that many bytes and is distinct.
    unsafe {
        core::ptr::copy_nonoverlapping(old.cast::<u8>(), to.cast::<u8>(), old_len.min(new_len));
    }
    let result = if dont_unmap {
        bridge::discard(old.addr(), old_len)
    } else {
        bridge::unmap(old.addr(), old_len)
    };
    match result {
        Ok(()) => to,
        Err(errno) => fail(errno.0),
    }
}
