//! The few facts about the C library and the calling thread that fork needs.

use core::ffi::c_void;

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    fn _IO_iter_begin() -> *mut c_void;
    fn _IO_iter_end() -> *mut c_void;
    fn _IO_iter_next(iter: *mut c_void) -> *mut c_void;
    fn _IO_iter_file(iter: *mut c_void) -> *mut c_void;
}

/// Calls `each` with the address of every open stdio stream. The C library
/// resets their locks in a forked child before any handler of ours runs.
#[cfg(target_env = "gnu")]
pub fn each_stream(each: &mut dyn FnMut(usize)) {
    // SAFETY: glibc's own iteration; streams come and go only under its list
    // lock, which a fork in another thread does not excuse either: at worst a
    // stream opened meanwhile is missed.
    unsafe {
        let end = _IO_iter_end();
        let mut iter = _IO_iter_begin();
        while iter != end {
            each(_IO_iter_file(iter) as usize);
            iter = _IO_iter_next(iter);
        }
    }
}

/// Other C libraries touch no stream in a forked child.
#[cfg(not(target_env = "gnu"))]
pub fn each_stream(_each: &mut dyn FnMut(usize)) {}

/// An address on the calling thread's stack.
#[inline(never)]
pub fn stack_pointer() -> usize {
    let here = 0u8;
    core::ptr::from_ref(core::hint::black_box(&here)) as usize
}
