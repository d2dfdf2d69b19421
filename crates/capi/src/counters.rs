//! Counters, self-check, description.

use std::ffi::{c_char, c_int};
use std::sync::OnceLock;

use vswap_units::Counters;
use vswap_units::histogram::BUCKETS;

use crate::handle::{space_of, vswap_space};
use crate::text;

/// How many counters there are.
#[unsafe(no_mangle)]
pub extern "C" fn vswap_counter_count() -> usize {
    Counters::COUNT
}

/// Names and help, terminated, made once.
fn texts() -> &'static [(String, String)] {
    static TEXTS: OnceLock<Vec<(String, String)>> = OnceLock::new();
    TEXTS.get_or_init(|| {
        let terminated = |text: &str| format!("{text}\0");
        Counters::TABLE
            .iter()
            .map(|row| (terminated(row.name), terminated(row.help)))
            .collect()
    })
}

/// The name of a counter; NULL past the end.
#[unsafe(no_mangle)]
pub extern "C" fn vswap_counter_name(index: usize) -> *const c_char {
    texts()
        .get(index)
        .map_or(std::ptr::null(), |row| row.0.as_ptr().cast())
}

/// One line about a counter; NULL past the end.
#[unsafe(no_mangle)]
pub extern "C" fn vswap_counter_help(index: usize) -> *const c_char {
    texts()
        .get(index)
        .map_or(std::ptr::null(), |row| row.1.as_ptr().cast())
}

/// 0 a count that only grows, 1 a gauge, 2 a peak; -EINVAL past the end.
#[unsafe(no_mangle)]
pub extern "C" fn vswap_counter_kind(index: usize) -> c_int {
    Counters::TABLE
        .get(index)
        .map_or(-libc::EINVAL, |row| row.kind as c_int)
}

/// Copies up to `count` counters out. Returns how many, or -EINVAL.
///
/// # Safety
/// `space` is a handle; `values` has room for `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_counters(
    space: *mut vswap_space,
    values: *mut u64,
    count: usize,
) -> c_int {
    // SAFETY: the caller's.
    let Some(space) = (unsafe { space_of(space) }) else {
        return -libc::EINVAL;
    };
    space.engine.refresh_gauges();
    let mut copied = 0;
    for (index, (_, counter)) in space.engine.counters().iter().enumerate().take(count) {
        // SAFETY: `index` is below `count`.
        unsafe { values.add(index).write(counter.get()) };
        copied += 1;
    }
    copied
}

/// Buckets of the fault latency histogram.
#[unsafe(no_mangle)]
pub extern "C" fn vswap_latency_buckets() -> usize {
    BUCKETS
}

/// The latency that `quantile` (0 to 1) of all faults stayed below, in ns; 0 without faults.
///
/// # Safety
/// `space` is a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_latency_ns(space: *mut vswap_space, quantile: f64) -> u64 {
    // SAFETY: the caller's.
    unsafe { space_of(space) }.map_or(0, |space| space.engine.latency().quantile(quantile))
}

/// Checks every conservation law with the space held still. Returns how many
/// are violated, each a line of `report`; -EINVAL without a space.
///
/// # Safety
/// `space` is a handle; `report` has room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_check(
    space: *mut vswap_space,
    report: *mut c_char,
    len: usize,
) -> c_int {
    // SAFETY: the caller's.
    let Some(space) = (unsafe { space_of(space) }) else {
        return -libc::EINVAL;
    };
    let problems = space.engine.check();
    // SAFETY: the caller's.
    unsafe { text::write(&problems.join("\n"), report, len) };
    c_int::try_from(problems.len()).unwrap_or(c_int::MAX)
}

/// The configuration in force, as JSON. Returns 0 or -EINVAL.
///
/// # Safety
/// `space` is a handle; `json` has room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_describe(
    space: *mut vswap_space,
    json: *mut c_char,
    len: usize,
) -> c_int {
    // SAFETY: the caller's.
    let Some(space) = (unsafe { space_of(space) }) else {
        return -libc::EINVAL;
    };
    // SAFETY: the caller's.
    unsafe { text::write(&space.engine.describe(), json, len) };
    0
}
