//! Devices of a layer under test: in memory, and failing when told to.
//!
//! They are `vswap_store::testing`'s. A layer without a device of these has nothing to do with them, and no program's
//! memory is ever in such a layer.

use std::ffi::c_int;

use vswap_platform::errno::Errno;
use vswap_store::testing::{Fault, FaultyDevice};

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

/// Attaches a device of `places` segments in memory, which fails when told to. Before anybody else uses the layer.
/// Returns its number, or -errno.
///
/// # Safety
/// `layer` is valid, and nobody else uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_attach(layer: *mut vswap_layer, places: u32) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer.as_mut() }) else {
        return -libc::EINVAL;
    };
    let device = FaultyDevice::new(places);
    let control = device.control();
    match layer.layer.store_mut().attach(Box::new(device)) {
        Ok(()) => {
            let mut controls = layer.controls.lock();
            controls.push(control);
            c_int::try_from(controls.len() - 1).unwrap_or(c_int::MAX)
        }
        Err(errno) => -errno.0,
    }
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
