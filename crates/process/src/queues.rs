//! Links of blocks that wait in queues: a block is in one queue at most, can be
//! taken from anywhere, and carries some flags with it.
//!
//! **Stable while** the lock that guards the [`Queue`]s is held; read without
//! it, flags are a hint.

use std::sync::atomic::{AtomicU32, Ordering};

use bytemuck::Zeroable;
use vswap_platform::errno::Errno;
use vswap_platform::lazy::LazySlice;

/// Bits of a link's first word that name a block; those above are flags.
const BLOCK: u32 = FLAGS_FROM - 1;
/// The lowest flag.
pub const FLAGS_FROM: u32 = 1 << 28;

/// Neighbours of a block in its queue, each plus one; 0 is none.
#[derive(Zeroable)]
struct Link {
    prev: AtomicU32,
    next: AtomicU32,
}

/// Ends and length of one queue.
#[derive(Clone, Copy, Default)]
pub struct Queue {
    head: Option<u32>,
    tail: Option<u32>,
    len: usize,
}

impl Queue {
    /// The block that has waited longest.
    pub fn head(&self) -> Option<u32> {
        self.head
    }

    /// How many blocks wait.
    pub fn len(&self) -> usize {
        self.len
    }
}

/// The links of every block of a region: 8 bytes each, once touched.
pub struct Links(LazySlice<Link>);

impl Links {
    /// For `blocks` blocks.
    ///
    /// # Errors
    /// The kernel's, when the table cannot be mapped.
    pub fn new(blocks: usize) -> Result<Self, Errno> {
        debug_assert!(blocks < BLOCK as usize);
        Ok(Self(LazySlice::reserve(blocks, blocks)?))
    }

    /// Bytes of the table that are in memory.
    pub fn table_bytes(&self) -> u64 {
        self.0.touched_bytes() as u64
    }

    /// Puts a block that is in no queue at the end of one; its flags are `flags` then.
    pub fn append(&self, queue: &mut Queue, block: u32, flags: u32) {
        let Some(link) = self.0.get(block as usize) else {
            return;
        };
        link.next.store(0, Ordering::Relaxed);
        link.prev
            .store(flags | plus_one(queue.tail), Ordering::Relaxed);
        match queue.tail {
            Some(tail) => self.set_next(tail, Some(block)),
            None => queue.head = Some(block),
        }
        queue.tail = Some(block);
        queue.len += 1;
    }

    /// Takes a block out of the queue it is in; it has no flags then.
    pub fn remove(&self, queue: &mut Queue, block: u32) {
        let (prev, next) = self.neighbours(block);
        match prev {
            Some(prev) => self.set_next(prev, next),
            None => queue.head = next,
        }
        match next {
            Some(next) => self.set_prev(next, prev),
            None => queue.tail = prev,
        }
        queue.len -= 1;
        self.set_flags(block, 0);
    }

    fn word(&self, block: u32) -> u32 {
        self.0
            .get(block as usize)
            .map_or(0, |link| link.prev.load(Ordering::Relaxed))
    }

    /// The flags of a block.
    pub fn flags(&self, block: u32) -> u32 {
        self.word(block) & !BLOCK
    }

    /// Gives a block these flags.
    pub fn set_flags(&self, block: u32, flags: u32) {
        if let Some(link) = self.0.get(block as usize) {
            let prev = link.prev.load(Ordering::Relaxed) & BLOCK;
            link.prev.store(prev | flags, Ordering::Relaxed);
        }
    }

    fn neighbours(&self, block: u32) -> (Option<u32>, Option<u32>) {
        let next = self
            .0
            .get(block as usize)
            .map_or(0, |link| link.next.load(Ordering::Relaxed));
        (
            (self.word(block) & BLOCK).checked_sub(1),
            next.checked_sub(1),
        )
    }

    fn set_next(&self, block: u32, next: Option<u32>) {
        if let Some(link) = self.0.get(block as usize) {
            link.next.store(plus_one(next), Ordering::Relaxed);
        }
    }

    fn set_prev(&self, block: u32, prev: Option<u32>) {
        if let Some(link) = self.0.get(block as usize) {
            let flags = link.prev.load(Ordering::Relaxed) & !BLOCK;
            link.prev.store(flags | plus_one(prev), Ordering::Relaxed);
        }
    }

    /// The queue's links agree with each other and with its length, and each
    /// block in it has `flag` and no other flag of `among`.
    pub fn check(&self, queue: &Queue, flag: u32, among: u32, problems: &mut Vec<String>) {
        let (mut before, mut at, mut count) = (None, queue.head, 0);
        while let Some(block) = at
            && count <= queue.len
        {
            let (prev, next) = self.neighbours(block);
            if prev != before || self.flags(block) & among != flag {
                problems.push(format!("block {block} is wrongly linked among victims"));
                return;
            }
            (before, at, count) = (at, next, count + 1);
        }
        if before != queue.tail || count != queue.len {
            let len = queue.len;
            problems.push(format!("{count} blocks are in a queue of {len} victims"));
        }
    }
}

fn plus_one(block: Option<u32>) -> u32 {
    block.map_or(0, |block| block + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_leaves_from_anywhere_and_the_rest_keeps_its_order() {
        let (links, mut queue) = (Links::new(9).unwrap(), Queue::default());
        (0..6).for_each(|block| links.append(&mut queue, block, FLAGS_FROM));
        for block in [3, 0, 5] {
            links.remove(&mut queue, block);
            assert_eq!(links.flags(block), 0);
        }
        let mut problems = Vec::new();
        links.check(&queue, FLAGS_FROM, FLAGS_FROM, &mut problems);
        assert_eq!(problems, Vec::<String>::new());
        let mut order = Vec::new();
        while let Some(block) = queue.head() {
            links.remove(&mut queue, block);
            order.push(block);
        }
        assert_eq!((order, queue.len()), (vec![1, 2, 4], 0));
    }

    #[test]
    fn a_wrong_link_is_found() {
        let (links, mut queue) = (Links::new(9).unwrap(), Queue::default());
        (0..3).for_each(|block| links.append(&mut queue, block, FLAGS_FROM));
        links.set_prev(2, Some(0));
        let mut problems = Vec::new();
        links.check(&queue, FLAGS_FROM, FLAGS_FROM, &mut problems);
        assert_eq!(problems.len(), 1);
    }
}
