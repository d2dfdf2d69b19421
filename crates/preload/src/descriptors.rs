//! In signal mode the program's threads speak to the engine's descriptors
//! (userfaultfd, swap files), so the program cannot close or replace them: for
//! it they do not exist. In thread mode the engine keeps them in a private
//! table, and every call here passes through.

use core::ffi::{c_int, c_uint, c_void};

use crate::next::next;
use crate::resident::Resident;
use crate::{bridge, state};

next! {
    fn close(fd: c_int) -> c_int = -1;
    fn dup(fd: c_int) -> c_int = -1;
    fn fstat(fd: c_int, out: *mut c_void) -> c_int = -1;
    fn fstat64(fd: c_int, out: *mut c_void) -> c_int = -1;
    fn fcntl(fd: c_int, command: c_int, arg: usize) -> c_int = -1;
    fn fcntl64(fd: c_int, command: c_int, arg: usize) -> c_int = -1;
    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int = -1;
    fn dup2(old: c_int, new: c_int) -> c_int = -1;
    fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int = -1;
}

/// `CLOSE_RANGE_UNSHARE`: a table of its own first.
const UNSHARE: c_int = 2;

#[inline]
fn is_engines(fd: c_int) -> bool {
    state::is_signal_mode() && bridge::private_descriptors().contains(&fd)
}

fn bad_descriptor() -> c_int {
    crate::errno::set_errno(libc::EBADF);
    -1
}

/// `close(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    if is_engines(fd) {
        return bad_descriptor();
    }
    // SAFETY: the caller's promise.
    unsafe { next::close(fd) }
}

/// `dup(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn dup(fd: c_int) -> c_int {
    if is_engines(fd) {
        return bad_descriptor();
    }
    // SAFETY: the caller's promise.
    unsafe { next::dup(fd) }
}

macro_rules! looks {
    ($( $name:ident; )+) => { $(
        #[doc = concat!("`", stringify!($name), "(2)`: how programs look for open descriptors.")]
        ///
        /// # Safety
        /// As of the C function.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name(fd: c_int, out: *mut c_void) -> c_int {
            if is_engines(fd) {
                return bad_descriptor();
            }
            let _kept = Resident::one(out, size_of::<libc::stat>());
            // SAFETY: the caller's promise.
            unsafe { next::$name(fd, out) }
        }
    )+ };
}

looks! {
    fstat;
    fstat64;
}

macro_rules! controls {
    ($( $name:ident; )+) => { $(
        #[doc = concat!("`", stringify!($name), "(2)`. Where there is no third argument it is ignored.")]
        ///
        /// # Safety
        /// As of the C function.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name(fd: c_int, command: c_int, arg: usize) -> c_int {
            if is_engines(fd) {
                return bad_descriptor();
            }
            // SAFETY: the caller's promise.
            unsafe { next::$name(fd, command, arg) }
        }
    )+ };
}

controls! {
    fcntl;
    fcntl64;
}

/// `dup2(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn dup2(old: c_int, new: c_int) -> c_int {
    if is_engines(old) || is_engines(new) {
        return bad_descriptor();
    }
    // SAFETY: the caller's promise.
    unsafe { next::dup2(old, new) }
}

/// `dup3(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    if is_engines(old) || is_engines(new) {
        return bad_descriptor();
    }
    // SAFETY: the caller's promise.
    unsafe { next::dup3(old, new, flags) }
}

/// The ranges between `first` and `last` that hold none of `holes`.
fn around(first: c_uint, last: c_uint, holes: &[c_int], each: &mut dyn FnMut(c_uint, c_uint)) {
    let mut from = first;
    loop {
        let next_hole = holes
            .iter()
            .filter_map(|&fd| c_uint::try_from(fd).ok())
            .filter(|&fd| fd >= from && fd <= last)
            .min();
        match next_hole {
            None => return each(from, last),
            Some(hole) => {
                if hole > from {
                    each(from, hole - 1);
                }
                if hole == last {
                    return;
                }
                from = hole + 1;
            }
        }
    }
}

/// `close_range(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    // A table of its own is the caller's to empty: a vfork child about to exec.
    if !state::is_signal_mode() || first > last || flags & UNSHARE != 0 {
        // SAFETY: the caller's promise.
        return unsafe { next::close_range(first, last, flags) };
    }
    let mut result = 0;
    around(
        first,
        last,
        &bridge::private_descriptors(),
        &mut |from, to| {
            // SAFETY: the caller's promise, for a part of its range.
            result |= unsafe { next::close_range(from, to, flags) };
        },
    );
    result
}

/// `closefrom(3)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn closefrom(first: c_int) {
    let first = c_uint::try_from(first).unwrap_or(0);
    // SAFETY: the caller's promise.
    unsafe { close_range(first, c_uint::MAX, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(first: c_uint, last: c_uint, holes: &[c_int]) -> Vec<(c_uint, c_uint)> {
        let mut found = Vec::new();
        around(first, last, holes, &mut |from, to| found.push((from, to)));
        found
    }

    #[test]
    fn a_range_is_closed_around_the_engines_descriptors() {
        assert_eq!(ranges(3, 100, &[]), [(3, 100)]);
        assert_eq!(ranges(3, 100, &[50, 7, -1]), [(3, 6), (8, 49), (51, 100)]);
        assert_eq!(ranges(3, 100, &[3, 4, 100]), [(5, 99)]);
        assert_eq!(ranges(5, 5, &[5]), []);
        assert_eq!(ranges(0, c_uint::MAX, &[1]), [(0, 0), (2, c_uint::MAX)]);
    }
}
