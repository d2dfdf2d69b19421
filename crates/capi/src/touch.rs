//! The benchmark's inner loops: touching pages in a given order and timing each
//! touch. They time any mapping, the kernel's own swap included, so that every
//! peer is measured by the same instructions.

use std::ffi::{c_int, c_void};

use vswap_platform::clock::now_ns;
use vswap_units::PAGE_SIZE;

/// Reads one byte of each page of `order` (numbers relative to `base`); the
/// latencies go to `latency_ns` unless that is NULL. Returns 0.
///
/// # Safety
/// Every page is mapped and readable; `order` and `latency_ns` hold `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_touch_pages(
    base: *mut c_void,
    order: *const u32,
    count: usize,
    latency_ns: *mut u32,
) -> c_int {
    // SAFETY: the caller's.
    unsafe {
        each_page(base, order, count, latency_ns, |page| {
            page.read_volatile();
        })
    };
    0
}

/// As `vswap_touch_pages`, but writes the byte it read.
///
/// # Safety
/// As `vswap_touch_pages`, and writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_write_pages(
    base: *mut c_void,
    order: *const u32,
    count: usize,
    latency_ns: *mut u32,
) -> c_int {
    // SAFETY: the caller's.
    unsafe {
        each_page(base, order, count, latency_ns, |page| {
            page.write_volatile(page.read_volatile())
        })
    };
    0
}

/// # Safety
/// As `vswap_touch_pages`.
unsafe fn each_page(
    base: *mut c_void,
    order: *const u32,
    count: usize,
    latency_ns: *mut u32,
    touch: impl Fn(*mut u8),
) {
    let mut before = now_ns();
    for index in 0..count {
        // SAFETY: `index` is below `count`, and the page is mapped, by contract.
        unsafe {
            touch(
                base.cast::<u8>()
                    .add(order.add(index).read() as usize * PAGE_SIZE),
            );
            if !latency_ns.is_null() {
                let now = now_ns();
                latency_ns
                    .add(index)
                    .write(u32::try_from(now - before).unwrap_or(u32::MAX));
                before = now;
            }
        }
    }
}
