//! Calls that wait for descriptors: their tables may be large, and a signal
//! mask given to them must not hold back our faults.

use core::ffi::{c_int, c_void};

use libc::{epoll_event, fd_set, nfds_t, pollfd, sigset_t, timespec, timeval};

use crate::next::next;
use crate::resident::Resident;
use crate::signals::without_fault_signal;

next! {
    fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int = -1;
    fn ppoll(fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int = -1;
    fn select(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int = -1;
    fn pselect(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *const timespec, mask: *const sigset_t) -> c_int = -1;
    fn epoll_wait(epoll: c_int, events: *mut epoll_event, count: c_int, timeout: c_int) -> c_int = -1;
    fn epoll_pwait(epoll: c_int, events: *mut epoll_event, count: c_int, timeout: c_int, mask: *const sigset_t) -> c_int = -1;
    fn epoll_pwait2(epoll: c_int, events: *mut epoll_event, count: c_int, timeout: *const timespec, mask: *const sigset_t) -> c_int = -1;
}

unsafe extern "C" {
    safe fn __chk_fail() -> !;
}

fn table<T>(at: *const T, count: usize) -> Resident {
    Resident::one(at.cast::<c_void>(), count.saturating_mul(size_of::<T>()))
}

fn positive(count: c_int) -> usize {
    usize::try_from(count).unwrap_or(0)
}

/// `poll(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    let _kept = table(fds, count as usize);
    // SAFETY: the caller's promise.
    unsafe { next::poll(fds, count, timeout) }
}

/// `poll` of programs built with fortification.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn __poll_chk(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: c_int,
    room: usize,
) -> c_int {
    if room / size_of::<pollfd>() < count as usize {
        __chk_fail();
    }
    // SAFETY: the caller's promise.
    unsafe { poll(fds, count, timeout) }
}

/// `ppoll(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn ppoll(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    let _kept = table(fds, count as usize);
    // SAFETY: the caller's promise.
    unsafe {
        let mask = without_fault_signal(mask);
        next::ppoll(fds, count, timeout, mask.pointer())
    }
}

/// The three sets of a select call.
fn sets(count: c_int, sets: [*mut fd_set; 3]) -> Resident {
    let bytes = positive(count).div_ceil(64) * 8;
    let mut kept = Resident::none();
    for set in sets {
        kept.add(set.cast(), bytes);
    }
    kept
}

/// `select(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    let _kept = sets(count, [read, write, except]);
    // SAFETY: the caller's promise.
    unsafe { next::select(count, read, write, except, timeout) }
}

/// `pselect(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    let _kept = sets(count, [read, write, except]);
    // SAFETY: the caller's promise.
    unsafe {
        let mask = without_fault_signal(mask);
        next::pselect(count, read, write, except, timeout, mask.pointer())
    }
}

/// `epoll_wait(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: c_int,
) -> c_int {
    let _kept = table(events, positive(count));
    // SAFETY: the caller's promise.
    unsafe { next::epoll_wait(epoll, events, count, timeout) }
}

/// `epoll_pwait(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn epoll_pwait(
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: c_int,
    mask: *const sigset_t,
) -> c_int {
    let _kept = table(events, positive(count));
    // SAFETY: the caller's promise.
    unsafe {
        let mask = without_fault_signal(mask);
        next::epoll_pwait(epoll, events, count, timeout, mask.pointer())
    }
}

/// `epoll_pwait2(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn epoll_pwait2(
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    let _kept = table(events, positive(count));
    // SAFETY: the caller's promise.
    unsafe {
        let mask = without_fault_signal(mask);
        next::epoll_pwait2(epoll, events, count, timeout, mask.pointer())
    }
}
