//! What is measured, as the words that other processes read.

use std::sync::atomic::{AtomicU64, Ordering};

use vswap_units::histogram::BUCKETS;
use vswap_units::{Counters, LatencyHistogram};

/// Words one engine's values take.
pub const COUNT: usize = Counters::COUNT + BUCKETS;

/// Writes every counter and then every latency bucket to `words`.
pub fn copy(counters: &Counters, latency: &LatencyHistogram, words: &[AtomicU64]) {
    let values = counters.iter().map(|(_, counter)| counter.get());
    let buckets = (0..BUCKETS).map(|index| latency.bucket(index).unwrap_or(0));
    for (word, value) in words.iter().zip(values.chain(buckets)) {
        word.store(value, Ordering::Relaxed);
    }
}
