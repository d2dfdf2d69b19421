//! A space's life: created, retired, closed, destroyed.

use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, OnceLock};

use vswap_platform::errno::Errno;
use vswap_process::{Config, Engine, StartError, registry};

use crate::text;

/// A space. Opaque to C; stays valid until `vswap_space_destroy`.
#[allow(non_camel_case_types, reason = "the C name")]
pub struct vswap_space {
    pub(crate) engine: Arc<Engine>,
    ended: AtomicBool,
}

/// What the library around this interface is told.
#[derive(Clone, Copy)]
pub struct Hooks {
    /// A space was made.
    pub space_created: fn(&Engine),
    /// Memory of a space is about to be given out.
    pub memory_given: fn(),
}

static HOOKS: OnceLock<Hooks> = OnceLock::new();

/// Whom to tell; for the rest of the process.
pub fn set_hooks(hooks: Hooks) {
    let _ = HOOKS.set(hooks);
}

/// Tells that memory of a space is about to be given out.
pub(crate) fn memory_given() {
    if let Some(hooks) = HOOKS.get() {
        (hooks.memory_given)();
    }
}

static CURRENT: AtomicPtr<vswap_space> = AtomicPtr::new(std::ptr::null_mut());

/// Makes `engine` what `vswap_current` returns, for the rest of the process.
pub fn set_current(engine: &Arc<Engine>) {
    CURRENT.store(
        Box::into_raw(Box::new(vswap_space::of(engine))),
        Ordering::Release,
    );
}

impl vswap_space {
    fn of(engine: &Arc<Engine>) -> Self {
        Self {
            engine: Arc::clone(engine),
            ended: AtomicBool::new(false),
        }
    }

    /// Ends a retired engine once nothing of it is in use.
    pub(crate) fn end_if_empty(&self) {
        end_if_empty(&self.engine, &self.ended);
    }
}

fn end_if_empty(engine: &Arc<Engine>, ended: &AtomicBool) {
    if engine.is_retired() && engine.live().0 == 0 && !ended.swap(true, Ordering::AcqRel) {
        registry::remove(engine);
        engine.shut_down();
    }
}

/// The space behind a handle.
///
/// # Safety
/// `space` is NULL or a handle that was not destroyed.
pub unsafe fn space_of<'a>(space: *mut vswap_space) -> Option<&'a vswap_space> {
    // SAFETY: the caller's.
    unsafe { space.as_ref() }
}

/// A count as the C side gets it: 0 and up, or `-errno`.
pub fn signed(result: Result<u64, Errno>) -> i64 {
    match result {
        Ok(count) => i64::try_from(count).unwrap_or(i64::MAX),
        Err(error) => -i64::from(error.0),
    }
}

/// Creates a space from `key=value` lines (see docs/python.md). Returns 0, or
/// -errno with one clear sentence in `err`.
///
/// # Safety
/// `config` is a C string; `out` is writable; `err` has room for `err_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_space_create(
    config: *const c_char,
    out: *mut *mut vswap_space,
    err: *mut c_char,
    err_len: usize,
) -> c_int {
    // SAFETY: the caller's.
    let Some(config) = (unsafe { text::read(config) }) else {
        return -libc::EINVAL;
    };
    let started = Config::from_text(config)
        .map_err(StartError::from)
        .and_then(|config| {
            Engine::start(Config {
                build_id: crate::BUILD,
                ..config
            })
        });
    match started {
        Ok(engine) => {
            if let Some(hooks) = HOOKS.get() {
                (hooks.space_created)(&engine);
            }
            let space = Box::into_raw(Box::new(vswap_space::of(&engine)));
            // SAFETY: the caller's.
            unsafe { out.write(space) };
            0
        }
        Err(error) => {
            // SAFETY: the caller's.
            unsafe { text::write(&error.to_string(), err, err_len) };
            error_number(&error)
        }
    }
}

fn error_number(error: &StartError) -> c_int {
    match error {
        StartError::Config(_) | StartError::Group(_) => -libc::EINVAL,
        StartError::Userfaultfd(_) | StartError::NoWayOut(_) => -libc::ENOSYS,
        StartError::Device(_) => -libc::EIO,
        StartError::Thread(errno) | StartError::Memory(errno) => -errno.0,
    }
}

/// The space of `vswap run`, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vswap_current() -> *mut vswap_space {
    CURRENT.load(Ordering::Acquire)
}

/// Live blocks and their bytes. Returns 0 or -EINVAL.
///
/// # Safety
/// `space` is a handle; `blocks` and `bytes` are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_live(
    space: *mut vswap_space,
    blocks: *mut u64,
    bytes: *mut u64,
) -> c_int {
    // SAFETY: the caller's.
    let Some(space) = (unsafe { space_of(space) }) else {
        return -libc::EINVAL;
    };
    let live = space.engine.live();
    // SAFETY: the caller's.
    unsafe {
        blocks.write(live.0);
        bytes.write(live.1);
    }
    0
}

/// The space takes nothing new, and ends when its last block is freed. Returns 0.
///
/// # Safety
/// `space` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_retire(space: *mut vswap_space) -> c_int {
    // SAFETY: the caller's.
    let Some(space) = (unsafe { space_of(space) }) else {
        return -libc::EINVAL;
    };
    space.engine.retire();
    space.end_if_empty();
    0
}

/// Ends the space. Returns 0, or -EBUSY while it has live blocks.
///
/// # Safety
/// `space` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_close(space: *mut vswap_space) -> c_int {
    // SAFETY: the caller's.
    let Some(space) = (unsafe { space_of(space) }) else {
        return -libc::EINVAL;
    };
    if space.engine.live().0 != 0 {
        return -libc::EBUSY;
    }
    space.engine.retire();
    space.end_if_empty();
    0
}

/// Frees the handle. A space with live blocks lives on until they are freed.
///
/// # Safety
/// `space` is a handle nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_space_destroy(space: *mut vswap_space) {
    if !space.is_null() {
        // SAFETY: the caller's; the box was made by `vswap_space_create`.
        drop(unsafe { Box::from_raw(space) });
    }
}

/// Changes the budget. Returns 0 or -EINVAL below the floor.
///
/// # Safety
/// `space` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_set_ram(space: *mut vswap_space, bytes: u64) -> c_int {
    // SAFETY: the caller's.
    match unsafe { space_of(space) }.map(|space| space.engine.set_ram(bytes)) {
        Some(Ok(())) => 0,
        _ => -libc::EINVAL,
    }
}
