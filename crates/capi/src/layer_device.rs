//! Devices of a layer under test: in memory, and failing when told to.
//!
//! They are `vswap_store::testing`'s. A layer without a device of these has nothing to do with them, and no program's
//! memory is ever in such a layer.

use std::ffi::c_int;

use vswap_platform::errno::Errno;
use vswap_store::device::{DeviceOptions, DeviceState};
use vswap_store::testing::{Fault, FaultyDevice};
use vswap_store::{Progress, SEGMENT_BYTES, SwapoffError};
use vswap_units::Bytes;

use crate::layer::{layer_of, vswap_layer};

/// What a fault is, by its number.
fn fault_of(kind: c_int) -> Option<Fault> {
    match kind {
        0 => Some(Fault::Error(Errno::EIO)),
        1 => Some(Fault::Error(Errno::ENOSPC)),
        2 => Some(Fault::Short),
        3 => Some(Fault::Corrupt),
        _ => None,
    }
}

/// What the store calls the `number`-th attached device.
fn name_of(number: usize) -> String {
    format!("memory {number}")
}

/// Attaches a device of `places` segments in memory, which fails when told to, at any time. It is filled before those of
/// lower priority; -1 is below all that are attached. Returns its number, or -errno.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_attach(
    layer: *mut vswap_layer,
    places: u32,
    priority: c_int,
) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -libc::EINVAL;
    };
    let mut controls = layer.controls.lock();
    let device = FaultyDevice::new(places);
    let control = device.control();
    let options = DeviceOptions {
        name: name_of(controls.len()),
        priority: (priority >= 0).then_some(priority),
        ..DeviceOptions::default()
    };
    match layer.layer.store().swapon(Box::new(device), options) {
        Ok(_) => {
            controls.push(control);
            c_int::try_from(controls.len() - 1).unwrap_or(c_int::MAX)
        }
        Err(errno) => -errno.0,
    }
}

/// Takes an attached device off, using up to `ram_segments` of RAM, and gives up after `most` segments. Returns 0, or
/// -ENOENT (not on), -EBUSY (being taken off), -ENOSPC (what is there does not fit elsewhere; nothing was moved),
/// -ECANCELED (given up), -EIO (a segment could not be moved); -EINVAL. Whatever it is but 0, the device is on.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_swapoff(
    layer: *mut vswap_layer,
    device: usize,
    ram_segments: u32,
    most: u32,
) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -libc::EINVAL;
    };
    let ram = Bytes(u64::from(ram_segments) * SEGMENT_BYTES as u64);
    let mut go_on = |at: Progress| at.moved < most;
    match layer
        .layer
        .store()
        .swapoff(&name_of(device), ram, &mut go_on)
    {
        Ok(_) => 0,
        Err(SwapoffError::NotOn) => -libc::ENOENT,
        Err(SwapoffError::Draining) => -libc::EBUSY,
        Err(SwapoffError::DoesNotFit { .. }) => -libc::ENOSPC,
        Err(SwapoffError::Cancelled) => -libc::ECANCELED,
        Err(_) => -libc::EIO,
    }
}

/// How an attached device is, in this order, as much as fits: the number by which groups forbid it, its priority, 0 on or
/// 1 draining or 2 closed for writing, its places, those taken, and those on it that were written and not discarded.
/// Returns how many values there are, or -ENOENT (it is off); -EINVAL.
///
/// # Safety
/// `layer` is valid, `values` has room for `count` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_device(
    layer: *mut vswap_layer,
    device: usize,
    values: *mut i64,
    count: usize,
) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -libc::EINVAL;
    };
    let Some(control) = layer.controls.lock().get(device).cloned() else {
        return -libc::EINVAL;
    };
    let name = name_of(device);
    let all = layer.layer.store().devices();
    let Some(info) = all.iter().find(|info| info.name == name) else {
        return -libc::ENOENT;
    };
    let segments = |bytes: Bytes| i64::try_from(bytes.0 / SEGMENT_BYTES as u64).unwrap_or(i64::MAX);
    let all = [
        info.number.into(),
        info.priority.into(),
        match info.state {
            DeviceState::On => 0,
            DeviceState::Draining => 1,
            DeviceState::Failed(_) => 2,
        },
        segments(info.capacity),
        segments(info.used),
        i64::try_from(control.stored_places()).unwrap_or(i64::MAX),
    ];
    if !values.is_null() {
        // SAFETY: the caller's.
        let out = unsafe { std::slice::from_raw_parts_mut(values, count) };
        for (to, from) in out.iter_mut().zip(all) {
            *to = from;
        }
    }
    all.len() as c_int
}

/// Makes the `nth` write (or read) from now on of an attached device fail: `kind` 0 I/O error, 1 no space, 2 only half
/// arrives, 3 bytes changed on the way and success reported. Returns 0, or -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_fault(
    layer: *mut vswap_layer,
    device: usize,
    write: c_int,
    nth: u64,
    kind: c_int,
) -> c_int {
    // SAFETY: the caller's.
    let Some((layer, fault)) = (unsafe { layer_of(layer) }).zip(fault_of(kind)) else {
        return -libc::EINVAL;
    };
    match layer.controls.lock().get(device) {
        Some(control) if write != 0 => control.on_write(nth, fault),
        Some(control) => control.on_read(nth, fault),
        None => return -libc::EINVAL,
    }
    0
}

/// Says how an attached device is from now on: every call fails with ENODEV while `gone` is not 0, and takes
/// `delay_us` microseconds longer. Also forgets the faults planned for it. Returns 0, or -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_condition(
    layer: *mut vswap_layer,
    device: usize,
    gone: c_int,
    delay_us: u32,
) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -libc::EINVAL;
    };
    match layer.controls.lock().get(device) {
        Some(control) => {
            control.heal();
            control.set_condition(gone != 0, delay_us);
            0
        }
        None => -libc::EINVAL,
    }
}

/// Writes to or reads from an attached device so far.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_calls(
    layer: *mut vswap_layer,
    device: usize,
    write: c_int,
) -> i64 {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -i64::from(libc::EINVAL);
    };
    match layer.controls.lock().get(device).map(|it| it.calls()) {
        Some((writes, reads)) => {
            i64::try_from(if write != 0 { writes } else { reads }).unwrap_or(i64::MAX)
        }
        None => -i64::from(libc::EINVAL),
    }
}
