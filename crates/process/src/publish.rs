//! What other processes see: the counters, in sealed memory; and where they
//! may ask for another budget.
//!
//! The layout is versioned and told in the header page, with the names of the
//! counters as JSON, so that `vswap stat` of another version can read it.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use vswap_platform::memfd::{SharedMem, Sharing};
use vswap_platform::{clock, log};
use vswap_units::histogram::BUCKETS;
use vswap_units::{CounterInfo, Counters, LatencyHistogram, PAGE_SIZE};

use crate::values;

/// Layout version of both memories.
pub const ABI: u32 = 1;
const VALUES_AT: usize = PAGE_SIZE;
const SCHEMA_AT: usize = 2 * PAGE_SIZE;
const STATS_BYTES: usize = 8 * PAGE_SIZE;
const CONFIG_BYTES: usize = 1024;
const CONFIG_AT: usize = STATS_BYTES - CONFIG_BYTES;

/// The memories of one engine, owned by its reclaim thread.
pub struct Publisher {
    stats: Option<SharedMem>,
    control: Option<SharedMem>,
    generation: AtomicU64,
}

impl Publisher {
    /// Makes the memories. What cannot be made is left out and said: the
    /// program runs on without being seen. `config` is told to whoever looks.
    pub fn new(config: &str) -> Self {
        let stats = SharedMem::create(c"vswap-stats", STATS_BYTES, Sharing::ReadOnly).ok();
        let control = SharedMem::create(c"vswap-control", PAGE_SIZE, Sharing::Writable).ok();
        if stats.is_none() || control.is_none() {
            log::say(&["'vswap stat' will not see this process: no shared memory could be made"]);
        }
        let publisher = Self {
            stats,
            control,
            generation: AtomicU64::new(0),
        };
        publisher.write_header(config);
        publisher
    }

    fn write_header(&self, config: &str) {
        if let Some(control) = &self.control {
            let _ = control.write_bytes(0, b"VSWAPCT1");
        }
        let Some(stats) = &self.stats else { return };
        let schema = schema();
        let _ = stats.write_bytes(SCHEMA_AT, schema.as_bytes());
        let config = config.as_bytes();
        let config = config
            .get(..config.len().min(CONFIG_BYTES))
            .unwrap_or_default();
        let _ = stats.write_bytes(CONFIG_AT, config);
        let counts = u64::from(ABI) | (Counters::COUNT as u64) << 32;
        let words = [
            counts,
            u64::from(std::process::id()),
            clock::boot_ns(),
            SCHEMA_AT as u64,
            schema.len() as u64,
            VALUES_AT as u64,
            (VALUES_AT + Counters::COUNT * 8) as u64,
            BUCKETS as u64,
            CONFIG_AT as u64,
            config.len() as u64,
        ];
        for (index, word) in words.iter().enumerate() {
            let _ = stats.write_bytes(8 + index * 8, &word.to_le_bytes());
        }
        let _ = stats.write_bytes(0, b"VSWAPST1");
    }

    /// Copies the counters out.
    pub fn publish(&self, counters: &Counters, latency: &LatencyHistogram) {
        if let Some(words) = self
            .stats
            .as_ref()
            .and_then(|stats| stats.words(VALUES_AT, values::COUNT))
        {
            values::copy(counters, latency, words);
        }
    }

    /// The budget somebody has asked for since the last look.
    pub fn asked_budget(&self) -> Option<u64> {
        let words = self.control.as_ref()?.words(8, 2)?;
        let generation = words.first()?.load(Ordering::Acquire);
        if self.generation.swap(generation, Ordering::Relaxed) == generation {
            return None;
        }
        Some(words.get(1)?.load(Ordering::Relaxed))
    }
}

/// The counters' names, kinds and one line of help each, as JSON.
pub fn schema() -> String {
    let mut text = String::from("[");
    for (index, CounterInfo { name, kind, help }) in Counters::TABLE.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let kind = kind.name();
        let _ = write!(
            text,
            r#"{comma}{{"name":"{name}","kind":"{kind}","help":"{help}"}}"#
        );
    }
    text.push(']');
    text
}
