//! The memory that `vswap run --report` shares with the whole tree of
//! processes it started: one slot per process, which outlives it.
//!
//! ```text
//! header page: "VSWAPTR1" | slot_count u32 | slot_bytes u32
//! slot:        pid u32 | flags u32 | start_ns u64 | exe [64] | .. | counters at 128 | latency buckets
//! ```

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use vswap_platform::clock;
use vswap_platform::memfd::SharedMem;
use vswap_units::{Counters, LatencyHistogram, PAGE_SIZE};

use crate::config::Config;
use crate::values;

const MAGIC: &[u8; 8] = b"VSWAPTR1";
const VALUES_AT: usize = 128;
const EXE_AT: usize = 16;
const EXE_BYTES: usize = 64;

/// One process's slot.
pub struct TreeSlot {
    memory: SharedMem,
    /// Where the slot begins; 0 when none was free.
    offset: AtomicUsize,
}

impl TreeSlot {
    /// A slot of the memory the configuration names, if it names one.
    pub fn of(config: &Config) -> Option<Self> {
        let inherited = config.tree_fd.and_then(Self::claim);
        inherited.or_else(|| Self::claim_at(config.tree_path.as_deref()?))
    }

    /// Claims a slot in the memory behind `fd`; `None` when that is not ours or full.
    pub fn claim(fd: i32) -> Option<Self> {
        let memory = SharedMem::attach_borrowed(fd).ok()?;
        let mut magic = [0u8; 8];
        memory.read_bytes(0, &mut magic)?;
        if &magic != MAGIC {
            return None;
        }
        let sizes = memory.halves(8, 2)?;
        let count = sizes.first()?.load(Ordering::Relaxed) as usize;
        let bytes = sizes.get(1)?.load(Ordering::Relaxed) as usize;
        if bytes < VALUES_AT + values::COUNT * 8 {
            return None;
        }
        let slot = Self {
            memory,
            offset: AtomicUsize::new(0),
        };
        slot.take_one(count, bytes);
        Some(slot)
    }

    /// The same by the file the parent has it open as. Whoever starts a program
    /// may close every descriptor first, as Python's subprocess does.
    pub fn claim_at(path: &str) -> Option<Self> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .ok()?;
        Self::claim(file.as_raw_fd())
    }

    /// In a forked child: a slot of its own.
    pub fn renew(&self) {
        let sizes = self.memory.halves(8, 2).unwrap_or_default();
        let size = |index: usize| {
            sizes
                .get(index)
                .map_or(0, |word| word.load(Ordering::Relaxed) as usize)
        };
        self.take_one(size(0), size(1));
    }

    fn take_one(&self, count: usize, bytes: usize) {
        let free = (0..count)
            .map(|slot| PAGE_SIZE + slot * bytes)
            .find(|offset| take(&self.memory, *offset));
        self.offset.store(free.unwrap_or(0), Ordering::Relaxed);
        if let Some(offset) = free {
            self.introduce(offset);
        }
    }

    fn introduce(&self, offset: usize) {
        let _ = self
            .memory
            .write_bytes(offset + 8, &clock::boot_ns().to_le_bytes());
        let exe = std::env::current_exe().unwrap_or_default();
        let name = exe.as_os_str().as_encoded_bytes();
        let tail = name
            .get(name.len().saturating_sub(EXE_BYTES)..)
            .unwrap_or_default();
        let _ = self.memory.write_bytes(offset + EXE_AT, tail);
    }

    /// Copies the counters to the slot.
    pub fn publish(&self, counters: &Counters, latency: &LatencyHistogram) {
        let offset = self.offset.load(Ordering::Relaxed);
        if offset != 0
            && let Some(words) = self.memory.words(offset + VALUES_AT, values::COUNT)
        {
            values::copy(counters, latency, words);
        }
    }
}

fn take(memory: &SharedMem, offset: usize) -> bool {
    let pid = std::process::id();
    memory
        .halves(offset, 1)
        .and_then(|words| words.first())
        .is_some_and(|word| {
            word.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        })
}
