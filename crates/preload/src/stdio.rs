//! Streams: large transfers go straight between the descriptor and the
//! program's buffer, inside the C library, where they cannot be seen.

use core::ffi::{c_char, c_int, c_void};

use libc::FILE;

use crate::next::next;
use crate::resident::{PIECE, Resident, in_pieces, is_needed};

next! {
    fn fread(buf: *mut c_void, size: usize, count: usize, stream: *mut FILE) -> usize = 0;
    fn fwrite(buf: *const c_void, size: usize, count: usize, stream: *mut FILE) -> usize = 0;
    fn fread_unlocked(buf: *mut c_void, size: usize, count: usize, stream: *mut FILE) -> usize = 0;
    fn fwrite_unlocked(buf: *const c_void, size: usize, count: usize, stream: *mut FILE) -> usize = 0;
    fn fputs(text: *const c_char, stream: *mut FILE) -> c_int = -1;
    fn fputs_unlocked(text: *const c_char, stream: *mut FILE) -> c_int = -1;
    fn puts(text: *const c_char) -> c_int = -1;
    fn setvbuf(stream: *mut FILE, buf: *mut c_char, mode: c_int, size: usize) -> c_int = -1;
    fn setbuffer(stream: *mut FILE, buf: *mut c_char, size: usize);
}

unsafe extern "C" {
    safe fn __chk_fail() -> !;
}

/// Moves `size * count` bytes in pieces that are kept in memory; gives the
/// number of whole items, as the C library does.
fn items(
    buf: *const c_void,
    size: usize,
    count: usize,
    piece: &dyn Fn(*const c_void, usize) -> usize,
) -> usize {
    let Some(len) = size.checked_mul(count).filter(|&len| len > 0) else {
        return 0;
    };
    let done = in_pieces(len, PIECE, true, &|done, len| {
        let part = buf.wrapping_byte_add(done);
        let _kept = Resident::one(part, len);
        piece(part, len).cast_signed()
    });
    done.cast_unsigned() / size
}

macro_rules! item_calls {
    ($( $name:ident($kind:ty); )+) => { $(
        #[doc = concat!("`", stringify!($name), "(3)`.")]
        ///
        /// # Safety
        /// As of the C function.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name(
            buf: $kind,
            size: usize,
            count: usize,
            stream: *mut FILE,
        ) -> usize {
            if !is_needed(buf, size.saturating_mul(count)) {
                // SAFETY: the caller's promise.
                return unsafe { next::$name(buf, size, count, stream) };
            }
            items(buf, size, count, &|part, len| {
                // SAFETY: the caller's promise, for a part of its buffer.
                unsafe { next::$name(part as $kind, 1, len, stream) }
            })
        }
    )+ };
}

item_calls! {
    fread(*mut c_void);
    fwrite(*const c_void);
    fread_unlocked(*mut c_void);
    fwrite_unlocked(*const c_void);
}

macro_rules! checked_reads {
    ($( $name:ident => $plain:ident; )+) => { $(
        #[doc = concat!("`", stringify!($plain), "` of programs built with fortification.")]
        ///
        /// # Safety
        /// As of the C function.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name(
            buf: *mut c_void,
            room: usize,
            size: usize,
            count: usize,
            stream: *mut FILE,
        ) -> usize {
            if size.checked_mul(count).is_none_or(|len| len > room) {
                __chk_fail();
            }
            // SAFETY: the caller's promise.
            unsafe { $plain(buf, size, count, stream) }
        }
    )+ };
}

checked_reads! {
    __fread_chk => fread;
    __fread_unlocked_chk => fread_unlocked;
}

macro_rules! text_calls {
    ($( $name:ident($($arg:ident: $ty:ty),*); )+) => { $(
        #[doc = concat!("`", stringify!($name), "(3)`: a text is not cut.")]
        ///
        /// # Safety
        /// As of the C function.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name(text: *const c_char, $($arg: $ty),*) -> c_int {
            if !is_needed(text.cast(), 1) {
                // SAFETY: the caller's promise.
                return unsafe { next::$name(text, $($arg),*) };
            }
            let mut kept = Resident::none();
            // SAFETY: the caller's promise.
            unsafe {
                kept.add_text(text);
                next::$name(text, $($arg),*)
            }
        }
    )+ };
}

text_calls! {
    fputs(stream: *mut FILE);
    fputs_unlocked(stream: *mut FILE);
    puts();
}

/// `setvbuf(3)`: a buffer of the program's stays in memory from now on.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn setvbuf(
    stream: *mut FILE,
    buf: *mut c_char,
    mode: c_int,
    size: usize,
) -> c_int {
    core::mem::forget(Resident::one(buf.cast(), size));
    // SAFETY: the caller's promise.
    unsafe { next::setvbuf(stream, buf, mode, size) }
}

/// `setbuffer(3)`: as `setvbuf`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn setbuffer(stream: *mut FILE, buf: *mut c_char, size: usize) {
    core::mem::forget(Resident::one(buf.cast(), size));
    // SAFETY: the caller's promise.
    unsafe { next::setbuffer(stream, buf, size) }
}
