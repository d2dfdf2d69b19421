//! Latencies in buckets of a quarter octave, recorded without a lock.

use bytemuck::Zeroable;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// log2 of the first bucket boundary: 256 ns.
const FIRST_SHIFT: u32 = 8;
/// log2 of the last boundary: 17 s.
const LAST_SHIFT: u32 = 34;

/// Buckets: one below 256 ns, four per octave, one for everything longer.
pub const BUCKETS: usize = ((LAST_SHIFT - FIRST_SHIFT) * 4 + 2) as usize;

/// Counts of latencies; all-zero is an empty histogram.
#[derive(Debug, Zeroable)]
#[repr(C)]
pub struct LatencyHistogram {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self::new()
    }
}

impl LatencyHistogram {
    /// An empty histogram.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }

    /// Counts one latency.
    pub fn record(&self, ns: u64) {
        if let Some(bucket) = self.buckets.get(index_of(ns)) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// How many latencies were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|b| b.load(Relaxed)).sum()
    }

    /// Forgets everything recorded, in a forked child.
    pub fn reset(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Relaxed);
        }
    }

    /// The count of one bucket.
    #[must_use]
    pub fn bucket(&self, index: usize) -> Option<u64> {
        self.buckets.get(index).map(|b| b.load(Relaxed))
    }

    /// An upper bound in ns of the `q`-quantile (`0.5` = median): the end of
    /// the bucket it falls in, never flattering. 0 when empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> u64 {
        let total = self.count();
        if total == 0 {
            return 0;
        }
        let rank = ((total as f64 * q.clamp(0.0, 1.0)).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Relaxed);
            if seen >= rank {
                return upper_bound(index);
            }
        }
        upper_bound(BUCKETS - 1)
    }
}

fn index_of(ns: u64) -> usize {
    if ns < 1 << FIRST_SHIFT {
        return 0;
    }
    let octave = ns.ilog2();
    if octave >= LAST_SHIFT {
        return BUCKETS - 1;
    }
    let quarter = (ns >> (octave - 2)) & 3;
    1 + (octave - FIRST_SHIFT) as usize * 4 + quarter as usize
}

/// The first ns that is past bucket `index`; the last bucket has no end and
/// answers twice its start.
#[must_use]
pub const fn upper_bound(index: usize) -> u64 {
    if index == 0 {
        return 1 << FIRST_SHIFT;
    }
    if index >= BUCKETS - 1 {
        return 2 << LAST_SHIFT;
    }
    let octave = FIRST_SHIFT + ((index - 1) / 4) as u32;
    let quarter = ((index - 1) % 4) as u64;
    (5 + quarter) << (octave - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_below_the_end_of_its_bucket() {
        for shift in 0..34 {
            for ns in [
                1_u64 << shift,
                (1 << shift) + (1 << shift) / 3,
                (2 << shift) - 1,
            ] {
                let index = index_of(ns);
                assert!(ns < upper_bound(index), "{ns} in {index}");
                assert!(
                    index == 0 || ns >= upper_bound(index - 1),
                    "{ns} in {index}"
                );
            }
        }
    }

    #[test]
    fn quantiles_come_out_in_order() {
        let histogram = LatencyHistogram::new();
        for _ in 0..99 {
            histogram.record(5_000);
        }
        histogram.record(1_000_000_000);
        assert_eq!(histogram.count(), 100);
        let (half, most) = (histogram.quantile(0.5), histogram.quantile(1.0));
        assert!((5_000..6_300).contains(&half), "{half}");
        assert!(most > 1_000_000_000 && most < 1_300_000_000, "{most}");
    }

    #[test]
    fn an_empty_histogram_answers_zero_and_long_waits_are_kept() {
        let histogram = LatencyHistogram::new();
        assert_eq!(histogram.quantile(0.99), 0);
        histogram.record(u64::MAX);
        assert_eq!(histogram.bucket(BUCKETS - 1), Some(1));
        assert_eq!(histogram.count(), 1);
    }
}
