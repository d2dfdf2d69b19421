//! How far to reach beyond a fault: the streams that recent faults make.
//!
//! A fault next to where an earlier one left off doubles the stream's window; a
//! fault far from all recent ones takes its page alone, because decoding 15
//! pages nobody asked for costs more than the fault. Up to a whole block comes
//! with the fault itself. What the window has beyond that is read ahead by a
//! thread of its own (`ahead`) while the program works on what it has. The share
//! of recent faults that continued a stream decides how a new stream starts.
//!
//! **If that is wrong**, a sequential reader pays some small faults before the
//! window opens, a random one some microseconds of decoding, and a stream that
//! ends has had at most one window too much brought in.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use vswap_units::BLOCK_PAGES;

use crate::average::Average;

const STREAMS: usize = 16;
/// Above this average (of 256) a new stream starts with the whole block.
const TRUSTED: u32 = 48;
/// Bits of a stream's word that hold its window.
const WINDOW_BITS: u32 = 16;

/// Recent fault streams, shared by all threads; every word is a hint.
#[derive(Default)]
pub struct Streams {
    /// Next expected page << [`WINDOW_BITS`] | window in pages, per stream.
    recent: [AtomicU64; STREAMS],
    next: AtomicU32,
    /// Faults that continued a stream.
    continued: Average<16>,
}

/// How far to reach beyond one fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reach {
    /// Pages from the faulting one on that come with it, within its block.
    pub around: usize,
    /// The first block to read ahead, and how many.
    pub ahead_from: usize,
    /// See `ahead_from`.
    pub ahead_blocks: usize,
    /// Does it go on with a stream?
    pub continues: bool,
}

/// What a stream expects.
#[derive(Clone, Copy)]
struct Stream {
    expected: usize,
    window: usize,
}

impl Stream {
    fn from_bits(bits: u64) -> Self {
        Self {
            expected: (bits >> WINDOW_BITS) as usize,
            window: (bits & ((1 << WINDOW_BITS) - 1)) as usize,
        }
    }

    fn bits(self) -> u64 {
        (self.expected as u64) << WINDOW_BITS | self.window as u64
    }

    /// Does a fault at `page` belong here? What was to be read ahead may be late.
    fn covers(self, page: usize) -> bool {
        let late = self.window.saturating_sub(BLOCK_PAGES);
        let from = self.expected.saturating_sub(late);
        self.window != 0 && page >= from && page < self.expected + BLOCK_PAGES
    }
}

impl Streams {
    /// How far to reach beyond a fault at `page`, with windows of `deepest`
    /// blocks at most.
    pub fn reach(&self, page: usize, deepest: usize) -> Reach {
        for word in &self.recent {
            let stream = Stream::from_bits(word.load(Ordering::Relaxed));
            if stream.covers(page) {
                self.continued.learn(true);
                return continued(word, stream, page, deepest);
            }
        }
        self.continued.learn(false);
        let window = self.first_window();
        let index = self.next.fetch_add(1, Ordering::Relaxed) as usize % STREAMS;
        if let Some(word) = self.recent.get(index) {
            let expected = page + window;
            word.store(Stream { expected, window }.bits(), Ordering::Relaxed);
        }
        Reach {
            around: window,
            ahead_from: 0,
            ahead_blocks: 0,
            continues: false,
        }
    }

    fn first_window(&self) -> usize {
        match self.continued.get() {
            average if average > TRUSTED => BLOCK_PAGES,
            _ => 1,
        }
    }
}

/// The reach of a fault that continues a stream.
fn continued(word: &AtomicU64, stream: Stream, page: usize, deepest: usize) -> Reach {
    if page < stream.expected {
        return late(word, stream, page, deepest);
    }
    let window = (stream.window * 2).min(deepest.max(1) * BLOCK_PAGES);
    let expected = if window > BLOCK_PAGES {
        page / BLOCK_PAGES * BLOCK_PAGES + window
    } else {
        page + window
    };
    word.store(Stream { expected, window }.bits(), Ordering::Relaxed);
    Reach {
        around: window.min(BLOCK_PAGES),
        ahead_from: page / BLOCK_PAGES + 1,
        ahead_blocks: (window / BLOCK_PAGES).saturating_sub(1),
        continues: true,
    }
}

/// The reach of a fault on what was asked for already and is not here yet: the
/// program is as fast as its read-ahead. With half of the window behind it, half
/// of the next, wider one is asked for, so that nobody begins anew at its end.
fn late(word: &AtomicU64, stream: Stream, page: usize, deepest: usize) -> Reach {
    let wider = (stream.window * 2).min(deepest * BLOCK_PAGES);
    let (window, ahead_blocks) = if stream.expected - page <= stream.window / 2 {
        (wider, wider / 2 / BLOCK_PAGES)
    } else {
        (stream.window, 0)
    };
    let expected = stream.expected + ahead_blocks * BLOCK_PAGES;
    word.store(Stream { expected, window }.bits(), Ordering::Relaxed);
    Reach {
        around: BLOCK_PAGES,
        ahead_from: stream.expected / BLOCK_PAGES,
        ahead_blocks,
        continues: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEEPEST: usize = 8;

    #[test]
    fn a_sequential_reader_soon_gets_whole_blocks_and_then_blocks_ahead() {
        let streams = Streams::default();
        let mut page = 1000;
        for _ in 0..8 {
            let reach = streams.reach(page, 1);
            assert_eq!(reach.ahead_blocks, 0);
            page += reach.around;
        }
        for blocks in [1, 3, 7, 7] {
            let reach = streams.reach(page, DEEPEST);
            assert_eq!(reach.around, BLOCK_PAGES);
            assert_eq!(reach.ahead_blocks, blocks);
            page = (page / BLOCK_PAGES + 1 + blocks) * BLOCK_PAGES;
        }
    }

    #[test]
    fn a_random_reader_gets_single_pages_and_nothing_ahead() {
        let streams = Streams::default();
        let mut random = 12345usize;
        for _ in 0..200 {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            assert_eq!(streams.reach(random >> 30, DEEPEST).ahead_blocks, 0);
        }
        assert_eq!(streams.reach(random >> 31, DEEPEST).around, 1);
    }

    #[test]
    fn a_fault_on_what_is_to_be_read_ahead_asks_for_nothing_twice_and_in_time_for_what_follows() {
        let streams = Streams::default();
        let mut page = 0;
        let mut reach = streams.reach(page, DEEPEST);
        while reach.ahead_blocks < 7 {
            page += reach.around + reach.ahead_blocks * BLOCK_PAGES;
            reach = streams.reach(page, DEEPEST);
        }
        let block = page / BLOCK_PAGES;
        let mut asked = Vec::new();
        for further in 1..=16 {
            let reach = streams.reach(page + further * BLOCK_PAGES, DEEPEST);
            assert_eq!((reach.around, reach.continues), (BLOCK_PAGES, true));
            asked.extend(reach.ahead_from..reach.ahead_from + reach.ahead_blocks);
        }
        let expected: Vec<_> = (block + 8..block + 24).collect();
        assert_eq!(asked, expected);
    }
}
