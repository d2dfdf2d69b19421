//! The small-object heap (mimalloc, see `c/heap.c`) on managed memory.

use core::ffi::{c_int, c_void};

use crate::bridge::{self, Kind};
use crate::mark;

/// mimalloc's unit: a page of its page map never mixes two owners.
const ALIGN: usize = 64 << 10;

#[repr(C)]
struct Hooks {
    map: extern "C" fn(usize) -> *mut c_void,
    unmap: extern "C" fn(*mut c_void, usize) -> c_int,
    discard: extern "C" fn(*mut c_void, usize) -> c_int,
    enter: extern "C" fn(),
    leave: extern "C" fn(),
}

static HOOKS: Hooks = Hooks {
    map,
    unmap,
    discard,
    enter,
    leave,
};

unsafe extern "C" {
    fn vswap_heap_start(hooks: *const Hooks);
    safe fn vswap_heap_malloc(size: usize) -> *mut c_void;
    safe fn vswap_heap_zalloc(size: usize) -> *mut c_void;
    safe fn vswap_heap_aligned(size: usize, align: usize, zero: c_int) -> *mut c_void;
    fn vswap_heap_realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn vswap_heap_free(block: *mut c_void);
    fn vswap_heap_usable(block: *const c_void) -> usize;
    safe fn vswap_heap_owns(block: *const c_void) -> c_int;
    safe fn vswap_heap_collect();
    safe fn vswap_heap_fork_prepare();
    safe fn vswap_heap_fork_parent();
    safe fn vswap_heap_fork_child();
}

extern "C" fn map(len: usize) -> *mut c_void {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    bridge::allocate(len, ALIGN, Kind::Map(prot)).map_or(
        core::ptr::null_mut(),
        core::ptr::with_exposed_provenance_mut,
    )
}

extern "C" fn unmap(addr: *mut c_void, len: usize) -> c_int {
    crate::mapping::unmap_anywhere(addr.expose_provenance(), len)
}

extern "C" fn discard(addr: *mut c_void, len: usize) -> c_int {
    crate::advice::discard_anywhere(addr.expose_provenance(), len)
}

extern "C" fn enter() {
    mark::enter();
}

extern "C" fn leave() {
    mark::leave();
}

/// Makes the heap ready. Called once, when the engine runs.
pub fn start() {
    // SAFETY: the table of hooks is static.
    unsafe { vswap_heap_start(&raw const HOOKS) }
}

/// A block smaller than [`crate::state::LARGE`].
#[inline]
pub fn malloc(size: usize) -> *mut c_void {
    vswap_heap_malloc(size)
}

/// A block of zeros.
#[inline]
pub fn zalloc(size: usize) -> *mut c_void {
    vswap_heap_zalloc(size)
}

/// A block aligned to a power of two of at most a page.
pub fn aligned(size: usize, align: usize, zero: bool) -> *mut c_void {
    vswap_heap_aligned(size, align, c_int::from(zero))
}

/// Whether the address lies in a block of the heap. Takes no lock.
#[inline]
pub fn owns(block: *const c_void) -> bool {
    vswap_heap_owns(block) != 0
}

/// Another size for a block.
///
/// # Safety
/// `block` is a live block of the heap.
pub unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: handed on to the caller.
    unsafe { vswap_heap_realloc(block, size) }
}

/// Frees a block.
///
/// # Safety
/// `block` is a live block of the heap.
#[inline]
pub unsafe fn free(block: *mut c_void) {
    // SAFETY: handed on to the caller.
    unsafe { vswap_heap_free(block) }
}

/// How many bytes of a block may be used.
///
/// # Safety
/// `block` is a live block of the heap.
pub unsafe fn usable(block: *const c_void) -> usize {
    // SAFETY: handed on to the caller.
    unsafe { vswap_heap_usable(block) }
}

/// Gives back what is free.
pub fn collect() {
    let errno = crate::errno::errno();
    vswap_heap_collect();
    crate::errno::set_errno(errno);
}

/// Waits until no other thread is inside a lock of the heap, and keeps it so.
pub fn fork_prepare() {
    vswap_heap_fork_prepare();
}

/// Ends [`fork_prepare`], in the parent.
pub fn fork_parent() {
    vswap_heap_fork_parent();
}

/// Ends [`fork_prepare`], in the child.
pub fn fork_child() {
    vswap_heap_fork_child();
}
