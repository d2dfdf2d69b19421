//! Where somebody outside wants to see every event: rings in memory that he made, one for each engine of the tree of
//! processes he started. He reads while they write, and what he is too slow for is lost to him: event numbers are without
//! gaps, so he can tell how much.
//!
//! ```text
//! header page   "VSWAPEV1" | rings u32 | events of a ring u32 | engines that asked u32 | 0 | pid u32 of each ring
//! ring i        at PAGE + i * events * 32: words as in `trace.rs`
//! ```

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use vswap_platform::memfd::SharedMem;
use vswap_units::PAGE_SIZE;

/// Words of an event.
pub const WORDS: usize = 4;

const MAGIC: &[u8; 8] = b"VSWAPEV1";
const SIZES_AT: usize = 8;
const ASKED_AT: usize = 16;
const PIDS_AT: usize = 24;
const MOST_RINGS: usize = (PAGE_SIZE - PIDS_AT) / size_of::<u32>();

/// A ring of somebody else's memory.
pub struct Recording {
    memory: SharedMem,
    rings: usize,
    events: usize,
    /// Where the ring begins; 0 when none was left.
    offset: AtomicUsize,
}

impl Recording {
    /// A ring of the memory that is open at this path; `None` when that is no such memory.
    pub fn at(path: &str) -> Option<Self> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .ok()?;
        let memory = SharedMem::attach_borrowed(file.as_raw_fd()).ok()?;
        let mut magic = [0u8; 8];
        memory.read_bytes(0, &mut magic)?;
        let sizes = memory.halves(SIZES_AT, 2)?;
        let size = |at: usize| Some(sizes.get(at)?.load(Ordering::Relaxed) as usize);
        let (rings, events) = (size(0)?, size(1)?);
        let bytes = events.checked_mul(WORDS * 8)?.checked_mul(rings)?;
        let fits = bytes.checked_add(PAGE_SIZE)? <= memory.len();
        let sound = memory.is_writable() && rings <= MOST_RINGS && events.is_power_of_two();
        if &magic != MAGIC || !fits || !sound {
            return None;
        }
        let recording = Self {
            memory,
            rings,
            events,
            offset: AtomicUsize::new(0),
        };
        recording.renew();
        Some(recording)
    }

    /// A ring of its own for this process: at the start, and in a forked child. An engine that finds none is counted.
    pub fn renew(&self) {
        let pid = std::process::id();
        let mine = self
            .memory
            .halves(PIDS_AT, self.rings)
            .unwrap_or_default()
            .iter()
            .position(|ring| {
                ring.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            });
        let offset = mine.map_or(0, |ring| PAGE_SIZE + ring * self.events * WORDS * 8);
        self.offset.store(offset, Ordering::Release);
        if let Some(asked) = self.memory.halves(ASKED_AT, 1).unwrap_or_default().first() {
            asked.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The words of an event's place.
    pub fn place(&self, number: u64) -> Option<&[AtomicU64]> {
        let offset = Some(self.offset.load(Ordering::Acquire)).filter(|offset| *offset != 0)?;
        let at = number as usize & (self.events - 1);
        self.memory.words(offset + at * WORDS * 8, WORDS)
    }

    /// Events the ring holds.
    pub const fn events(&self) -> usize {
        self.events
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use vswap_platform::memfd::Sharing;

    use super::*;
    use crate::trace::{Event, Trace};

    const EVENTS: usize = 128;

    fn memory(rings: u32, events: u32) -> SharedMem {
        let len = PAGE_SIZE + EVENTS * WORDS * 8 * 2;
        let memory = SharedMem::create(c"vswap-events", len, Sharing::Writable).unwrap();
        memory.write_bytes(0, MAGIC).unwrap();
        let sizes = memory.halves(SIZES_AT, 2).unwrap();
        sizes[0].store(rings, Ordering::Relaxed);
        sizes[1].store(events, Ordering::Relaxed);
        memory
    }

    fn path(memory: &SharedMem) -> String {
        format!("/proc/self/fd/{}", memory.raw_fd())
    }

    fn asked(memory: &SharedMem) -> u32 {
        let asked: &AtomicU32 = &memory.halves(ASKED_AT, 1).unwrap()[0];
        asked.load(Ordering::Relaxed)
    }

    #[test]
    fn events_go_to_the_memory_of_whoever_records_from_the_first_one_on() {
        let memory = memory(2, EVENTS as u32);
        let trace = Trace::new(Some(&path(&memory))).unwrap();
        trace.set_on(false);
        for page in 0..EVENTS as u64 + 3 {
            trace.end(trace.begin(), Event::SwapIn, page);
        }
        let word = |event: usize, word: usize| {
            let words = memory.words(PAGE_SIZE, EVENTS * WORDS).unwrap();
            words[event * WORDS + word].load(Ordering::Relaxed)
        };
        assert_eq!((word(0, 0), word(0, 3)), (EVENTS as u64 + 1, EVENTS as u64));
        assert_eq!((word(3, 0), word(3, 3)), (4, 3));
        let mut out = [[0; WORDS]; 2 * EVENTS];
        assert_eq!(trace.read(0, &mut out), EVENTS);
        assert_eq!(out[0][0], 3);
    }

    #[test]
    fn every_engine_has_a_ring_of_its_own_and_those_without_are_counted() {
        let memory = memory(2, EVENTS as u32);
        let rings: Vec<_> = (0..3)
            .map(|_| Recording::at(&path(&memory)).unwrap())
            .collect();
        let first = |ring: &Recording| {
            ring.place(EVENTS as u64)
                .map(|words| words.as_ptr().addr() - ring.memory.addr())
        };
        let offsets: Vec<_> = rings.iter().map(first).collect();
        let second = PAGE_SIZE + EVENTS * WORDS * 8;
        assert_eq!(offsets, [Some(PAGE_SIZE), Some(second), None]);
        assert_eq!(asked(&memory), 3);
        let pids = memory.halves(PIDS_AT, 3).unwrap();
        let pids: Vec<_> = pids.iter().map(|pid| pid.load(Ordering::Relaxed)).collect();
        assert_eq!(pids, [std::process::id(), std::process::id(), 0]);
    }

    #[test]
    fn a_child_writes_into_a_ring_of_its_own() {
        let memory = memory(2, EVENTS as u32);
        let trace = Trace::new(Some(&path(&memory))).unwrap();
        trace.end(trace.begin(), Event::SwapIn, 7);
        trace.renew_recording();
        trace.end(trace.begin(), Event::SwapIn, 8);
        let words = memory.words(PAGE_SIZE, 2 * EVENTS * WORDS).unwrap();
        let place = |at: usize| {
            (
                words[at].load(Ordering::Relaxed),
                words[at + 3].load(Ordering::Relaxed),
            )
        };
        assert_eq!(place(0), (1, 7));
        assert_eq!(place(WORDS), (0, 0));
        assert_eq!(place(EVENTS * WORDS), (1, 8));
    }

    #[test]
    fn what_is_no_such_memory_is_left_alone() {
        for (rings, events) in [(3, EVENTS as u32), (2, 100), (2000, 1), (2, 0)] {
            let memory = memory(rings, events);
            assert!(Recording::at(&path(&memory)).is_none(), "{rings} {events}");
            assert_eq!(asked(&memory), 0);
        }
        let other = memory(2, EVENTS as u32);
        other.write_bytes(0, b"VSWAPTR1").unwrap();
        assert!(Recording::at(&path(&other)).is_none());
        assert!(Recording::at("/dev/null").is_none());
        let trace = Trace::new(Some("/proc/self/fd/99999")).unwrap();
        assert!(trace.begin().is_none());
    }
}
