//! madvise and its relatives: mlock, and the names of mappings.

use core::ffi::{c_int, c_void};

use vswap_platform::errno::Errno;
use vswap_platform::sys;

use crate::mapping::{c_result, fail, on_parts, touches};
use crate::{bridge, rules, state};

/// What an advice means for managed memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The bytes may go: they read as zero afterwards.
    Discard,
    /// Bring them in.
    Fetch,
    /// Move them out.
    Evict,
    /// The kernel's while memory is plenty; near the budget pages are moved
    /// one by one, and the engine ignores it.
    Huge,
    /// Nothing to do: the engine decides such things.
    Ignore,
    /// The kernel's, and harmless for the engine.
    Kernel,
    /// Would change pages behind the engine's back: as on a kernel without it.
    Refuse,
}

fn meaning(advice: c_int) -> Meaning {
    const GUARD_INSTALL: c_int = 102;
    const GUARD_REMOVE: c_int = 103;
    const DONTNEED_LOCKED: c_int = 24;
    const COLLAPSE: c_int = 25;
    match advice {
        libc::MADV_DONTNEED | libc::MADV_FREE | DONTNEED_LOCKED => Meaning::Discard,
        libc::MADV_WILLNEED | libc::MADV_POPULATE_READ | libc::MADV_POPULATE_WRITE => {
            Meaning::Fetch
        }
        libc::MADV_COLD | libc::MADV_PAGEOUT => Meaning::Evict,
        libc::MADV_HUGEPAGE | libc::MADV_NOHUGEPAGE => Meaning::Huge,
        libc::MADV_NORMAL
        | libc::MADV_RANDOM
        | libc::MADV_SEQUENTIAL
        | libc::MADV_MERGEABLE
        | libc::MADV_UNMERGEABLE
        | COLLAPSE => Meaning::Ignore,
        libc::MADV_WIPEONFORK | GUARD_INSTALL | GUARD_REMOVE | libc::MADV_REMOVE => Meaning::Refuse,
        _ => Meaning::Kernel,
    }
}

fn advise_managed(addr: usize, len: usize, advice: c_int) -> Result<(), Errno> {
    match meaning(advice) {
        Meaning::Discard => bridge::discard(addr, len),
        Meaning::Fetch => {
            bridge::prefetch(addr, len);
            Ok(())
        }
        Meaning::Evict => {
            bridge::evict(addr, len);
            Ok(())
        }
        Meaning::Huge if bridge::is_armed() => Ok(()),
        Meaning::Ignore => Ok(()),
        Meaning::Refuse => Err(Errno(libc::EINVAL)),
        Meaning::Huge | Meaning::Kernel => {
            // SAFETY: advice that changes no contents.
            Errno::check(unsafe { sys::madvise(addr, len, advice) }).map(|_| ())
        }
    }
}

/// `madvise(2)`.
///
/// # Safety
/// As of the system call.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn madvise(addr: *mut c_void, len: usize, advice: c_int) -> c_int {
    let place = addr.addr();
    let Some(pages) = rules::page_range(place, len).filter(|&pages| touches(place, pages)) else {
        // SAFETY: the caller's promise.
        return c_result(unsafe { sys::madvise(place, len, advice) });
    };
    on_parts(
        place,
        pages,
        // SAFETY: the caller's promise, for a part of its range.
        &|addr, len| unsafe { sys::madvise(addr, len, advice) },
        &|addr, len| advise_managed(addr, len, advice),
    )
}

/// `posix_madvise(3)`: returns the error; DONTNEED does nothing, as in glibc.
///
/// # Safety
/// As of `madvise`.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn posix_madvise(addr: *mut c_void, len: usize, advice: c_int) -> c_int {
    if advice == libc::POSIX_MADV_DONTNEED {
        return 0;
    }
    let errno = crate::errno::errno();
    // SAFETY: the caller's promise.
    let result = unsafe { madvise(addr, len, advice) };
    let error = if result == 0 {
        0
    } else {
        crate::errno::errno()
    };
    crate::errno::set_errno(errno);
    error
}

/// Forgets the bytes of a range, managed or not.
pub fn discard_anywhere(addr: usize, len: usize) -> c_int {
    let Some(len) = rules::page_range(addr, len) else {
        return fail(libc::EINVAL);
    };
    on_parts(
        addr,
        len,
        // SAFETY: the owner of the range gives up its contents.
        &|addr, len| unsafe { sys::madvise(addr, len, libc::MADV_DONTNEED) },
        &bridge::discard,
    )
}

/// Locks take any address: the range is widened to pages.
fn widened(addr: usize, len: usize) -> Option<(usize, usize)> {
    let start = addr & !(vswap_units::PAGE_SIZE - 1);
    let len = rules::page_range(start, len.checked_add(addr - start)?)?;
    touches(start, len).then_some((start, len))
}

/// `mlock(2)`: managed memory is brought in and kept in; more than the budget
/// can hold is refused with ENOMEM.
///
/// # Safety
/// As of the system call.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn mlock(addr: *const c_void, len: usize) -> c_int {
    let Some((start, pages)) = widened(addr.addr(), len) else {
        // SAFETY: the caller's promise.
        return c_result(unsafe { sys::mlock(addr.addr(), len) });
    };
    on_parts(
        start,
        pages,
        // SAFETY: the caller's promise, for a part of its range.
        &|addr, len| unsafe { sys::mlock(addr, len) },
        &bridge::pin,
    )
}

/// `mlock2(2)`: `MLOCK_ONFAULT` is taken as a plain lock on managed memory.
///
/// # Safety
/// As of the system call.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn mlock2(addr: *const c_void, len: usize, flags: libc::c_uint) -> c_int {
    if widened(addr.addr(), len).is_some() {
        // SAFETY: the caller's promise.
        return unsafe { mlock(addr, len) };
    }
    // SAFETY: the caller's promise.
    c_result(unsafe { sys::mlock2(addr.addr(), len, flags.cast_signed()) })
}

/// `munlock(2)`.
///
/// # Safety
/// As of the system call.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn munlock(addr: *const c_void, len: usize) -> c_int {
    let Some((start, pages)) = widened(addr.addr(), len) else {
        // SAFETY: the caller's promise.
        return c_result(unsafe { sys::munlock(addr.addr(), len) });
    };
    on_parts(
        start,
        pages,
        // SAFETY: the caller's promise, for a part of its range.
        &|addr, len| unsafe { sys::munlock(addr, len) },
        &|addr, len| {
            bridge::unpin(addr, len);
            Ok(())
        },
    )
}

/// `mlockall(2)`: refused while memory is managed, as if the limit on locked
/// memory were reached: it would bring in everything that was moved out.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn mlockall(flags: c_int) -> c_int {
    if state::is_on() {
        return fail(libc::ENOMEM);
    }
    c_result(sys::mlockall(flags))
}

/// `prctl(2)`: naming a managed mapping does nothing, because a name splits the
/// mapping and pages are moved only within one. All else is the kernel's.
///
/// # Safety
/// As of the system call.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn prctl(option: c_int, a: usize, b: usize, c: usize, d: usize) -> c_int {
    const PR_SET_VMA: c_int = 0x5356_4d41;
    if option == PR_SET_VMA && touches(b, c.max(1)) {
        return 0;
    }
    // SAFETY: the caller's promise.
    c_result(unsafe { sys::prctl(option, a, b, c, d) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_and_dontneed_both_discard() {
        assert_eq!(meaning(libc::MADV_DONTNEED), Meaning::Discard);
        assert_eq!(meaning(libc::MADV_FREE), Meaning::Discard);
    }

    #[test]
    fn advice_that_changes_pages_behind_the_engine_is_refused() {
        assert_eq!(meaning(libc::MADV_WIPEONFORK), Meaning::Refuse);
        assert_eq!(meaning(102), Meaning::Refuse);
    }

    #[test]
    fn unknown_advice_is_the_kernels_to_refuse() {
        assert_eq!(meaning(12345), Meaning::Kernel);
    }
}
