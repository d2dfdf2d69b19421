//! NumPy's memory handler (NEP 49): four functions and their context.
//!
//! Blocks below the threshold come from the C library, so a block's owner is
//! told by its address, never by its size. A space that is full refuses (NumPy
//! raises MemoryError). One that has been retired, and a group that was closed, takes nothing new, and threads
//! started in it may go on: what they make then is the C library's too.

use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vswap_process::{AllocKind, Engine, GroupKey, registry};

use crate::handle::{memory_given, space_of, vswap_space};
use crate::memory::pointer;

/// What NumPy hands back with every call. Lives as long as the handler capsule.
struct Context {
    engine: Arc<Engine>,
    group: GroupKey,
    threshold: usize,
    ended: AtomicBool,
}

/// Makes a context for the handler of `space`. Returns 0 or -EINVAL.
///
/// # Safety
/// `space` is a handle, `out` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_np_context(
    space: *mut vswap_space,
    threshold: usize,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { vswap_np_group_context(space, 0, threshold, out) }
}

/// Makes a context for the handler of a group of `space` (0: the root). Returns
/// 0 or -EINVAL.
///
/// # Safety
/// `space` is a handle, `out` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_np_group_context(
    space: *mut vswap_space,
    group: u32,
    threshold: usize,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: the caller's.
    let Some(space) = (unsafe { space_of(space) }) else {
        return -libc::EINVAL;
    };
    let context = Context {
        engine: Arc::clone(&space.engine),
        group: GroupKey(group),
        threshold,
        ended: AtomicBool::new(false),
    };
    // SAFETY: the caller's.
    unsafe { out.write(Box::into_raw(Box::new(context)).cast()) };
    0
}

/// Frees a context that no array's handler refers to any more.
///
/// # Safety
/// `ctx` came from `vswap_np_context` and is used by nobody.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_np_context_free(ctx: *mut c_void) {
    if !ctx.is_null() {
        // SAFETY: the caller's.
        drop(unsafe { Box::from_raw(ctx.cast::<Context>()) });
    }
}

impl Context {
    fn takes(&self, bytes: usize) -> bool {
        bytes >= self.threshold && !self.engine.is_retired() && self.engine.takes_blocks(self.group)
    }

    fn allocate(&self, bytes: usize, kind: AllocKind) -> *mut c_void {
        memory_given();
        pointer(self.engine.allocate_in(self.group, bytes, 1, kind))
    }

    fn release(&self, block: *mut c_void) {
        self.engine.release(block as usize);
        if self.engine.is_retired()
            && self.engine.live().0 == 0
            && !self.ended.swap(true, Ordering::AcqRel)
        {
            registry::remove(&self.engine);
            self.engine.shut_down();
        }
    }
}

/// # Safety
/// `ctx` came from `vswap_np_context`.
unsafe fn context<'a>(ctx: *mut c_void) -> &'a Context {
    // SAFETY: the caller's.
    unsafe { &*ctx.cast::<Context>() }
}

/// NumPy's malloc.
///
/// # Safety
/// As NumPy calls it, with a context of ours.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_np_malloc(ctx: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the caller's.
    let context = unsafe { context(ctx) };
    if context.takes(size) {
        return context.allocate(size, AllocKind::Malloc);
    }
    // SAFETY: any size may be asked for.
    unsafe { libc::malloc(size.max(1)) }
}

/// NumPy's calloc.
///
/// # Safety
/// As NumPy calls it, with a context of ours.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_np_calloc(
    ctx: *mut c_void,
    count: usize,
    size: usize,
) -> *mut c_void {
    // SAFETY: the caller's.
    let context = unsafe { context(ctx) };
    match count.checked_mul(size) {
        Some(bytes) if context.takes(bytes) => context.allocate(bytes, AllocKind::Zeroed),
        // SAFETY: any size may be asked for; the C library checks the product.
        _ => unsafe { libc::calloc(count.max(1), size.max(1)) },
    }
}

/// NumPy's realloc: blocks cross the threshold both ways.
///
/// # Safety
/// As NumPy calls it, with a context of ours.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_np_realloc(
    ctx: *mut c_void,
    block: *mut c_void,
    size: usize,
) -> *mut c_void {
    // SAFETY: the caller's.
    let context = unsafe { context(ctx) };
    let ours = context.engine.block_size(block as usize);
    match (ours, context.takes(size)) {
        (Some(_), true) => pointer(context.engine.resize(block as usize, size)),
        // SAFETY: a block of the C library, or NULL.
        (None, false) => unsafe { libc::realloc(block, size.max(1)) },
        // SAFETY: the block's size is known on either side.
        (ours, _) => unsafe { cross(context, ctx, block, ours, size) },
    }
}

/// # Safety
/// `block` is NULL, the engine's (of `ours` bytes), or the C library's.
unsafe fn cross(
    context: &Context,
    ctx: *mut c_void,
    block: *mut c_void,
    ours: Option<usize>,
    size: usize,
) -> *mut c_void {
    // SAFETY: a live block or NULL, of either owner.
    unsafe {
        let fresh = vswap_np_malloc(ctx, size);
        if fresh.is_null() || block.is_null() {
            return fresh;
        }
        let old = ours.unwrap_or_else(|| libc::malloc_usable_size(block));
        std::ptr::copy_nonoverlapping(block.cast::<u8>(), fresh.cast::<u8>(), old.min(size));
        match ours {
            Some(_) => context.release(block),
            None => libc::free(block),
        }
        fresh
    }
}

/// NumPy's free.
///
/// # Safety
/// As NumPy calls it, with a context of ours.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_np_free(ctx: *mut c_void, block: *mut c_void, _size: usize) {
    // SAFETY: the caller's.
    let context = unsafe { context(ctx) };
    if context.engine.owns(block as usize) {
        context.release(block);
    } else {
        // SAFETY: not the engine's, so the C library's or NULL.
        unsafe { libc::free(block) };
    }
}
