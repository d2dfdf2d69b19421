//! The event ring: what happened to which page and how long it took, for whoever wants to see it.
//!
//! ```text
//! word 0   number of the event + 1; 0 while it is being written
//! word 1   time, ns
//! word 2   duration, ns (32) | thread (16) | event (16)
//! word 3   page number
//! ```
//! Fixed size, without a lock, without allocation: a writer takes the next number and writes over what was in its place, so
//! the ring holds the last events and loses older ones. Off, it costs one look at a flag; its memory is touched only when on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vswap_platform::clock::now_ns;
use vswap_platform::errno::Errno;
use vswap_platform::lazy::LazySlice;
use vswap_platform::thread::current_tid;

use crate::recording::{Recording, WORDS};

/// Events the ring holds.
pub const EVENTS: usize = 1 << 16;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Event {
    /// A first touch was given zeros.
    ZeroFill = 1,
    /// A page came back out of the swap cache.
    TakeBack = 2,
    /// A page was read back, neighbours with it.
    SwapIn = 3,
    /// A page was swapped out of its frame.
    SwapOut = 4,
    /// Swapped pages were given up: the number is how many.
    Free = 5,
}

/// The ring of one engine.
pub struct Trace {
    on: AtomicBool,
    next: AtomicU64,
    words: LazySlice<AtomicU64>,
    /// Somebody else's ring, which takes the place of ours.
    recording: Option<Recording>,
}

/// When something began, if anybody wants to know.
#[derive(Clone, Copy)]
pub struct Began(u64);

impl Trace {
    /// A ring that is off; or on from the start where somebody records at this path.
    ///
    /// # Errors
    /// ENOMEM without address space.
    pub fn new(recorded_at: Option<&str>) -> Result<Self, Errno> {
        let recording = recorded_at.and_then(Recording::at);
        Ok(Self {
            on: AtomicBool::new(recording.is_some()),
            next: AtomicU64::new(0),
            words: LazySlice::reserve(EVENTS * WORDS, EVENTS * WORDS)?,
            recording,
        })
    }

    /// From now on events are noted, or are not; while somebody records they are.
    pub fn set_on(&self, on: bool) {
        self.on
            .store(on || self.recording.is_some(), Ordering::Release);
    }

    /// In a forked child, whose events are its own.
    pub fn renew_recording(&self) {
        if let Some(recording) = &self.recording {
            recording.renew();
            self.next.store(0, Ordering::Relaxed);
        }
    }

    /// Before something that may be worth an event.
    #[inline]
    pub fn begin(&self) -> Option<Began> {
        self.on.load(Ordering::Relaxed).then(|| Began(now_ns()))
    }

    /// After it. Costs nothing when it did not begin.
    #[inline]
    pub fn end(&self, began: Option<Began>, event: Event, page: u64) {
        if let Some(Began(began)) = began {
            self.note(began, now_ns().saturating_sub(began), event, page);
        }
    }

    /// After something done to `count` neighbouring pages at once: an event for each, with its share of the time.
    pub fn end_each(&self, began: Option<Began>, event: Event, first: u64, count: usize) {
        if let Some(Began(began)) = began {
            let each = now_ns().saturating_sub(began) / count.max(1) as u64;
            for i in 0..count as u64 {
                self.note(began + i * each, each, event, first + i);
            }
        }
    }

    fn note(&self, began: u64, took: u64, event: Event, page: u64) {
        let took = u32::try_from(took).unwrap_or(u32::MAX);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let Some([state, time, what, about]) = self.place(number) else {
            return;
        };
        state.store(0, Ordering::SeqCst);
        time.store(began, Ordering::Relaxed);
        let thread = current_tid() as u64 & 0xffff;
        let word = u64::from(took) << 32 | thread << 16 | event as u64;
        what.store(word, Ordering::Relaxed);
        about.store(page, Ordering::Relaxed);
        state.store(number + 1, Ordering::Release);
    }

    fn place(&self, number: u64) -> Option<&[AtomicU64]> {
        if let Some(recording) = &self.recording {
            return recording.place(number);
        }
        let at = number as usize % EVENTS * WORDS;
        self.words.range(at..at + WORDS)
    }

    /// Copies events out, the oldest still there first, from the one with this number on; returns how many. What is being
    /// written over meanwhile is left out.
    pub fn read(&self, from: u64, out: &mut [[u64; WORDS]]) -> usize {
        let end = self.next.load(Ordering::Acquire);
        let held = self
            .recording
            .as_ref()
            .map_or(EVENTS, |ring| ring.events().min(EVENTS));
        let oldest = end.saturating_sub(held as u64).max(from);
        let mut events = (oldest..end).filter_map(|number| self.event(number));
        let mut count = 0;
        for place in out {
            let Some(event) = events.next() else { break };
            *place = event;
            count += 1;
        }
        count
    }

    fn event(&self, number: u64) -> Option<[u64; WORDS]> {
        let Some([state, time, what, about]) = self.place(number) else {
            return None;
        };
        let before = state.load(Ordering::Acquire);
        let event = [
            number,
            time.load(Ordering::Acquire),
            what.load(Ordering::Acquire),
            about.load(Ordering::Acquire),
        ];
        let after = state.load(Ordering::SeqCst);
        (before == number + 1 && after == before).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(trace: &Trace, from: u64) -> Vec<u64> {
        let mut out = vec![[0; WORDS]; 2 * EVENTS];
        let count = trace.read(from, &mut out);
        out.iter().take(count).map(|event| event[0]).collect()
    }

    #[test]
    fn a_ring_that_is_off_notes_nothing() {
        let trace = Trace::new(None).unwrap();
        trace.end(trace.begin(), Event::SwapIn, 7);
        assert_eq!(numbers(&trace, 0), Vec::<u64>::new());
    }

    #[test]
    fn events_are_read_in_order_with_what_they_were_about() {
        let trace = Trace::new(None).unwrap();
        trace.set_on(true);
        for page in 10..13 {
            trace.end(trace.begin(), Event::SwapOut, page);
        }
        let mut out = [[0; WORDS]; 8];
        assert_eq!(trace.read(0, &mut out), 3);
        assert_eq!(out.map(|event| event[3])[..3], [10, 11, 12]);
        assert!(out.iter().take(3).all(|event| event[2] & 0xffff == 4));
        assert_eq!(numbers(&trace, 2), [2]);
    }

    #[test]
    fn a_full_ring_loses_the_oldest() {
        let trace = Trace::new(None).unwrap();
        trace.set_on(true);
        for page in 0..EVENTS as u64 + 5 {
            trace.end(trace.begin(), Event::Free, page);
        }
        let seen = numbers(&trace, 0);
        assert_eq!((seen.len(), seen[0]), (EVENTS, 5));
    }

    #[test]
    fn a_reader_beside_writers_sees_whole_events_only() {
        let trace = Trace::new(None).unwrap();
        trace.set_on(true);
        std::thread::scope(|scope| {
            for thread in 0..2_u64 {
                let trace = &trace;
                scope.spawn(move || {
                    for i in 0..200_000 {
                        trace.end(
                            Some(Began(thread << 32 | i)),
                            Event::SwapIn,
                            thread << 32 | i,
                        );
                    }
                });
            }
            let mut out = vec![[0; WORDS]; EVENTS];
            for _ in 0..20 {
                let count = trace.read(0, &mut out);
                assert!(out.iter().take(count).all(|event| event[1] == event[3]));
            }
        });
    }
}
