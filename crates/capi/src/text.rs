//! Text across the boundary.

use std::ffi::{CStr, c_char};

/// A C string as text; `None` for NULL or bytes that are not UTF-8.
///
/// # Safety
/// `text` is NULL or a terminated string that outlives `'a`.
pub unsafe fn read<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

/// Copies text out, cut to fit, always terminated.
///
/// # Safety
/// `out` is NULL or has room for `len` bytes.
pub unsafe fn write(text: &str, out: *mut c_char, len: usize) {
    if out.is_null() || len == 0 {
        return;
    }
    let mut count = text.len().min(len - 1);
    while !text.is_char_boundary(count) {
        count -= 1;
    }
    // SAFETY: the caller's; `count` is less than `len`.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), out.cast(), count);
        out.add(count).write(0);
    }
}
