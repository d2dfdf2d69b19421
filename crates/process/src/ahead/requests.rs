//! What faults have asked the read-ahead for, and what it is at.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use vswap_platform::sync::Event;

/// Requests that wait at a time; more replace the oldest ones.
const REQUESTS: usize = 16;

/// Blocks to bring in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) first: usize,
    pub(super) count: usize,
    /// Never touched yet, rather than swapped out.
    pub(super) fresh: bool,
}

/// Bits of a request's word below its first block: how many blocks, and what kind.
const COUNT_BITS: u32 = 8;
const FRESH: u64 = 1 << (COUNT_BITS - 1);
/// Bits of the word of what is being read, below its block.
const END_BITS: u32 = 32;

impl Request {
    fn bits(self) -> u64 {
        let fresh = if self.fresh { FRESH } else { 0 };
        (self.first as u64) << COUNT_BITS | fresh | self.count as u64
    }

    fn from_bits(bits: u64) -> Option<Self> {
        let count = (bits & (FRESH - 1)) as usize;
        (count != 0).then_some(Self {
            first: (bits >> COUNT_BITS) as usize,
            count,
            fresh: bits & FRESH != 0,
        })
    }

    /// The blocks in the order 0, 2, 1, 4, 3, ...: a program that is as fast as
    /// its read-ahead would fault on the very block that is being brought in, and
    /// wait for it. So the one after the next is brought in, while the program
    /// does the next by its own fault; a slower program finds that one done too.
    pub(super) fn every_second_one_first(self) -> impl Iterator<Item = usize> {
        let pairs = (1..self.count.max(1)).step_by(2);
        let after_the_first = pairs.flat_map(|odd| [odd + 1, odd]);
        std::iter::once(0)
            .chain(after_the_first)
            .filter(move |at| *at < self.count)
            .map(move |at| self.first + at)
    }
}

/// What faults have asked for.
#[derive(Default)]
pub(crate) struct Ahead {
    /// Requests' words; 0 is none.
    requests: [AtomicU64; REQUESTS],
    next: AtomicUsize,
    pub(super) asked: Event,
    /// The block being brought in, and the end of its request; 0 is none. A hint.
    reading: AtomicU64,
}

impl Ahead {
    pub(super) fn ask(&self, request: Request) {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % REQUESTS;
        if let Some(place) = self.requests.get(index) {
            place.store(request.bits(), Ordering::Release);
            self.asked.signal();
        }
    }

    /// The request that has waited longest.
    pub(super) fn take(&self) -> Option<Request> {
        let oldest = self.next.load(Ordering::Relaxed) % REQUESTS;
        let (newer, older) = self.requests.split_at_checked(oldest)?;
        let mut by_age = older.iter().chain(newer);
        by_age.find_map(|place| Request::from_bits(place.swap(0, Ordering::Acquire)))
    }

    /// Says that `block` of a request is being brought in, or no block any more.
    pub(super) fn set_reading(&self, request: Request, block: Option<usize>) {
        let end = (request.first + request.count) as u64;
        let word = block.map_or(0, |block| (block as u64) << END_BITS | end);
        self.reading.store(word, Ordering::Relaxed);
    }

    /// If `block` is being brought in: the blocks after it, to the end of the request.
    pub(super) fn after(&self, block: usize) -> Option<core::ops::Range<usize>> {
        let word = self.reading.load(Ordering::Relaxed);
        let end = (word & ((1 << END_BITS) - 1)) as usize;
        (word != 0 && word >> END_BITS == block as u64).then_some(block + 1..end)
    }

    /// Wakes the thread, to see that it is to end.
    pub(crate) fn wake(&self) {
        self.asked.signal();
    }

    /// In a forked child: the thread is gone.
    pub(crate) fn reset_in_child(&self) {
        self.asked.after_fork_in_child();
        while self.take().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_once_in_order_and_the_oldest_give_way() {
        let ahead = Ahead::default();
        assert_eq!(ahead.take(), None);
        let request = |number: usize| Request {
            first: 100 + number,
            count: 7,
            fresh: number.is_multiple_of(2),
        };
        (0..REQUESTS + 2).for_each(|number| ahead.ask(request(number)));
        let taken: Vec<_> = std::iter::from_fn(|| ahead.take()).collect();
        let expected: Vec<_> = (2..REQUESTS + 2).map(request).collect();
        assert_eq!(taken, expected);
        assert_eq!(ahead.take(), None);
    }

    #[test]
    fn what_is_after_a_block_is_known_only_while_it_is_being_read() {
        let ahead = Ahead::default();
        let request = Request {
            first: 10,
            count: 4,
            fresh: false,
        };
        assert_eq!(ahead.after(0), None);
        ahead.set_reading(request, Some(11));
        assert_eq!(ahead.after(11), Some(12..14));
        assert_eq!(ahead.after(12), None);
        ahead.set_reading(request, None);
        assert_eq!(ahead.after(11), None);
    }
}
