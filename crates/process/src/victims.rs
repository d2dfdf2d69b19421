//! Whom reclaim takes next: a queue of blocks in the order they came in.
//!
//! The argument. Without an accessed bit, arrival order is all that is known;
//! plain FIFO evicts a hot page as readily as a cold one. The staging area
//! mends that: a block taken from the front is only *cached* for a while, and
//! a touch in that window moves it back and queues it at the end, as the
//! kernel's second chance does. If that is wrong (a loop slightly larger than
//! the budget), every round misses and costs one move each way per page; the
//! refault counters show it.
//!
//! A block is queued at most once; a link costs 4 bytes per block.

use std::sync::atomic::{AtomicU32, Ordering};

use vswap_platform::errno::Errno;
use vswap_platform::lazy::LazySlice;
use vswap_platform::sync::RankedMutex;
use vswap_units::rank;

/// A link word: 0 is "not queued", 1 ends the queue, else the next block + 2.
const NOT_QUEUED: u32 = 0;
const LAST: u32 = 1;

#[derive(Clone, Copy, Default)]
struct Ends {
    head: Option<u32>,
    tail: Option<u32>,
    len: usize,
}

/// The queue of blocks that may have something to take.
pub struct Victims {
    links: LazySlice<AtomicU32>,
    ends: RankedMutex<Ends, { rank::FRAME }>,
}

impl Victims {
    /// A queue for a region of `blocks` blocks.
    ///
    /// # Errors
    /// The kernel's, when the link table cannot be mapped.
    pub fn new(blocks: usize) -> Result<Self, Errno> {
        Ok(Self {
            links: LazySlice::reserve(blocks, blocks)?,
            ends: RankedMutex::new(Ends::default()),
        })
    }

    fn link(&self, block: u32) -> u32 {
        self.links
            .get(block as usize)
            .map_or(NOT_QUEUED, |link| link.load(Ordering::Relaxed))
    }

    fn set_link(&self, block: u32, value: u32) {
        if let Some(link) = self.links.get(block as usize) {
            link.store(value, Ordering::Relaxed);
        }
    }

    /// Queues a block at the end, unless it is queued already.
    pub fn push(&self, block: usize) {
        let block = block as u32;
        if self.link(block) != NOT_QUEUED {
            return;
        }
        let mut ends = self.ends.lock();
        if self.link(block) != NOT_QUEUED {
            return;
        }
        self.set_link(block, LAST);
        match ends.tail {
            Some(tail) => self.set_link(tail, block + 2),
            None => ends.head = Some(block),
        }
        ends.tail = Some(block);
        ends.len += 1;
    }

    /// Takes the block that has waited longest.
    pub fn pop(&self) -> Option<usize> {
        let mut ends = self.ends.lock();
        let block = ends.head?;
        ends.head = self.link(block).checked_sub(2);
        if ends.head.is_none() {
            ends.tail = None;
        }
        self.set_link(block, NOT_QUEUED);
        ends.len -= 1;
        Some(block as usize)
    }

    /// How many blocks are queued.
    pub fn len(&self) -> usize {
        self.ends.lock().len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_out_in_the_order_they_came_in_and_only_once() {
        let victims = Victims::new(100).unwrap();
        for block in [5, 3, 99, 5, 0, 3] {
            victims.push(block);
        }
        assert_eq!(victims.len(), 4);
        let order: Vec<_> = std::iter::from_fn(|| victims.pop()).collect();
        assert_eq!(order, [5, 3, 99, 0]);
        victims.push(5);
        assert_eq!(victims.pop(), Some(5));
        assert_eq!(victims.pop(), None);
    }
}
