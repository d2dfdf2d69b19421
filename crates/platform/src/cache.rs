//! Hints to the CPU's caches. They change nothing but the time it takes.

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Has memory that is about to be used brought near, all its lines at once: who uses it then waits about once, not for each.
/// Any address will do; nothing is read that the program would see.
#[inline]
pub fn prefetch(addr: usize, bytes: usize) {
    let first = addr & !(LINE - 1);
    (first..addr.saturating_add(bytes))
        .step_by(LINE)
        .for_each(prefetch_line);
}

#[inline]
fn prefetch_line(addr: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, whatever the address, and has no effect on memory.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(addr as *const i8);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = addr;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_will_do() {
        let page = [7_u8; 4096];
        prefetch(page.as_ptr() as usize, page.len());
        prefetch(0, 1);
        prefetch(usize::MAX - 10, 4096);
        assert!(page.iter().all(|byte| *byte == 7));
    }
}
