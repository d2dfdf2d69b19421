//! The C library behind the interposed names.
//!
//! glibc exports its allocator under a second name, which needs no `dlsym` (and
//! so no allocation) to find; the few functions without one are looked up once.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::AtomicUsize;

use libc::size_t;

use crate::next::find_in_libc;

unsafe extern "C" {
    fn __libc_malloc(size: size_t) -> *mut c_void;
    fn __libc_calloc(count: size_t, size: size_t) -> *mut c_void;
    fn __libc_realloc(block: *mut c_void, size: size_t) -> *mut c_void;
    fn __libc_free(block: *mut c_void);
    fn __libc_memalign(align: size_t, size: size_t) -> *mut c_void;
}

/// glibc's `malloc`.
pub fn malloc(size: usize) -> *mut c_void {
    // SAFETY: any size is allowed.
    unsafe { __libc_malloc(size) }
}

/// glibc's `calloc`.
pub fn calloc(count: usize, size: usize) -> *mut c_void {
    // SAFETY: any sizes are allowed.
    unsafe { __libc_calloc(count, size) }
}

/// glibc's `memalign`.
pub fn memalign(align: usize, size: usize) -> *mut c_void {
    // SAFETY: any alignment is allowed; glibc refuses what it cannot do.
    unsafe { __libc_memalign(align, size) }
}

/// glibc's `realloc`.
///
/// # Safety
/// `block` is null or a live block of glibc's.
pub unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: handed on to the caller.
    unsafe { __libc_realloc(block, size) }
}

/// glibc's `free`, which also decides about pointers nobody knows.
///
/// # Safety
/// As of the program that called `free`.
pub unsafe fn free(block: *mut c_void) {
    // SAFETY: handed on to the caller.
    unsafe { __libc_free(block) }
}

static USABLE_SIZE: AtomicUsize = AtomicUsize::new(0);
static TRIM: AtomicUsize = AtomicUsize::new(0);

/// glibc's `malloc_usable_size`.
///
/// # Safety
/// `block` is null or a live block of glibc's.
pub unsafe fn usable_size(block: *mut c_void) -> usize {
    let found = find_in_libc(&USABLE_SIZE, c"malloc_usable_size");
    if found == 0 {
        return 0;
    }
    type Function = unsafe extern "C" fn(*mut c_void) -> size_t;
    // SAFETY: dlsym found the function of that name, which has this type; the
    // block is the caller's promise.
    unsafe { core::mem::transmute::<usize, Function>(found)(block) }
}

/// glibc's `malloc_trim`.
pub fn trim(pad: usize) -> c_int {
    let found = find_in_libc(&TRIM, c"malloc_trim");
    if found == 0 {
        return 0;
    }
    type Function = unsafe extern "C" fn(size_t) -> c_int;
    // SAFETY: dlsym found the function of that name, which has this type.
    unsafe { core::mem::transmute::<usize, Function>(found)(pad) }
}

/// An environment variable, without allocating.
pub fn variable(name: &CStr) -> Option<&'static [u8]> {
    // SAFETY: `name` is a C string; the result is null or a C string of the
    // environment, which the constructor and the start read before anybody
    // changes it.
    unsafe {
        let value: *const c_char = libc::getenv(name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value).to_bytes())
    }
}

/// A raw system call's result the way the C library gives it.
pub fn result(raw: isize) -> isize {
    if (-4095..0).contains(&raw) {
        crate::errno::set_errno(c_int::try_from(-raw).unwrap_or(libc::EINVAL));
        return -1;
    }
    raw
}
