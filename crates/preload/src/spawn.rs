//! Programs started by this one: their arguments are read by the kernel.

use core::ffi::{c_char, c_int, c_void};

use crate::next::next;
use crate::resident::Resident;
use crate::state;

type Texts = *const *const c_char;

next! {
    fn execve(path: *const c_char, argv: Texts, envp: Texts) -> c_int = -1;
    fn execv(path: *const c_char, argv: Texts) -> c_int = -1;
    fn execvp(file: *const c_char, argv: Texts) -> c_int = -1;
    fn execvpe(file: *const c_char, argv: Texts, envp: Texts) -> c_int = -1;
    fn posix_spawn(pid: *mut c_int, path: *const c_char, actions: *const c_void, attr: *const c_void, argv: Texts, envp: Texts) -> c_int = libc::ENOSYS;
    fn posix_spawnp(pid: *mut c_int, file: *const c_char, actions: *const c_void, attr: *const c_void, argv: Texts, envp: Texts) -> c_int = libc::ENOSYS;
    fn system(command: *const c_char) -> c_int = -1;
    fn popen(command: *const c_char, mode: *const c_char) -> *mut libc::FILE = core::ptr::null_mut();
}

/// A list of texts, and the texts.
unsafe fn add_texts(kept: &mut Resident, texts: Texts) {
    if texts.is_null() || !state::is_signal_mode() {
        return;
    }
    let mut count = 0;
    loop {
        // SAFETY: the list ends with a null, which was not reached yet.
        let text = unsafe { texts.add(count).read() };
        count += 1;
        if text.is_null() {
            break;
        }
        // SAFETY: the entries are C strings.
        unsafe { kept.add_text(text) };
    }
    kept.add(texts.cast(), count * size_of::<*const c_char>());
}

/// Brings in what a call names. Not kept: an exec does not return to let go,
/// and after a vfork the memory is the parent's.
unsafe fn bring_in(path: *const c_char, argv: Texts, envp: Texts) {
    let mut kept = Resident::in_passing();
    // SAFETY: the caller's texts.
    unsafe {
        kept.add_text(path);
        add_texts(&mut kept, argv);
        add_texts(&mut kept, envp);
    }
}

unsafe extern "C" {
    static environ: Texts;
}

macro_rules! execs {
    ($( $name:ident($env:ident); )+) => { $( execs!(@ $name $env); )+ };
    (@ $name:ident with) => {
        #[doc = concat!("`", stringify!($name), "(3)`.")]
        ///
        /// # Safety
        /// As of the C function.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name(path: *const c_char, argv: Texts, envp: Texts) -> c_int {
            // SAFETY: the caller's promise.
            unsafe {
                bring_in(path, argv, envp);
                next::$name(path, argv, envp)
            }
        }
    };
    (@ $name:ident without) => {
        #[doc = concat!("`", stringify!($name), "(3)`.")]
        ///
        /// # Safety
        /// As of the C function.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name(path: *const c_char, argv: Texts) -> c_int {
            // SAFETY: the caller's promise.
            unsafe {
                bring_in(path, argv, environ);
                next::$name(path, argv)
            }
        }
    };
}

execs! {
    execve(with);
    execvpe(with);
    execv(without);
    execvp(without);
}

macro_rules! spawns {
    ($( $name:ident; )+) => { $(
        #[doc = concat!("`", stringify!($name), "(3)`.")]
        ///
        /// # Safety
        /// As of the C function.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name(
            pid: *mut c_int,
            path: *const c_char,
            actions: *const c_void,
            attr: *const c_void,
            argv: Texts,
            envp: Texts,
        ) -> c_int {
            // SAFETY: the caller's promise.
            unsafe {
                bring_in(path, argv, envp);
                next::$name(pid, path, actions, attr, argv, envp)
            }
        }
    )+ };
}

spawns! {
    posix_spawn;
    posix_spawnp;
}

/// What a call names, kept while it lives: the shell is started from inside the C library.
unsafe fn keep_for_shell(texts: &[*const c_char]) -> Resident {
    let mut kept = Resident::none();
    // SAFETY: the caller's texts, and the program's environment.
    unsafe {
        texts.iter().for_each(|text| kept.add_text(*text));
        bring_in(core::ptr::null(), core::ptr::null(), environ);
    }
    kept
}

/// `system(3)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn system(command: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let _kept = keep_for_shell(&[command]);
        next::system(command)
    }
}

/// `popen(3)`.
///
/// # Safety
/// As of the C function.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn popen(command: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: the caller's promise.
    unsafe {
        let _kept = keep_for_shell(&[command, mode]);
        next::popen(command, mode)
    }
}
