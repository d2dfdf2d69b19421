//! What the devices of a layer under test are told to do wrong.

use std::ffi::c_int;

use vswap_platform::errno::Errno;
use vswap_store::testing::{Call, Fault};

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

/// What a device is asked to do, by its number.
fn call_of(call: c_int) -> Option<Call> {
    match call {
        0 => Some(Call::Read),
        1 => Some(Call::Write),
        2 => Some(Call::Discard),
        _ => None,
    }
}

/// Makes the `nth` read (`call` 0), write (1) or discard (2) from now on of an attached device fail: `kind` 0 I/O error, 1 no
/// space, 2 only half is done, 3 success is reported, but bytes were changed on the way, or nothing was given back. Returns
/// 0, or -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_fault(
    layer: *mut vswap_layer,
    device: usize,
    call: c_int,
    nth: u64,
    kind: c_int,
) -> c_int {
    // SAFETY: the caller's.
    let control = unsafe { layer_of(layer) }.and_then(|layer| layer.control(device));
    match control.zip(call_of(call)).zip(fault_of(kind)) {
        Some(((control, call), fault)) => {
            control.on(call, nth, fault);
            0
        }
        None => -libc::EINVAL,
    }
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
    let control = unsafe { layer_of(layer) }.and_then(|layer| layer.control(device));
    match control {
        Some(control) => {
            control.heal();
            control.set_condition(gone != 0, delay_us);
            0
        }
        None => -libc::EINVAL,
    }
}

/// Reads of (`call` 0), writes to (1) or discards on (2) an attached device so far; -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_calls(
    layer: *mut vswap_layer,
    device: usize,
    call: c_int,
) -> i64 {
    // SAFETY: the caller's.
    let control = unsafe { layer_of(layer) }.and_then(|layer| layer.control(device));
    match control.zip(call_of(call)) {
        Some((control, call)) => i64::try_from(control.count(call)).unwrap_or(i64::MAX),
        None => -i64::from(libc::EINVAL),
    }
}
