//! SIGBUS belongs to the engine in signal mode: it is never blocked and its
//! handler never replaced. The program sees what it would see without vswap:
//! its own handler (called for what is not a fault of ours) and its own mask
//! (remembered per thread).
//!
//! In thread mode every call here passes through.

use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering;

use libc::{sigset_t, stack_t};
use vswap_platform::signal::{self, KernelSigaction};
use vswap_platform::tls;

use crate::next::next;
use crate::resident::Resident;
use crate::state;

const FAULT: c_int = libc::SIGBUS;
const FAULT_BIT: u64 = 1 << (FAULT - 1);

next! {
    fn sigaction(signal: c_int, new: *const libc::sigaction, old: *mut libc::sigaction) -> c_int = -1;
    fn signal(number: c_int, handler: usize) -> usize = usize::MAX;
    fn sigprocmask(how: c_int, new: *const sigset_t, old: *mut sigset_t) -> c_int = -1;
    fn pthread_sigmask(how: c_int, new: *const sigset_t, old: *mut sigset_t) -> c_int = libc::ENOSYS;
    fn sigsuspend(mask: *const sigset_t) -> c_int = -1;
    fn sigaltstack(new: *const stack_t, old: *mut stack_t) -> c_int = -1;
    fn pthread_attr_setstack(attr: *mut c_void, stack: *mut c_void, size: usize) -> c_int = libc::ENOSYS;
    fn pthread_attr_setsigmask_np(attr: *mut c_void, mask: *const sigset_t) -> c_int = libc::ENOSYS;
}

/// A copy of a signal set without SIGBUS, or the set itself in thread mode.
pub struct Mask {
    given: *const sigset_t,
    copy: Option<sigset_t>,
}

impl Mask {
    /// What to give to the C library.
    pub fn pointer(&self) -> *const sigset_t {
        self.copy.as_ref().map_or(self.given, core::ptr::from_ref)
    }
}

/// A set that does not hold our faults back.
///
/// # Safety
/// `given` is null or points to a signal set.
pub unsafe fn without_fault_signal(given: *const sigset_t) -> Mask {
    if given.is_null() || !state::is_signal_mode() {
        return Mask { given, copy: None };
    }
    // SAFETY: the caller's promise; the copy is a valid set.
    let copy = unsafe {
        let mut copy = given.read();
        libc::sigdelset(&raw mut copy, FAULT);
        copy
    };
    Mask {
        given,
        copy: Some(copy),
    }
}

/// Whether this thread believes it has blocked SIGBUS.
fn believed() -> bool {
    tls::thread().scratch[0].load(Ordering::Relaxed) != 0
}

fn believe(blocked: bool) {
    tls::thread().scratch[0].store(usize::from(blocked), Ordering::Relaxed);
}

/// A change of the mask, by either name of the call.
unsafe fn change_mask(
    how: c_int,
    new: *const sigset_t,
    old: *mut sigset_t,
    call: unsafe fn(c_int, *const sigset_t, *mut sigset_t) -> c_int,
) -> c_int {
    // SAFETY: the caller's sets; the copy is valid.
    unsafe {
        if !state::is_signal_mode() {
            return call(how, new, old);
        }
        let before = believed();
        let named = !new.is_null() && libc::sigismember(new, FAULT) == 1;
        let asked = !new.is_null();
        // Unblocking may as well name it: it is never blocked.
        let result = match without_fault_signal(new) {
            mask if how != libc::SIG_UNBLOCK => call(how, mask.pointer(), old),
            _ => call(how, new, old),
        };
        if result != 0 {
            return result;
        }
        if !old.is_null() && before {
            libc::sigaddset(old, FAULT);
        }
        match how {
            libc::SIG_BLOCK if asked && named => believe(true),
            libc::SIG_UNBLOCK if asked && named => believe(false),
            libc::SIG_SETMASK if asked => believe(named),
            _ => {}
        }
        0
    }
}

/// `sigprocmask(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn sigprocmask(
    how: c_int,
    new: *const sigset_t,
    old: *mut sigset_t,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { change_mask(how, new, old, next::sigprocmask) }
}

/// `pthread_sigmask(3)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn pthread_sigmask(
    how: c_int,
    new: *const sigset_t,
    old: *mut sigset_t,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { change_mask(how, new, old, next::pthread_sigmask) }
}

/// `sigsuspend(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn sigsuspend(mask: *const sigset_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let mask = without_fault_signal(mask);
        next::sigsuspend(mask.pointer())
    }
}

/// The first 64 signals of a set, as the kernel has it.
unsafe fn bits(set: *const sigset_t) -> u64 {
    // SAFETY: a signal set begins with those bits; the caller's promise.
    unsafe { set.cast::<u64>().read() }
}

unsafe fn to_kernel(action: *const libc::sigaction) -> KernelSigaction {
    // SAFETY: the caller's promise.
    unsafe {
        let action = &*action;
        KernelSigaction {
            handler: action.sa_sigaction,
            flags: u64::from(action.sa_flags.cast_unsigned()),
            restorer: 0,
            mask: bits(&raw const action.sa_mask) & !FAULT_BIT,
        }
    }
}

unsafe fn from_kernel(action: &KernelSigaction, out: *mut libc::sigaction) {
    // SAFETY: the caller's structure; all-zero is a valid one.
    unsafe {
        out.write_bytes(0, 1);
        let out = &mut *out;
        out.sa_sigaction = action.handler;
        // The kernel's own flag for the return path is not the program's.
        let flags = action.flags & !signal::restorer_flag();
        out.sa_flags = c_int::try_from(flags & 0x7fff_ffff).unwrap_or(0)
            | if flags & 0x8000_0000 == 0 {
                0
            } else {
                c_int::MIN
            };
        (&raw mut out.sa_mask).cast::<u64>().write(action.mask);
    }
}

/// `sigaction(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn sigaction(
    number: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: the caller's promise, in all three.
    unsafe {
        if !state::is_signal_mode() {
            next::sigaction(number, new, old)
        } else if number == FAULT {
            fault_action(new, old)
        } else {
            other_action(number, new, old)
        }
    }
}

/// The program's action for SIGBUS stands behind ours.
unsafe fn fault_action(new: *const libc::sigaction, old: *mut libc::sigaction) -> c_int {
    // SAFETY: the caller's structures.
    unsafe {
        let before = if new.is_null() {
            signal::chained(FAULT)
        } else {
            signal::set_chained(FAULT, &to_kernel(new))
        };
        if !old.is_null() {
            from_kernel(&before.unwrap_or_default(), old);
        }
    }
    0
}

/// Handlers of other signals do not block SIGBUS: they may touch what is out.
unsafe fn other_action(
    number: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: the caller's structures; the copy is valid.
    unsafe {
        if new.is_null() {
            return next::sigaction(number, new, old);
        }
        let mut copy = new.read();
        libc::sigdelset(&raw mut copy.sa_mask, FAULT);
        next::sigaction(number, &raw const copy, old)
    }
}

/// `signal(2)`, in its BSD meaning, which is glibc's.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn signal(number: c_int, handler: usize) -> usize {
    if number != FAULT || !state::is_signal_mode() {
        // SAFETY: the caller's promise.
        return unsafe { next::signal(number, handler) };
    }
    let action = KernelSigaction {
        handler,
        flags: u64::from(libc::SA_RESTART.cast_unsigned()),
        restorer: 0,
        mask: 0,
    };
    signal::set_chained(FAULT, &action).map_or(libc::SIG_ERR, |before| before.handler)
}

/// `sigaltstack(2)`: the stack stays in memory from now on, since our handler
/// may have to run on it.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn sigaltstack(new: *const stack_t, old: *mut stack_t) -> c_int {
    if state::is_signal_mode() && !new.is_null() {
        // SAFETY: the caller's structure.
        let stack = unsafe { new.read() };
        if stack.ss_flags & libc::SS_DISABLE == 0 {
            core::mem::forget(Resident::one(stack.ss_sp, stack.ss_size));
        }
    }
    // SAFETY: the caller's promise.
    unsafe { next::sigaltstack(new, old) }
}

/// `pthread_attr_setstack(3)`: a stack given by the program stays in memory.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn pthread_attr_setstack(
    attr: *mut c_void,
    stack: *mut c_void,
    size: usize,
) -> c_int {
    core::mem::forget(Resident::one(stack, size));
    // SAFETY: the caller's promise.
    unsafe { next::pthread_attr_setstack(attr, stack, size) }
}

/// `pthread_attr_setsigmask_np(3)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn pthread_attr_setsigmask_np(
    attr: *mut c_void,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let mask = without_fault_signal(mask);
        next::pthread_attr_setsigmask_np(attr, mask.pointer())
    }
}

/// When signal mode begins: this thread may have inherited a blocked SIGBUS.
pub fn begin() {
    // SAFETY: both sets are locals; SIG_UNBLOCK of one signal.
    unsafe {
        let mut set = core::mem::zeroed::<sigset_t>();
        let mut before = core::mem::zeroed::<sigset_t>();
        libc::sigaddset(&raw mut set, FAULT);
        let errno = crate::errno::errno();
        if next::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, &raw mut before) == 0 {
            believe(libc::sigismember(&raw const before, FAULT) == 1);
        }
        crate::errno::set_errno(errno);
    }
}
