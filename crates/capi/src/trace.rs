//! The event ring.

use std::ffi::c_int;

use crate::handle::{space_of, vswap_space};

/// Notes events from now on (`on` not 0), or no longer. Returns 0 or -EINVAL.
///
/// # Safety
/// `space` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_trace_on(space: *mut vswap_space, on: c_int) -> c_int {
    // SAFETY: the caller's.
    unsafe { space_of(space) }.map_or(-libc::EINVAL, |space| {
        space.engine.trace().set_on(on != 0);
        0
    })
}

/// Events the ring holds.
#[unsafe(no_mangle)]
pub extern "C" fn vswap_trace_capacity() -> usize {
    vswap_process::trace::EVENTS
}

/// Copies up to `count` events of four words out, the oldest first, from number `from` on. Returns how many, or -EINVAL.
///
/// # Safety
/// `space` is a handle; `words` has room for four words of each event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_trace_read(
    space: *mut vswap_space,
    from: u64,
    words: *mut u64,
    count: usize,
) -> i64 {
    // SAFETY: the caller's.
    let Some(space) = (unsafe { space_of(space) }) else {
        return -i64::from(libc::EINVAL);
    };
    if words.is_null() {
        return -i64::from(libc::EINVAL);
    }
    // SAFETY: the caller's.
    let out = unsafe { std::slice::from_raw_parts_mut(words.cast(), count) };
    space.engine.trace().read(from, out) as i64
}
