//! Blocks of the malloc family: who serves a request, and who owns a pointer.
//!
//! Three owners: the C library (before the engine runs, below the minimum, and
//! for marked threads), the small-object heap, and the engine (runs of pages).
//! A request is served by size; a pointer is recognised by where it lies, so a
//! block may be freed or resized whoever served it.

use core::ffi::c_void;

use vswap_platform::{log, sys};

use crate::bridge::{self, Kind};
use crate::state::{self, LARGE, Live};
use crate::{heap, real};

/// The largest alignment the small-object heap is asked for.
const HEAP_ALIGN_MAX: usize = 4096;

/// glibc aligns every block to this.
const MIN_ALIGN: usize = 16;

/// No object may be larger: pointer differences must fit.
const SIZE_MAX: usize = isize::MAX as usize;

/// Whose block a pointer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Libc,
    Heap,
    Engine,
}

/// Who serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Libc,
    Heap,
    Engine,
}

fn owner(block: *const c_void) -> Owner {
    if !bridge::owns(block.addr()) {
        Owner::Libc
    } else if heap::owns(block) {
        Owner::Heap
    } else {
        Owner::Engine
    }
}

#[inline]
fn server(live: Live, size: usize, align: usize) -> Server {
    if size < live.block_min() || align > bridge::alignment_max() {
        Server::Libc
    } else if size < LARGE && align <= HEAP_ALIGN_MAX {
        Server::Heap
    } else {
        Server::Engine
    }
}

#[inline]
fn serve(size: usize, align: usize) -> Server {
    match state::live(size) {
        Some(live) => server(live, size, align),
        None => Server::Libc,
    }
}

fn no_memory() -> *mut c_void {
    crate::errno::set_errno(libc::ENOMEM);
    core::ptr::null_mut()
}

fn run(size: usize, align: usize, kind: Kind) -> *mut c_void {
    bridge::allocate(size, align, kind)
        .map_or_else(no_memory, core::ptr::with_exposed_provenance_mut)
}

/// `malloc`.
#[inline]
pub fn allocate(size: usize) -> *mut c_void {
    match serve(size, MIN_ALIGN) {
        Server::Heap => heap::malloc(size),
        Server::Libc => real::malloc(size),
        Server::Engine if size > SIZE_MAX => no_memory(),
        Server::Engine => run(size, MIN_ALIGN, Kind::Block),
    }
}

/// `calloc`.
#[inline]
pub fn allocate_zeroed(count: usize, each: usize) -> *mut c_void {
    let Some(size) = count.checked_mul(each) else {
        return no_memory();
    };
    match serve(size, MIN_ALIGN) {
        Server::Heap => heap::zalloc(size),
        Server::Libc => real::calloc(count, each),
        Server::Engine if size > SIZE_MAX => no_memory(),
        Server::Engine => run(size, MIN_ALIGN, Kind::Zeroed),
    }
}

/// A block aligned to `align`, which is a power of two.
pub fn allocate_aligned(align: usize, size: usize) -> *mut c_void {
    if align <= MIN_ALIGN {
        return allocate(size);
    }
    match serve(size, align) {
        Server::Heap => heap::aligned(size, align, false),
        Server::Libc => real::memalign(align, size),
        Server::Engine if size.saturating_add(align) > SIZE_MAX => no_memory(),
        Server::Engine => run(size.max(1), align, Kind::Block),
    }
}

/// `free`.
///
/// # Safety
/// `block` is null or a live block of any owner.
#[inline]
pub unsafe fn release(block: *mut c_void) {
    match owner(block) {
        // SAFETY: the pointer lies in a block of the heap.
        Owner::Heap => unsafe { heap::free(block) },
        // SAFETY: the pointer is not ours; the C library decides about it.
        Owner::Libc => unsafe { real::free(block) },
        Owner::Engine => release_run(block),
    }
}

fn release_run(block: *mut c_void) {
    let errno = crate::errno::errno();
    if !bridge::release(block.addr()) {
        invalid("free(): ", block.addr());
    }
    crate::errno::set_errno(errno);
}

/// What glibc does too: a program that frees what it does not hold is stopped.
fn invalid(call: &str, addr: usize) -> ! {
    let mut digits = [0; 20];
    let text = log::hex(addr as u64, &mut digits);
    log::say(&[call, "0x", text, " is not a live block of managed memory"]);
    sys::abort_now()
}

/// `malloc_usable_size`.
///
/// # Safety
/// `block` is null or a live block of any owner.
pub unsafe fn usable(block: *mut c_void) -> usize {
    if block.is_null() {
        return 0;
    }
    match owner(block) {
        // SAFETY: the pointer lies in a block of the heap.
        Owner::Heap => unsafe { heap::usable(block) },
        // SAFETY: the pointer is not ours; the C library decides about it.
        Owner::Libc => unsafe { real::usable_size(block) },
        Owner::Engine => bridge::block_size(block.addr())
            .unwrap_or_else(|| invalid("malloc_usable_size(): ", block.addr())),
    }
}

/// `realloc`, for a block that is not null and a size that is not zero.
///
/// # Safety
/// `block` is a live block of any owner.
pub unsafe fn resize(block: *mut c_void, size: usize) -> *mut c_void {
    if size > SIZE_MAX {
        return no_memory();
    }
    match (owner(block), serve(size, MIN_ALIGN)) {
        // SAFETY: a block of the C library that stays there.
        (Owner::Libc, Server::Libc) => unsafe { real::realloc(block, size) },
        // SAFETY: a block of the heap that stays there.
        (Owner::Heap, Server::Heap) => unsafe { heap::realloc(block, size) },
        (Owner::Engine, Server::Engine) if bridge::resize_in_place(block.addr(), size) => block,
        // SAFETY: the block is live, by the caller's promise.
        (_, server) => unsafe { move_to(block, size, server) },
    }
}

/// Moves a block to a new one, of the same or another owner.
unsafe fn move_to(block: *mut c_void, size: usize, server: Server) -> *mut c_void {
    // SAFETY: the block is live, by the caller's promise.
    let old = unsafe { usable(block) };
    let fresh = match server {
        Server::Libc => real::malloc(size),
        Server::Heap => heap::malloc(size),
        Server::Engine => run(size, MIN_ALIGN, Kind::Block),
    };
    if !fresh.is_null() {
        // SAFETY: both blocks hold that many bytes and are distinct; the old
        // one is live until it is freed here.
        unsafe {
            core::ptr::copy_nonoverlapping(block.cast::<u8>(), fresh.cast::<u8>(), old.min(size));
            release(block);
        }
    }
    fresh
}
