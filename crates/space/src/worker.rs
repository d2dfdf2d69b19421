//! Per-worker state: what hot paths would otherwise fight over, one cache line pair each.
//!
//! A worker is a number, not a thread: threads that share one lose a little speed and nothing else.

use crate::tally::Tally;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use vswap_platform::tls;

/// How many workers there are.
pub(crate) const WORKERS: usize = 8;
const WORKER_BITS: u32 = WORKERS.trailing_zeros();

#[repr(align(128))]
pub(crate) struct Worker {
    pub(crate) number: usize,
    /// The cluster it allocates from for the root group; 0 if none.
    pub(crate) current: AtomicUsize,
    /// What it did, for all groups.
    pub(crate) tally: Tally,
}

impl Worker {
    pub(crate) const fn new(number: usize) -> Self {
        Self {
            number,
            current: AtomicUsize::new(0),
            tally: Tally::new(),
        }
    }
}

/// The calling thread's worker number: the slot the engine gave the thread, else one drawn from its address.
pub(crate) fn current() -> usize {
    let slot = tls::thread();
    match slot.worker.load(Relaxed).checked_sub(1) {
        Some(number) => number % WORKERS,
        None => {
            let address = core::ptr::from_ref(slot) as usize as u64;
            (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - WORKER_BITS)) as usize
        }
    }
}
