//! Whom reclaim takes next: two queues of blocks, in the order they came in.
//!
//! Blocks arrive on the *inactive* queue and reclaim takes them from its front.
//! Without an accessed bit arrival order is all that is known there. Two things
//! are known of a block that comes back: that it was touched while it was only
//! cached, or how much was written out while it was out (`workingset`). Both
//! say that it is used more often than arrival order shows, and put it on the
//! *active* queue, which reclaim spares. What is resident bounds the active
//! queue; blocks beyond go from its front to the end of the inactive one, as
//! one does for each block that is granted a place on a full queue. (The idea
//! is the kernel's two lists; there the accessed bit decides what stays active.)
//!
//! If that is wrong, reclaim spares cold blocks and takes warmer ones: until
//! the refaults of those have cooled them down, see `workingset`.
//!
//! A block is queued at most once; its links cost 8 bytes, half a byte a page.
//!
//! **Stable while** the lock of the lists is held. Read without it, whether a
//! block is queued is a hint, and good enough for whoever holds the block's
//! lock: who takes the block from the queue locks it next.

use vswap_platform::errno::Errno;
use vswap_platform::sync::RankedMutex;
use vswap_units::rank;

use crate::queues::{FLAGS_FROM, Links, Queue};
use crate::workingset::Cooling;

/// Which order blocks are taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// Two queues, by refaults.
    #[default]
    Workingset,
    /// One queue, by arrival: for measuring what the other gains.
    Fifo,
}

/// Flags of a block: the queue it is in.
const INACTIVE: u32 = FLAGS_FROM << 3;
const ACTIVE: u32 = FLAGS_FROM << 2;
/// Touched (a part of it came back) since it was queued as active.
const TOUCHED: u32 = FLAGS_FROM << 1;
/// Was taken off the active queue; stays until it is queued again.
const COOLED: u32 = FLAGS_FROM;
const QUEUED: u32 = INACTIVE | ACTIVE;
/// Touched blocks at the front of the active queue that one cooling passes by.
const MOST_PASSED: usize = 4;
/// Blocks cooled by one [`Victims::pop`] when the active queue is too long.
const MOST_COOLED: usize = 4;

#[derive(Default)]
struct Lists {
    inactive: Queue,
    active: Queue,
    cooling: Cooling,
}

impl Lists {
    fn of(&mut self, queue: u32) -> &mut Queue {
        if queue == ACTIVE {
            &mut self.active
        } else {
            &mut self.inactive
        }
    }
}

/// The blocks that may have something to take.
pub struct Victims {
    policy: Policy,
    links: Links,
    lists: RankedMutex<Lists, { rank::FRAME }>,
}

impl Victims {
    /// Queues for a region of `blocks` blocks.
    ///
    /// # Errors
    /// The kernel's, when the link table cannot be mapped.
    pub fn new(blocks: usize, policy: Policy) -> Result<Self, Errno> {
        Ok(Self {
            policy,
            links: Links::new(blocks)?,
            lists: RankedMutex::new(Lists::default()),
        })
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Queues a block that arrived, unless it is queued already.
    pub fn push(&self, block: usize) {
        let block = block as u32;
        if self.links.flags(block) & QUEUED != 0 {
            return;
        }
        let mut lists = self.lists.lock();
        if self.links.flags(block) & QUEUED == 0 {
            self.append(&mut lists, block, INACTIVE);
        }
    }

    /// A block proved to be in use: it gets a place on the active queue, where
    /// at most `most` blocks have one; else it is queued as any other. Returns
    /// whether it came to be active through this.
    pub fn used(&self, block: usize, most: usize) -> bool {
        if self.policy == Policy::Fifo {
            self.push(block);
            return false;
        }
        let block = block as u32;
        let mut lists = self.lists.lock();
        let flags = self.links.flags(block);
        if flags & ACTIVE != 0 {
            self.links.set_flags(block, flags | TOUCHED);
            return false;
        }
        if flags & QUEUED == 0 && flags & COOLED != 0 {
            lists.cooling.came_back();
        }
        if lists.active.len() >= most {
            if most == 0 || !lists.cooling.grants() {
                if flags & QUEUED == 0 {
                    self.append(&mut lists, block, INACTIVE);
                }
                return false;
            }
            self.cool(&mut lists);
        }
        if flags & QUEUED != 0 {
            self.remove(&mut lists, block);
        }
        self.append(&mut lists, block, ACTIVE);
        true
    }

    /// A block came back soon but gets no place: what is active may be cold
    /// all the same, so this asks for room as the others do.
    pub fn pressed(&self) {
        if self.policy == Policy::Fifo {
            return;
        }
        let mut lists = self.lists.lock();
        if lists.active.len() > 0 && lists.cooling.grants() {
            self.cool(&mut lists);
        }
    }

    /// A block taken from the queues has been written out.
    pub fn written_out(&self, block: usize) {
        let block = block as u32;
        if self.links.flags(block) & COOLED != 0 {
            self.lists.lock().cooling.went_out();
        }
    }

    /// Takes the block to be evicted next; at most `most` may stay active.
    pub fn pop(&self, most: usize) -> Option<usize> {
        let mut lists = self.lists.lock();
        for _ in 0..MOST_COOLED {
            if lists.active.len() <= most {
                break;
            }
            self.cool(&mut lists);
        }
        let cooled = lists.inactive.head().is_none();
        let block = lists.inactive.head().or(lists.active.head())?;
        let flags = self.remove(&mut lists, block);
        let was_active = cooled || flags & COOLED != 0;
        self.links
            .set_flags(block, if was_active { COOLED } else { 0 });
        Some(block as usize)
    }

    /// Takes this block if it is the next one of the inactive queue.
    pub fn pop_if_next(&self, block: usize) -> bool {
        let mut lists = self.lists.lock();
        let block = block as u32;
        let is_next = lists.inactive.head() == Some(block);
        if is_next {
            let flags = self.remove(&mut lists, block);
            self.links.set_flags(block, flags & COOLED);
        }
        is_next
    }

    /// A block has nothing to take any more.
    pub fn forget(&self, block: usize) {
        let block = block as u32;
        if self.links.flags(block) & QUEUED == 0 {
            return;
        }
        let mut lists = self.lists.lock();
        if self.links.flags(block) & QUEUED != 0 {
            self.remove(&mut lists, block);
        }
    }

    /// How many blocks are queued.
    pub fn len(&self) -> usize {
        let lists = self.lists.lock();
        lists.inactive.len() + lists.active.len()
    }

    /// How many of them are active.
    pub fn active(&self) -> usize {
        self.lists.lock().active.len()
    }

    /// Bytes of the link table that are in memory.
    pub fn table_bytes(&self) -> u64 {
        self.links.table_bytes()
    }

    /// Sends the block that has been active longest to the end of the inactive
    /// queue; ones touched since stay a round longer.
    fn cool(&self, lists: &mut Lists) {
        for passed in 0..=MOST_PASSED {
            let Some(block) = lists.active.head() else {
                return;
            };
            let flags = self.remove(lists, block);
            if flags & TOUCHED != 0 && passed < MOST_PASSED {
                self.append(lists, block, ACTIVE);
                continue;
            }
            self.append(lists, block, INACTIVE);
            let flags = self.links.flags(block);
            self.links.set_flags(block, flags | COOLED);
            return;
        }
    }

    /// Queues a block that is in no queue; what was known of it is forgotten.
    fn append(&self, lists: &mut Lists, block: u32, queue: u32) {
        self.links.append(lists.of(queue), block, queue);
    }

    /// Takes a block out of its queue; returns its flags.
    fn remove(&self, lists: &mut Lists, block: u32) -> u32 {
        let flags = self.links.flags(block);
        self.links.remove(lists.of(flags & ACTIVE), block);
        flags
    }

    /// Both queues are sound, and a block is in the one its flags say, so in one at most.
    pub fn check(&self, problems: &mut Vec<String>) {
        let lists = self.lists.lock();
        self.links
            .check(&lists.inactive, INACTIVE, QUEUED, problems);
        self.links.check(&lists.active, ACTIVE, QUEUED, problems);
    }

    /// Is the block in a queue? A hint.
    pub fn is_queued(&self, block: usize) -> bool {
        self.links.flags(block as u32) & QUEUED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(victims: &Victims, most: usize) -> Vec<usize> {
        std::iter::from_fn(|| victims.pop(most)).collect()
    }

    fn sound(victims: &Victims) {
        let mut problems = Vec::new();
        victims.check(&mut problems);
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn blocks_come_out_in_the_order_they_came_in_and_only_once() {
        let victims = Victims::new(100, Policy::Workingset).unwrap();
        for block in [5, 3, 99, 5, 0, 3] {
            victims.push(block);
        }
        assert_eq!(victims.len(), 4);
        sound(&victims);
        assert_eq!(drain(&victims, 0), [5, 3, 99, 0]);
        victims.push(5);
        assert_eq!(victims.pop(0), Some(5));
        assert_eq!(victims.pop(0), None);
        sound(&victims);
    }

    #[test]
    fn an_active_block_is_taken_only_when_nothing_else_is_there() {
        let victims = Victims::new(100, Policy::Workingset).unwrap();
        (0..5).for_each(|block| victims.push(block));
        assert!(victims.used(1, 3));
        assert!(victims.used(7, 3));
        assert_eq!((victims.len(), victims.active()), (6, 2));
        sound(&victims);
        assert_eq!(drain(&victims, 3), [0, 2, 3, 4, 1, 7]);
    }

    #[test]
    fn blocks_in_use_here_and_there_cool_active_ones_that_do_not_come_back() {
        let victims = Victims::new(100, Policy::Workingset).unwrap();
        (0..40).for_each(|block| assert!(victims.used(block, 40)));
        for _ in 0..150 {
            victims.pressed();
            if let (true, Some(block)) = (victims.len() > victims.active(), victims.pop(40)) {
                victims.written_out(block);
            }
        }
        assert_eq!(victims.active(), 0);
        sound(&victims);
    }

    #[test]
    fn without_the_policy_use_is_arrival() {
        let victims = Victims::new(100, Policy::Fifo).unwrap();
        victims.push(4);
        assert!(!victims.used(2, 3));
        victims.push(3);
        assert_eq!(drain(&victims, 3), [4, 2, 3]);
    }

    #[test]
    fn when_memory_shrinks_the_longest_active_blocks_come_down_again() {
        let victims = Victims::new(100, Policy::Workingset).unwrap();
        victims.push(50);
        for block in 0..6 {
            assert!(victims.used(block, 6));
        }
        victims.used(0, 6);
        assert_eq!(victims.pop(4), Some(50));
        assert_eq!(victims.active(), 4);
        sound(&victims);
        // 0 was touched since and had another round.
        assert_eq!(drain(&victims, 4), [1, 2, 3, 4, 5, 0]);
        sound(&victims);
    }

    #[test]
    fn a_full_active_queue_takes_a_block_only_for_another() {
        let victims = Victims::new(100, Policy::Workingset).unwrap();
        (0..3).for_each(|block| assert!(victims.used(block, 3)));
        let granted = (10..30).filter(|&block| victims.used(block, 3)).count();
        assert!((1..20).contains(&granted), "{granted}");
        assert_eq!(victims.active(), 3);
        assert_eq!(victims.len(), 23);
        sound(&victims);
    }
}
