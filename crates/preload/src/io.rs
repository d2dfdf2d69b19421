//! read, write and their relatives.

use core::ffi::{c_int, c_uint, c_ulong, c_void};

use libc::{iovec, off_t};

use crate::next::next;
use crate::resident::{Kind, PIECE, Resident, in_pieces, is_needed, kind_of};
use crate::state;

next! {
    fn read(fd: c_int, buf: *mut c_void, len: usize) -> isize = -1;
    fn write(fd: c_int, buf: *const c_void, len: usize) -> isize = -1;
    fn pread64(fd: c_int, buf: *mut c_void, len: usize, at: off_t) -> isize = -1;
    fn pwrite64(fd: c_int, buf: *const c_void, len: usize, at: off_t) -> isize = -1;
    fn readv(fd: c_int, vector: *const iovec, count: c_int) -> isize = -1;
    fn writev(fd: c_int, vector: *const iovec, count: c_int) -> isize = -1;
    fn preadv64(fd: c_int, vector: *const iovec, count: c_int, at: off_t) -> isize = -1;
    fn pwritev64(fd: c_int, vector: *const iovec, count: c_int, at: off_t) -> isize = -1;
    fn preadv64v2(fd: c_int, vector: *const iovec, count: c_int, at: off_t, flags: c_int) -> isize = -1;
    fn pwritev64v2(fd: c_int, vector: *const iovec, count: c_int, at: off_t, flags: c_int) -> isize = -1;
    fn getrandom(buf: *mut c_void, len: usize, flags: c_uint) -> isize = -1;
    fn getentropy(buf: *mut c_void, len: usize) -> c_int = -1;
    fn arc4random_buf(buf: *mut c_void, len: usize);
    fn ioctl(fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int = -1;
    fn vmsplice(fd: c_int, vector: *const iovec, count: usize, flags: c_uint) -> isize = -1;
}

unsafe extern "C" {
    safe fn __chk_fail() -> !;
}

/// Bytes at an ioctl's argument that the kernel may access.
const IOCTL_BYTES: usize = 4096;

/// How large pieces of a transfer may be, and whether to go on after one.
fn cutting(fd: c_int, len: usize, reading: bool) -> (usize, bool) {
    if len <= PIECE {
        return (len, false);
    }
    match kind_of(fd) {
        Kind::File => (PIECE, true),
        Kind::Stream => (PIECE, !reading),
        Kind::Messages => (len, false),
    }
}

/// A transfer between a descriptor and one buffer.
fn transfer(
    fd: c_int,
    buf: *const c_void,
    len: usize,
    reading: bool,
    call: &dyn Fn(*const c_void, usize, usize) -> isize,
) -> isize {
    if !is_needed(buf, len) {
        return call(buf, len, 0);
    }
    let (piece, more) = cutting(fd, len, reading);
    in_pieces(len, piece, more, &|done, len| {
        let part = buf.wrapping_byte_add(done);
        let _kept = Resident::message(part, len);
        call(part, len, done)
    })
}

/// `read(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn read(fd: c_int, buf: *mut c_void, len: usize) -> isize {
    transfer(fd, buf, len, true, &|part, len, _| {
        // SAFETY: the caller's promise, for a part of its buffer.
        unsafe { next::read(fd, part.cast_mut(), len) }
    })
}

/// `write(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn write(fd: c_int, buf: *const c_void, len: usize) -> isize {
    transfer(fd, buf, len, false, &|part, len, _| {
        // SAFETY: the caller's promise, for a part of its buffer.
        unsafe { next::write(fd, part, len) }
    })
}

/// `pread64(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn pread64(fd: c_int, buf: *mut c_void, len: usize, at: off_t) -> isize {
    transfer(fd, buf, len, true, &|part, len, done| {
        // SAFETY: the caller's promise, for a part of its buffer.
        unsafe {
            next::pread64(
                fd,
                part.cast_mut(),
                len,
                at.wrapping_add_unsigned(done as u64),
            )
        }
    })
}

/// `pread(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn pread(fd: c_int, buf: *mut c_void, len: usize, at: off_t) -> isize {
    // SAFETY: the caller's promise.
    unsafe { pread64(fd, buf, len, at) }
}

/// `pwrite64(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn pwrite64(fd: c_int, buf: *const c_void, len: usize, at: off_t) -> isize {
    transfer(fd, buf, len, false, &|part, len, done| {
        // SAFETY: the caller's promise, for a part of its buffer.
        unsafe { next::pwrite64(fd, part, len, at.wrapping_add_unsigned(done as u64)) }
    })
}

/// `pwrite(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn pwrite(fd: c_int, buf: *const c_void, len: usize, at: off_t) -> isize {
    // SAFETY: the caller's promise.
    unsafe { pwrite64(fd, buf, len, at) }
}

/// A vector transfer: whole where it is small or keeps messages apart, else
/// entry by entry, each through the call for one buffer.
unsafe fn vectored(
    fd: c_int,
    vector: *const iovec,
    count: c_int,
    whole: &dyn Fn() -> isize,
    entry: &dyn Fn(&iovec, usize) -> isize,
) -> isize {
    let count = usize::try_from(count).unwrap_or(0);
    if !state::is_signal_mode() || vector.is_null() || count > libc::UIO_MAXIOV as usize {
        return whole();
    }
    // SAFETY: the caller's vector has that many entries.
    let entries = unsafe { core::slice::from_raw_parts(vector, count) };
    let total: usize = entries.iter().map(|entry| entry.iov_len).sum();
    if total <= PIECE || kind_of(fd) == Kind::Messages {
        let mut kept = Resident::none();
        // SAFETY: as above.
        unsafe { kept.add_vector(vector, count) };
        return whole();
    }
    let mut done = 0;
    for one in entries {
        let got = entry(one, done);
        let Ok(moved) = usize::try_from(got) else {
            return if done > 0 { done.cast_signed() } else { got };
        };
        done += moved;
        if moved < one.iov_len {
            break;
        }
    }
    done.cast_signed()
}

/// `readv(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn readv(fd: c_int, vector: *const iovec, count: c_int) -> isize {
    // SAFETY: the caller's promise, in all three.
    unsafe {
        vectored(
            fd,
            vector,
            count,
            &|| next::readv(fd, vector, count),
            &|entry, _| read(fd, entry.iov_base, entry.iov_len),
        )
    }
}

/// `writev(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn writev(fd: c_int, vector: *const iovec, count: c_int) -> isize {
    // SAFETY: the caller's promise, in all three.
    unsafe {
        vectored(
            fd,
            vector,
            count,
            &|| next::writev(fd, vector, count),
            &|entry, _| write(fd, entry.iov_base, entry.iov_len),
        )
    }
}

macro_rules! positioned_vectors {
    ($( $name:ident, $wide:ident, $one:ident; )+) => { $(
        #[doc = concat!("`", stringify!($name), "(2)`.")]
        ///
        /// # Safety
        /// As of the C function.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name(
            fd: c_int,
            vector: *const iovec,
            count: c_int,
            at: off_t,
        ) -> isize {
            // SAFETY: the caller's promise, in all three.
            unsafe {
                vectored(
                    fd,
                    vector,
                    count,
                    &|| next::$wide(fd, vector, count, at),
                    &|entry, done| {
                        let at = at.wrapping_add_unsigned(done as u64);
                        $one(fd, entry.iov_base, entry.iov_len, at)
                    },
                )
            }
        }
    )+ };
}

positioned_vectors! {
    preadv, preadv64, pread64;
    preadv64, preadv64, pread64;
    pwritev, pwritev64, pwrite64;
    pwritev64, pwritev64, pwrite64;
}

macro_rules! flagged_vectors {
    ($( $name:ident, $wide:ident, $placed:ident, $plain:ident; )+) => { $(
        #[doc = concat!("`", stringify!($name), "(2)`: with flags, never cut.")]
        ///
        /// # Safety
        /// As of the C function.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name(
            fd: c_int,
            vector: *const iovec,
            count: c_int,
            at: off_t,
            flags: c_int,
        ) -> isize {
            // SAFETY: the caller's promise.
            unsafe {
                if flags == 0 && at == -1 {
                    return $plain(fd, vector, count);
                }
                if flags == 0 {
                    return $placed(fd, vector, count, at);
                }
                let mut kept = Resident::none();
                kept.add_vector(vector, usize::try_from(count).unwrap_or(0));
                next::$wide(fd, vector, count, at, flags)
            }
        }
    )+ };
}

flagged_vectors! {
    preadv2, preadv64v2, preadv64, readv;
    preadv64v2, preadv64v2, preadv64, readv;
    pwritev2, pwritev64v2, pwritev64, writev;
    pwritev64v2, pwritev64v2, pwritev64, writev;
}

/// `vmsplice(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn vmsplice(
    fd: c_int,
    vector: *const iovec,
    count: usize,
    flags: c_uint,
) -> isize {
    let mut kept = Resident::none();
    // SAFETY: the caller's promise.
    unsafe {
        kept.add_vector(vector, count);
        next::vmsplice(fd, vector, count, flags)
    }
}

/// `getrandom(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn getrandom(buf: *mut c_void, len: usize, flags: c_uint) -> isize {
    in_pieces(len, PIECE, true, &|done, len| {
        let part = buf.wrapping_byte_add(done);
        let _kept = Resident::one(part, len);
        // SAFETY: the caller's promise, for a part of its buffer.
        unsafe { next::getrandom(part, len, flags) }
    })
}

/// `getentropy(3)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn getentropy(buf: *mut c_void, len: usize) -> c_int {
    let _kept = Resident::one(buf, len);
    // SAFETY: the caller's promise.
    unsafe { next::getentropy(buf, len) }
}

/// `arc4random_buf(3)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn arc4random_buf(buf: *mut c_void, len: usize) {
    in_pieces(len, PIECE, true, &|done, len| {
        let part = buf.wrapping_byte_add(done);
        let _kept = Resident::one(part, len);
        // SAFETY: the caller's promise, for a part of its buffer.
        unsafe { next::arc4random_buf(part, len) };
        len.cast_signed()
    });
}

/// `ioctl(2)`: the page at its argument is kept.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int {
    if !is_needed(arg, 1) {
        // SAFETY: the caller's promise.
        return unsafe { next::ioctl(fd, request, arg) };
    }
    let to_page_end = IOCTL_BYTES - arg.addr() % IOCTL_BYTES;
    let _kept = Resident::one(arg, to_page_end);
    // SAFETY: the caller's promise.
    unsafe { next::ioctl(fd, request, arg) }
}

macro_rules! checked {
    ($( $name:ident => $plain:ident($($arg:ident: $ty:ty),*), $len:ident; )+) => { $(
        #[doc = concat!("`", stringify!($plain), "` of programs built with fortification.")]
        ///
        /// # Safety
        /// As of the C function.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name($($arg: $ty,)* room: usize) -> isize {
            if $len > room {
                __chk_fail();
            }
            // SAFETY: the caller's promise.
            unsafe { $plain($($arg),*) }
        }
    )+ };
}

checked! {
    __read_chk => read(fd: c_int, buf: *mut c_void, len: usize), len;
    __pread_chk => pread64(fd: c_int, buf: *mut c_void, len: usize, at: off_t), len;
    __pread64_chk => pread64(fd: c_int, buf: *mut c_void, len: usize, at: off_t), len;
}
