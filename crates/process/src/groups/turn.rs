//! Whose victim is next when room is needed for all: each group in turn, for as
//! many blocks as its queue is long, in portions.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use vswap_space::GroupId;
use vswap_store::MAX_GROUPS;

use crate::engine::Engine;
use crate::together::TOGETHER;
use crate::victims::Victims;

/// A turn takes this part of a queue.
const PORTION: usize = 32;
/// Blocks in the wrong queue put right per call at most.
const STRAYS: usize = 64;

/// Whose turn it is (high half), and for how many blocks more. A hint: two
/// threads that change it at once cost somebody a turn.
#[derive(Default)]
pub struct Turn(AtomicU32);

impl Engine {
    pub(crate) fn queue_of(&self, group: GroupId) -> &Victims {
        match group {
            GroupId::ROOT => &self.victims,
            _ => self.groups.queue(group).unwrap_or(&self.victims),
        }
    }

    /// Queues a block as a victim of the group that pays for it.
    pub(crate) fn queue_block(&self, block: usize) {
        self.queue_of(self.region.group_of(block)).push(block);
    }

    /// The next victim of anybody but groups without a way out.
    pub(crate) fn pop_victim(&self) -> Option<usize> {
        if !self.groups.any() {
            return self.victims.pop(self.most_active(GroupId::ROOT));
        }
        for _ in 0..=MAX_GROUPS {
            let word = self.groups.turn.0.load(Relaxed);
            let (at, left) = ((word >> 16) as usize, word & 0xffff);
            let group = GroupId::new(at).unwrap_or(GroupId::ROOT);
            if left > 0
                && !self.is_stuck(group)
                && let Some(block) = self.pop_victim_of(group)
            {
                self.groups.turn.0.store(word - 1, Relaxed);
                return Some(block);
            }
            self.next_turn(at);
        }
        None
    }

    /// Takes the victims that lie right after `block`, as far as they are next
    /// anyway; returns how many. (Groups take turns by the block.)
    pub(crate) fn pop_victims_after(&self, block: usize) -> usize {
        let most = if self.groups.any() { 1 } else { TOGETHER };
        (1..most)
            .take_while(|by| self.victims.pop_if_next(block + by))
            .count()
    }

    fn next_turn(&self, at: usize) {
        let next = (at + 1) % MAX_GROUPS;
        let len = GroupId::new(next).map_or(0, |group| match group {
            GroupId::ROOT => self.victims.len(),
            _ => self.groups.queue(group).map_or(0, Victims::len),
        });
        let portion = len.div_ceil(PORTION).min(0xffff) as u32;
        let word = (next as u32) << 16 | portion;
        self.groups.turn.0.store(word, Relaxed);
    }

    /// The next victim of one group. Blocks that another group has got since
    /// they were queued go where they belong.
    pub(crate) fn pop_victim_of(&self, group: GroupId) -> Option<usize> {
        let queue = match group {
            GroupId::ROOT => &self.victims,
            _ => self.groups.queue(group)?,
        };
        for _ in 0..STRAYS {
            let block = queue.pop(self.most_active(group))?;
            if self.region.group_of(block) == group {
                return Some(block);
            }
            self.queue_block(block);
        }
        None
    }

    /// Every queue there is.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &Victims> {
        let others = (1..MAX_GROUPS).filter_map(GroupId::new);
        let others = others.filter_map(|group| self.groups.queue(group));
        core::iter::once(&self.victims).chain(others)
    }

    /// Blocks that wait to be taken, of all groups.
    pub(crate) fn victims_len(&self) -> usize {
        self.queues().map(Victims::len).sum()
    }
}
