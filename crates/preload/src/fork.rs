//! What happens around `fork`.
//!
//! Registered by the constructor, before the program's own handlers: so it is
//! prepared last and resumed first, and the program's handlers may allocate.
//! Also where this library is merely imported: a space of the C interface has
//! an engine too, whose pages a child would read as zeros.

use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use vswap_platform::sys;

use crate::{attach, bridge, heap, mark, state};

const NOTHING: u8 = 0;
const ENGINES: u8 = 1;
const ENGINES_AND_HEAP: u8 = 2;

/// What was prepared for the fork under way.
static PREPARED: AtomicU8 = AtomicU8::new(NOTHING);

/// One fork at a time: the C library runs handlers of several at once.
static FORKING: AtomicBool = AtomicBool::new(false);

fn lock() {
    while FORKING.swap(true, Ordering::Acquire) {
        sys::sched_yield();
    }
}

fn unlock() {
    FORKING.store(false, Ordering::Release);
}

/// Installs the handlers.
pub fn register() {
    // SAFETY: the three functions live as long as the library, which is never
    // unloaded (linked with nodelete).
    unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
}

unsafe extern "C" fn prepare() {
    let with_heap = state::is_on();
    if !with_heap && !bridge::has_engines() {
        return;
    }
    lock();
    if with_heap {
        // The heap first: a thread inside one of its locks may need the engine.
        heap::fork_prepare();
    }
    mark::enter();
    bridge::fork_prepare();
    let prepared = if with_heap { ENGINES_AND_HEAP } else { ENGINES };
    PREPARED.store(prepared, Ordering::Relaxed);
}

unsafe extern "C" fn parent() {
    let prepared = PREPARED.swap(NOTHING, Ordering::Relaxed);
    if prepared != NOTHING {
        bridge::fork_parent();
        mark::leave();
        if prepared == ENGINES_AND_HEAP {
            heap::fork_parent();
        }
        unlock();
    }
}

unsafe extern "C" fn child() {
    let prepared = PREPARED.swap(NOTHING, Ordering::Relaxed);
    if prepared != NOTHING {
        bridge::fork_child();
        mark::leave();
        if prepared == ENGINES_AND_HEAP {
            heap::fork_child();
        }
        unlock();
    }
    state::after_fork_in_child();
    attach::after_fork_in_child();
}
