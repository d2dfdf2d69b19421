//! Sockets. Streams are cut into pieces, messages never are.

use core::ffi::{c_int, c_uint, c_void};

use libc::{iovec, mmsghdr, msghdr, sockaddr, socklen_t, timespec};

use crate::next::next;
use crate::resident::{Kind, PIECE, Resident, in_pieces, is_needed, kind_of};
use crate::state;

next! {
    fn recv(fd: c_int, buf: *mut c_void, len: usize, flags: c_int) -> isize = -1;
    fn recvfrom(fd: c_int, buf: *mut c_void, len: usize, flags: c_int, from: *mut sockaddr, from_len: *mut socklen_t) -> isize = -1;
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> isize = -1;
    fn recvmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec) -> c_int = -1;
    fn send(fd: c_int, buf: *const c_void, len: usize, flags: c_int) -> isize = -1;
    fn sendto(fd: c_int, buf: *const c_void, len: usize, flags: c_int, to: *const sockaddr, to_len: socklen_t) -> isize = -1;
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> isize = -1;
    fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int = -1;
}

unsafe extern "C" {
    safe fn __chk_fail() -> !;
}

/// Entries of a stream message that are sent or received at once.
const ENTRIES: usize = 16;

fn cutting(fd: c_int, len: usize, more: bool) -> (usize, bool) {
    if len > PIECE && kind_of(fd) != Kind::Messages {
        (PIECE, more)
    } else {
        (len, false)
    }
}

fn transfer(
    fd: c_int,
    buf: *const c_void,
    len: usize,
    more: bool,
    call: &dyn Fn(*const c_void, usize) -> isize,
) -> isize {
    if !is_needed(buf, len) {
        return call(buf, len);
    }
    let (piece, more) = cutting(fd, len, more);
    in_pieces(len, piece, more, &|done, len| {
        let part = buf.wrapping_byte_add(done);
        let _kept = Resident::message(part, len);
        call(part, len)
    })
}

/// Whether a receiving call waits for all it asked for.
fn waits(flags: c_int) -> bool {
    flags & libc::MSG_WAITALL != 0
}

/// `recv(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn recv(fd: c_int, buf: *mut c_void, len: usize, flags: c_int) -> isize {
    transfer(fd, buf, len, waits(flags), &|part, len| {
        // SAFETY: the caller's promise, for a part of its buffer.
        unsafe { next::recv(fd, part.cast_mut(), len, flags) }
    })
}

/// `recvfrom(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn recvfrom(
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    flags: c_int,
    from: *mut sockaddr,
    from_len: *mut socklen_t,
) -> isize {
    let mut kept = Resident::none();
    kept.add(from.cast(), size_of::<libc::sockaddr_storage>());
    transfer(fd, buf, len, waits(flags), &|part, len| {
        // SAFETY: the caller's promise, for a part of its buffer.
        unsafe { next::recvfrom(fd, part.cast_mut(), len, flags, from, from_len) }
    })
}

/// `send(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn send(fd: c_int, buf: *const c_void, len: usize, flags: c_int) -> isize {
    transfer(fd, buf, len, true, &|part, len| {
        // SAFETY: the caller's promise, for a part of its buffer.
        unsafe { next::send(fd, part, len, flags) }
    })
}

/// `sendto(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn sendto(
    fd: c_int,
    buf: *const c_void,
    len: usize,
    flags: c_int,
    to: *const sockaddr,
    to_len: socklen_t,
) -> isize {
    let _kept = Resident::one(to.cast(), to_len as usize);
    transfer(fd, buf, len, true, &|part, len| {
        // SAFETY: the caller's promise, for a part of its buffer.
        unsafe { next::sendto(fd, part, len, flags, to, to_len) }
    })
}

/// A message on a stream that is too large to be kept at once: its beginning.
struct Beginning {
    header: msghdr,
    entries: [iovec; ENTRIES],
}

impl Beginning {
    /// # Safety
    /// `message` is a valid header.
    unsafe fn of(message: *const msghdr) -> Self {
        // SAFETY: the caller's promise; the vector has that many entries.
        let (header, given) = unsafe {
            let header = message.read();
            let count = header.msg_iovlen;
            (header, core::slice::from_raw_parts(header.msg_iov, count))
        };
        let empty = iovec {
            iov_base: core::ptr::null_mut(),
            iov_len: 0,
        };
        let mut entries = [empty; ENTRIES];
        let mut room = PIECE;
        for (slot, entry) in entries.iter_mut().zip(given) {
            slot.iov_base = entry.iov_base;
            slot.iov_len = entry.iov_len.min(room);
            room -= slot.iov_len;
        }
        Self { header, entries }
    }

    fn header(&mut self) -> *mut msghdr {
        self.header.msg_iov = self.entries.as_mut_ptr();
        self.header.msg_iovlen = ENTRIES;
        &raw mut self.header
    }
}

/// Whether a message must be cut: more than a piece, on a stream.
unsafe fn is_cut(fd: c_int, message: *const msghdr) -> bool {
    if message.is_null() || !state::is_signal_mode() {
        return false;
    }
    // SAFETY: the caller's message; its vector has that many entries.
    let total: usize = unsafe {
        let header = message.read();
        let count = header.msg_iovlen;
        if header.msg_iov.is_null() || count > libc::UIO_MAXIOV as usize {
            return false;
        }
        let entries = core::slice::from_raw_parts(header.msg_iov, count);
        entries.iter().map(|entry| entry.iov_len).sum()
    };
    total > PIECE && kind_of(fd) != Kind::Messages
}

/// `recvmsg(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> isize {
    let mut kept = Resident::none();
    // SAFETY: the caller's promise, for the message or its beginning.
    unsafe {
        if !is_cut(fd, message) {
            kept.add_message(message);
            return next::recvmsg(fd, message, flags);
        }
        let mut beginning = Beginning::of(message);
        let header = beginning.header();
        kept.add_message(header);
        let got = next::recvmsg(fd, header, flags);
        (*message).msg_namelen = (*header).msg_namelen;
        (*message).msg_controllen = (*header).msg_controllen;
        (*message).msg_flags = (*header).msg_flags;
        got
    }
}

/// `sendmsg(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> isize {
    let mut kept = Resident::none();
    // SAFETY: the caller's promise, for the message or its beginning.
    unsafe {
        if !is_cut(fd, message) {
            kept.add_message(message);
            return next::sendmsg(fd, message, flags);
        }
        let mut beginning = Beginning::of(message);
        let header = beginning.header();
        kept.add_message(header);
        next::sendmsg(fd, header, flags)
    }
}

unsafe fn keep_all(messages: *const mmsghdr, count: c_uint) -> Resident {
    let mut kept = Resident::none();
    if state::is_signal_mode() && !messages.is_null() {
        kept.add(messages.cast(), count as usize * size_of::<mmsghdr>());
        for index in 0..count as usize {
            // SAFETY: the caller's array has `count` messages.
            unsafe { kept.add_message(&raw const (*messages.add(index)).msg_hdr) };
        }
    }
    kept
}

/// `recvmmsg(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn recvmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let _kept = keep_all(messages, count);
        next::recvmmsg(fd, messages, count, flags, timeout)
    }
}

/// `sendmmsg(2)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn sendmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let _kept = keep_all(messages, count);
        next::sendmmsg(fd, messages, count, flags)
    }
}

/// `recv` of programs built with fortification.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn __recv_chk(
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    room: usize,
    flags: c_int,
) -> isize {
    if len > room {
        __chk_fail();
    }
    // SAFETY: the caller's promise.
    unsafe { recv(fd, buf, len, flags) }
}

/// `recvfrom` of programs built with fortification.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn __recvfrom_chk(
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    room: usize,
    flags: c_int,
    from: *mut sockaddr,
    from_len: *mut socklen_t,
) -> isize {
    if len > room {
        __chk_fail();
    }
    // SAFETY: the caller's promise.
    unsafe { recvfrom(fd, buf, len, flags, from, from_len) }
}
