//! Buffers that the kernel is about to read or write, in signal mode.
//!
//! The kernel cannot resolve a fault there: it would say EFAULT, perhaps after
//! half the work, and nothing may be retried then (a datagram, a timer tick, a
//! partial write would be lost). So a buffer is brought in and kept in, outputs
//! and never-touched pages included, before the call, and let go after it.

use core::ffi::{c_int, c_void};

use libc::{iovec, msghdr};
use vswap_units::PAGE_SIZE;

use crate::bridge::{self, SignalPart};
use crate::state;

/// Streams are cut into pieces of this size, so that a buffer larger than the
/// budget passes.
pub const PIECE: usize = 1 << 20;

/// Of a buffer for one message this much is kept: no message is larger, though
/// the buffer offered for it may be larger than the budget.
const MESSAGE: usize = 4 << 20;

/// Buffers of one call that are kept; more than these are only brought in.
const MOST: usize = 32;

/// Whether a buffer needs to be kept for a call.
#[inline]
pub fn is_needed(addr: *const c_void, len: usize) -> bool {
    state::is_signal_mode() && bridge::signal_part(addr.addr(), len).is_some()
}

/// Buffers kept in memory while this lives.
pub struct Resident {
    parts: [Option<SignalPart>; MOST],
    count: usize,
    keeps: bool,
}

impl Resident {
    /// No buffer yet.
    pub const fn none() -> Self {
        Self {
            parts: [const { None }; MOST],
            count: 0,
            keeps: true,
        }
    }

    /// For calls that do not return: what is added is brought in, not kept.
    pub const fn in_passing() -> Self {
        Self {
            parts: [const { None }; MOST],
            count: 0,
            keeps: false,
        }
    }

    /// One buffer.
    pub fn one(addr: *const c_void, len: usize) -> Self {
        let mut kept = Self::none();
        kept.add(addr, len);
        kept
    }

    /// One buffer for a whole message.
    pub fn message(addr: *const c_void, len: usize) -> Self {
        Self::one(addr, len.min(MESSAGE))
    }

    /// Brings one more buffer in and keeps it.
    pub fn add(&mut self, addr: *const c_void, len: usize) {
        if !state::is_signal_mode() {
            return;
        }
        let Some(part) = bridge::signal_part(addr.addr(), len) else {
            return;
        };
        let (addr, len) = (part.addr, part.len);
        if self.keeps
            && let Some(slot) = self.parts.get_mut(self.count)
            && part.pin()
        {
            *slot = Some(part);
            self.count += 1;
        }
        touch(addr, len);
    }

    /// Brings the buffers of a vector in, as far as one message may reach.
    ///
    /// # Safety
    /// `vector` points to `count` entries.
    pub unsafe fn add_vector(&mut self, vector: *const iovec, count: usize) {
        if vector.is_null() || !state::is_signal_mode() {
            return;
        }
        self.add(vector.cast(), count.saturating_mul(size_of::<iovec>()));
        let mut room = MESSAGE;
        for index in 0..count {
            // SAFETY: the index is below the caller's count.
            let entry = unsafe { vector.add(index).read() };
            let len = entry.iov_len.min(room);
            self.add(entry.iov_base, len);
            room -= len;
        }
    }

    /// Brings all that a message names in.
    ///
    /// # Safety
    /// `message` is null or points to a message header.
    pub unsafe fn add_message(&mut self, message: *const msghdr) {
        if message.is_null() || !state::is_signal_mode() {
            return;
        }
        self.add(message.cast(), size_of::<msghdr>());
        // SAFETY: the caller's promise.
        unsafe {
            let header = message.read();
            self.add(header.msg_name, header.msg_namelen as usize);
            self.add(header.msg_control, header.msg_controllen);
            self.add_vector(header.msg_iov, header.msg_iovlen);
        }
    }

    /// Brings a C string in.
    ///
    /// # Safety
    /// `text` is null or a C string.
    pub unsafe fn add_text(&mut self, text: *const libc::c_char) {
        if is_needed(text.cast(), 1) {
            // SAFETY: the caller's promise; reading it brings it in.
            let len = unsafe { libc::strlen(text) };
            self.add(text.cast(), len + 1);
        }
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        for part in self.parts.iter().take(self.count).flatten() {
            part.unpin();
        }
    }
}

/// Reads a byte of each page: a page that is out, or was never touched, faults
/// here, where the fault can be resolved.
fn touch(start: usize, len: usize) {
    for page in (start..start + len).step_by(PAGE_SIZE) {
        let at: *const u8 = core::ptr::with_exposed_provenance(page);
        // SAFETY: a page of the program's own buffer, which the kernel is about
        // to access on its behalf.
        unsafe { at.read_volatile() };
    }
}

/// What a descriptor is, for calls that must be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file or disk: reads give all there is.
    File,
    /// A pipe, terminal or stream socket: reads may give less.
    Stream,
    /// A socket that keeps messages apart.
    Messages,
}

/// Asks the kernel what a descriptor is.
pub fn kind_of(fd: c_int) -> Kind {
    let mut status = core::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel fills the structure, or fails.
    let raw = unsafe { vswap_platform::sys::fstat(fd, status.as_mut_ptr().addr()) };
    if raw < 0 {
        return Kind::Messages; // the call itself will say what is wrong
    }
    // SAFETY: filled, as the call succeeded.
    let mode = unsafe { status.assume_init() }.st_mode & libc::S_IFMT;
    match mode {
        libc::S_IFREG | libc::S_IFBLK => Kind::File,
        libc::S_IFSOCK if !is_stream_socket(fd) => Kind::Messages,
        _ => Kind::Stream,
    }
}

fn is_stream_socket(fd: c_int) -> bool {
    let mut kind: c_int = 0;
    let mut len = size_of::<c_int>();
    // SAFETY: both outputs are locals of the right size.
    let raw = unsafe {
        vswap_platform::sys::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).addr(),
            (&raw mut len).addr(),
        )
    };
    raw == 0 && kind == libc::SOCK_STREAM
}

/// Runs a transfer of `len` bytes in pieces: `call(offset, len)` moves one. Goes
/// on after a full piece where `more` allows it, and gives the sum; an error
/// after the first piece is left for the next call, as the kernel does.
pub fn in_pieces(
    len: usize,
    piece: usize,
    more: bool,
    call: &dyn Fn(usize, usize) -> isize,
) -> isize {
    let mut done = 0;
    loop {
        let want = (len - done).min(piece);
        let got = call(done, want);
        let Ok(moved) = usize::try_from(got) else {
            return if done > 0 { done.cast_signed() } else { got };
        };
        done += moved;
        if moved < want || done >= len || !more {
            return done.cast_signed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_in_pieces_gives_the_sum() {
        let call = |_: usize, want: usize| want.cast_signed();
        assert_eq!(in_pieces(10, 3, true, &call), 10);
        assert_eq!(in_pieces(10, 3, false, &call), 3);
        assert_eq!(in_pieces(0, 3, true, &call), 0);
    }

    #[test]
    fn a_short_piece_or_a_later_error_ends_a_transfer() {
        let short = |at: usize, want: usize| if at == 6 { 1 } else { want.cast_signed() };
        assert_eq!(in_pieces(10, 3, true, &short), 7);
        let broken = |at: usize, want: usize| if at == 3 { -1 } else { want.cast_signed() };
        assert_eq!(in_pieces(10, 3, true, &broken), 3);
        assert_eq!(in_pieces(10, 3, true, &|_, _| -1), -1);
    }
}
