//! The next definition of a name after this library's: the C library's own.

use core::ffi::CStr;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The address of `name` in the libraries after this one, 0 if there is none.
/// Remembered in `cell`; looking up twice does no harm.
pub fn find(cell: &AtomicUsize, name: &CStr) -> usize {
    let known = cell.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    // SAFETY: `name` is a C string; RTLD_NEXT is valid in a shared library.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) } as usize;
    cell.store(found, Ordering::Relaxed);
    found
}

/// The address of `name` in the C library itself. The library after this one
/// may be another allocator, with functions of the same names.
pub fn find_in_libc(cell: &AtomicUsize, name: &CStr) -> usize {
    let known = cell.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    // SAFETY: C strings; the library is loaded already and only looked up.
    let found = unsafe {
        let libc = libc::dlopen(c"libc.so.6".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if libc.is_null() {
            return find(cell, name);
        }
        libc::dlsym(libc, name.as_ptr()) as usize
    };
    cell.store(found, Ordering::Relaxed);
    found
}

/// Declares unsafe functions that call the C library's function of that name.
/// A name this C library does not have fails with ENOSYS.
macro_rules! next {
    ($( fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty = $fail:expr)?; )+) => {
        /// The C library's own functions.
        mod next_in_line {
            #[allow(unused_imports, reason = "not every family needs every type")]
            use super::*;
            $(
                /// # Safety
                /// As of the C function.
                #[inline]
                pub unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
                    static CELL: core::sync::atomic::AtomicUsize =
                        core::sync::atomic::AtomicUsize::new(0);
                    const NAME: &core::ffi::CStr =
                        match core::ffi::CStr::from_bytes_with_nul(
                            concat!(stringify!($name), "\0").as_bytes(),
                        ) {
                            Ok(name) => name,
                            Err(_) => c"",
                        };
                    let found = crate::next::find(&CELL, NAME);
                    if found == 0 {
                        crate::errno::set_errno(libc::ENOSYS);
                        return $($fail)?;
                    }
                    type Function = unsafe extern "C" fn($($ty),*) $(-> $ret)?;
                    // SAFETY: dlsym found the function of that name, which has
                    // this type; the arguments are the caller's promise.
                    unsafe { core::mem::transmute::<usize, Function>(found)($($arg),*) }
                }
            )+
        }
        use next_in_line as next;
    };
}
pub(crate) use next;
