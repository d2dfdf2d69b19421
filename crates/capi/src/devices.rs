//! Swap devices of a live space.

use std::ffi::{c_char, c_int, c_void};

use vswap_process::{DeviceError, DeviceSpec, devices_json};

use crate::handle::{space_of, vswap_space};
use crate::text;

/// Told now and then how many segments (pages, where slots are left) of how many have moved; 0 gives up.
#[allow(non_camel_case_types, reason = "the C name")]
pub type vswap_progress =
    Option<unsafe extern "C" fn(ctx: *mut c_void, moved: u64, total: u64) -> c_int>;

fn number_of(error: &DeviceError) -> c_int {
    -match error {
        DeviceError::Twice(_) => libc::EEXIST,
        DeviceError::TooMany => libc::ENOSPC,
        DeviceError::NotOn(_) => libc::ENOENT,
        DeviceError::Draining(_) => libc::EBUSY,
        DeviceError::DoesNotFit { .. } | DeviceError::Memory(_) => libc::ENOMEM,
        DeviceError::Failed { .. } => libc::EIO,
        DeviceError::Cancelled(_) => libc::ECANCELED,
        DeviceError::Ending => libc::ESHUTDOWN,
        _ => libc::EINVAL,
    }
}

/// # Safety
/// `err` has room for `err_len` bytes.
unsafe fn told<T>(result: Result<T, DeviceError>, err: *mut c_char, err_len: usize) -> c_int {
    match result {
        Ok(_) => 0,
        Err(error) => {
            // SAFETY: the caller's.
            unsafe { text::write(&error.to_string(), err, err_len) };
            number_of(&error)
        }
    }
}

/// Attaches a device: `path=`, `size=`, `priority=`, `kind=`, one a line. Returns 0,
/// or -errno with one clear sentence in `err`; nothing was changed then.
///
/// # Safety
/// `space` is a handle, `spec` a C string, `err` has room for `err_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_swapon(
    space: *mut vswap_space,
    spec: *const c_char,
    err: *mut c_char,
    err_len: usize,
) -> c_int {
    // SAFETY: the caller's.
    let Some((space, spec)) = (unsafe { space_of(space) }).zip(unsafe { text::read(spec) }) else {
        return -libc::EINVAL;
    };
    let done = DeviceSpec::from_text(spec).and_then(|spec| space.engine.swapon(&spec));
    // SAFETY: the caller's.
    unsafe { told(done, err, err_len) }
}

/// Takes a device off; what is there goes to other devices and to RAM. `progress`
/// may be NULL; it is called in the calling thread with `ctx`. Returns 0, or -errno
/// with one clear sentence in `err`; the device is on then and nothing is lost.
///
/// # Safety
/// `space` is a handle, `path` a C string, `progress` may be called with `ctx`,
/// `err` has room for `err_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_swapoff(
    space: *mut vswap_space,
    path: *const c_char,
    progress: vswap_progress,
    ctx: *mut c_void,
    err: *mut c_char,
    err_len: usize,
) -> c_int {
    // SAFETY: the caller's.
    let Some((space, path)) = (unsafe { space_of(space) }).zip(unsafe { text::read(path) }) else {
        return -libc::EINVAL;
    };
    let done = space.engine.swapoff(path, &mut |at| {
        // SAFETY: the caller's.
        progress.is_none_or(|call| unsafe { call(ctx, at.moved.into(), at.total.into()) } != 0)
    });
    // SAFETY: the caller's.
    unsafe { told(done, err, err_len) }
}

/// The devices as a JSON list, the highest priority first. Returns the length of
/// the whole text, of which as much is copied as fits, or -EINVAL.
///
/// # Safety
/// `space` is a handle; `json` has room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_devices(
    space: *mut vswap_space,
    json: *mut c_char,
    len: usize,
) -> c_int {
    // SAFETY: the caller's.
    let Some(space) = (unsafe { space_of(space) }) else {
        return -libc::EINVAL;
    };
    let list = devices_json(&space.engine.devices());
    // SAFETY: the caller's.
    unsafe { text::write(&list, json, len) };
    c_int::try_from(list.len()).unwrap_or(c_int::MAX)
}
