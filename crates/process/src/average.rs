//! A moving share of the faults that were of some kind, as a hint: no lock, and
//! an update that is lost costs nothing.

use std::sync::atomic::{AtomicU32, Ordering};

/// All of them.
const WHOLE: u32 = 256;

/// A share in 256ths; of none at first. The newest sample counts `GAIN` of 256.
#[derive(Default)]
pub struct Average<const GAIN: u32>(AtomicU32);

impl<const GAIN: u32> Average<GAIN> {
    /// The share now.
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more fault, of that kind or not; the share with it.
    pub fn learn(&self, is_so: bool) -> u32 {
        let sample = if is_so { WHOLE } else { 0 };
        let new = (self.get() * (WHOLE - GAIN) + sample * GAIN) / WHOLE;
        self.0.store(new, Ordering::Relaxed);
        new
    }
}
