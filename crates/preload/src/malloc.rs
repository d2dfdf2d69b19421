//! The malloc family under its C names.

use core::ffi::{c_int, c_void};

use crate::{blocks, heap, real};

const PAGE: usize = vswap_units::PAGE_SIZE;

/// glibc takes any alignment up to half the address space and rounds it up to
/// a power of two.
fn rounded_alignment(align: usize) -> Option<usize> {
    align.max(1).checked_next_power_of_two()
}

fn invalid() -> *mut c_void {
    crate::errno::set_errno(libc::EINVAL);
    core::ptr::null_mut()
}

/// `malloc(3)`.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn malloc(size: usize) -> *mut c_void {
    blocks::allocate(size)
}

/// `calloc(3)`.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    blocks::allocate_zeroed(count, size)
}

/// `realloc(3)`. Size 0 frees, as in glibc.
///
/// # Safety
/// `block` is null or a live block.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    if block.is_null() {
        return blocks::allocate(size);
    }
    if size == 0 {
        // SAFETY: the caller's promise.
        unsafe { blocks::release(block) };
        return core::ptr::null_mut();
    }
    // SAFETY: the caller's promise.
    unsafe { blocks::resize(block, size) }
}

/// `reallocarray(3)`.
///
/// # Safety
/// `block` is null or a live block.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn reallocarray(
    block: *mut c_void,
    count: usize,
    size: usize,
) -> *mut c_void {
    let Some(bytes) = count.checked_mul(size) else {
        crate::errno::set_errno(libc::ENOMEM);
        return core::ptr::null_mut();
    };
    // SAFETY: the caller's promise.
    unsafe { realloc(block, bytes) }
}

/// `free(3)`. Leaves `errno` alone.
///
/// # Safety
/// `block` is null or a live block.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn free(block: *mut c_void) {
    if !block.is_null() {
        // SAFETY: the caller's promise.
        unsafe { blocks::release(block) }
    }
}

/// `memalign(3)`.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    rounded_alignment(align).map_or_else(invalid, |align| blocks::allocate_aligned(align, size))
}

/// `aligned_alloc(3)`: in glibc the same as `memalign`.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    memalign(align, size)
}

/// `posix_memalign(3)`. Returns the error, and leaves `errno` alone.
///
/// # Safety
/// `out` may be written.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<*mut c_void>()) {
        return libc::EINVAL;
    }
    let errno = crate::errno::errno();
    let block = blocks::allocate_aligned(align, size);
    crate::errno::set_errno(errno);
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller's promise.
    unsafe { out.write(block) };
    0
}

/// `valloc(3)`.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn valloc(size: usize) -> *mut c_void {
    blocks::allocate_aligned(PAGE, size)
}

/// `pvalloc(3)`: whole pages.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn pvalloc(size: usize) -> *mut c_void {
    let Some(size) = size.max(1).checked_next_multiple_of(PAGE) else {
        crate::errno::set_errno(libc::ENOMEM);
        return core::ptr::null_mut();
    };
    blocks::allocate_aligned(PAGE, size)
}

/// `malloc_usable_size(3)`.
///
/// # Safety
/// `block` is null or a live block.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    // SAFETY: the caller's promise.
    unsafe { blocks::usable(block) }
}

/// `malloc_trim(3)`.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn malloc_trim(pad: usize) -> c_int {
    if crate::state::is_on() {
        heap::collect();
    }
    real::trim(pad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignments_are_rounded_up_and_impossible_ones_refused() {
        assert_eq!(rounded_alignment(0), Some(1));
        assert_eq!(rounded_alignment(48), Some(64));
        assert_eq!(rounded_alignment(usize::MAX / 2 + 2), None);
    }
}
