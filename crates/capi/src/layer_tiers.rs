//! What a layer under test does beside requests: moving between devices of different priority, preferring slots.

use std::ffi::c_int;
use std::sync::atomic::Ordering;

use crate::layer::{layer_of, vswap_layer};

/// More than the time between two looks.
const LATER_NS: u64 = 2_000_000_000;

/// Lets so much time pass that the next look at what was read is due, and moves segments between devices of different
/// priority until none should move. Returns how many moved; -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_look(layer: *mut vswap_layer) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -libc::EINVAL;
    };
    let mut locked = layer.tiers.lock();
    let (tiers, now) = &mut *locked;
    *now += LATER_NS;
    let store = layer.layer.store();
    let steps = core::iter::from_fn(|| store.migrate_step(tiers, *now).then_some(()));
    c_int::try_from(steps.count()).unwrap_or(c_int::MAX)
}

/// From now on pages go to slots where they may, also those that compress (`on` not 0), or only those that do not or find no
/// room. Returns 0; -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_prefer_slots(layer: *mut vswap_layer, on: c_int) -> c_int {
    // SAFETY: the caller's.
    match unsafe { layer_of(layer) } {
        Some(layer) => {
            layer.prefers_slots.store(on != 0, Ordering::Relaxed);
            0
        }
        None => -libc::EINVAL,
    }
}
