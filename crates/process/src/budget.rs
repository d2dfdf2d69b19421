//! How much RAM is held, and how much may be.
//!
//! For a whole process the truth is the kernel's own count of anonymous and
//! shared pages, read a hundred times a second (5 us), plus what the engine
//! itself installed and removed since: first touch runs at gigabytes a second,
//! so samples alone would overshoot. For one space the engine's own counts are
//! the truth; they are checked against the page map by `check`.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use vswap_units::PAGE_SIZE;

/// What a budget bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Anonymous and shared memory of the whole process.
    Process,
    /// What one space holds: resident pages, frames, segments, tables.
    Space,
}

/// The budget and what is known of its use.
pub struct Budget {
    scope: Scope,
    ram: AtomicU64,
    sampled_bytes: AtomicI64,
    since_pages: AtomicI64,
}

impl Budget {
    /// A budget of `ram` bytes.
    pub fn new(scope: Scope, ram: u64) -> Self {
        Self {
            scope,
            ram: AtomicU64::new(ram),
            sampled_bytes: AtomicI64::new(0),
            since_pages: AtomicI64::new(0),
        }
    }

    /// What it bounds.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The budget in bytes.
    pub fn ram(&self) -> u64 {
        self.ram.load(Ordering::Relaxed)
    }

    /// Changes the budget.
    pub fn set_ram(&self, bytes: u64) {
        self.ram.store(bytes, Ordering::Relaxed);
    }

    /// Above this a fault makes its own room. A 64th is left for what grows between two samples.
    pub fn high(&self) -> u64 {
        let ram = self.ram();
        ram - ram / 64
    }

    /// Background reclaim works until this is reached: a 32nd below `high`, so
    /// that it runs in batches while faults find room.
    pub fn low(&self) -> u64 {
        let ram = self.ram();
        ram - ram / 64 - ram / 32
    }

    /// Pages were installed (or, below zero, removed).
    pub fn add_pages(&self, pages: i64) {
        self.since_pages.fetch_add(pages, Ordering::Relaxed);
    }

    /// A fresh truth in bytes, read after `before` was taken with [`Budget::mark`].
    pub fn sample(&self, bytes: u64, before: i64) {
        self.sampled_bytes.store(bytes as i64, Ordering::Relaxed);
        self.since_pages.fetch_sub(before, Ordering::Relaxed);
    }

    /// The pages counted so far, to be taken before the truth is read.
    pub fn mark(&self) -> i64 {
        self.since_pages.load(Ordering::Relaxed)
    }

    /// Bytes held, by the last sample and what happened since.
    pub fn estimate(&self) -> u64 {
        let since = self.since_pages.load(Ordering::Relaxed) * PAGE_SIZE as i64;
        (self.sampled_bytes.load(Ordering::Relaxed) + since).max(0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_counted_before_a_sample_are_not_counted_twice() {
        let budget = Budget::new(Scope::Process, 64 << 20);
        budget.add_pages(10);
        let mark = budget.mark();
        budget.add_pages(5);
        budget.sample(1 << 20, mark);
        assert_eq!(budget.estimate(), (1 << 20) + 5 * 4096);
        budget.add_pages(-5);
        assert_eq!(budget.estimate(), 1 << 20);
    }

    #[test]
    fn the_watermarks_are_ordered_below_the_budget() {
        let budget = Budget::new(Scope::Process, 300 << 20);
        assert!(budget.low() < budget.high() && budget.high() < budget.ram());
    }
}
