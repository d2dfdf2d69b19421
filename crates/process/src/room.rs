//! Room for what a fault is about to bring in.
//!
//! **The argument.** A program that touches memory faster than it can be
//! compressed or written must wait, or the budget means nothing. It waits here,
//! before the fault has locked anything: reclaim needs block locks, a fork
//! needs everybody out, and neither may find a sleeper in the way. It waits as
//! long as something moves (a segment is written, the cleaner copies, pages go
//! out): a slow disk then slows the program down to its own speed, as it does
//! in the kernel. When nothing moves for [`STUCK_NS`], or it took [`MOST_NS`] in
//! all, the fault goes over the budget for once: late beats never, and a
//! process that is stuck is worse than one that is over by 64 KiB. Each wait
//! in vain halves the patience of those that follow, until one is not (memory
//! that cannot be moved would cost every fault the whole of it). Where reclaim
//! has found that nothing can be gained, patience is short, and faults that
//! follow do not wait at all until something has moved.
//!
//! **If this is wrong** (what moves gains nothing), a fault takes [`MOST_NS`].

use std::sync::atomic::Ordering;

use vswap_platform::clock::now_ns;
use vswap_units::BLOCK_PAGES;

use crate::engine::Engine;
use crate::evict::Patience;
use crate::names::Rests;
use crate::page_state::Tag;
use crate::worker::Worker;

const PAUSE_NS: u64 = 1_000_000;
const STUCK_NS: u64 = 400_000_000;
const STRAINED_STUCK_NS: u64 = 10_000_000;
const MOST_NS: u64 = 4_000_000_000;
/// How often patience is halved at most: to a millisecond and a half.
const MOST_HALVINGS: u32 = 8;
/// Pieces of room one fault makes by itself under the lock of its block, at most.
const TRIES: usize = 16;

/// How a wait for room goes.
struct Wait {
    began_ns: u64,
    moved_ns: u64,
    moved: u64,
}

impl Wait {
    fn new(moved: u64) -> Self {
        let now = now_ns();
        Self {
            began_ns: now,
            moved_ns: now,
            moved,
        }
    }

    /// Has nothing moved for `patience`, or has it taken too long in all?
    fn is_vain(&mut self, moved: u64, now: u64, patience: u64) -> bool {
        if moved != self.moved {
            (self.moved, self.moved_ns) = (moved, now);
        }
        now.saturating_sub(self.moved_ns) > patience || now.saturating_sub(self.began_ns) > MOST_NS
    }
}

impl Engine {
    /// Waits until a fault on `page` may bring its block's pages in. **Context**:
    /// no lock but the worker's, not inside `world`.
    pub(crate) fn wait_for_room(&self, worker: &mut Worker, page: usize) {
        if self.has_room(BLOCK_PAGES as u32) || !self.brings_pages(page) {
            return;
        }
        let mut wait = Wait::new(self.moved());
        while !self.has_room(BLOCK_PAGES as u32) {
            if self.waits_in_vain(&mut wait) {
                self.counters.over_budget_faults.inc();
                self.vain_waits.fetch_add(1, Ordering::Relaxed);
                return;
            }
            // Where nothing can be gained, one thread that finds that out is enough.
            if !self.is_strained() && self.make_some_room(worker, page / BLOCK_PAGES) {
                continue;
            }
            if worker.is_reclaimer {
                // Nobody to wait for.
                self.reclaim(worker);
                return;
            }
            let seen = self.room_event.seen();
            self.handlers.call();
            self.reclaim_event.signal();
            self.write_event.signal();
            self.room_event.wait_past(seen, PAUSE_NS);
        }
        self.vain_waits.store(0, Ordering::Relaxed);
    }

    fn waits_in_vain(&self, wait: &mut Wait) -> bool {
        let moved = self.moved();
        let strained = self.is_strained();
        if strained && self.vain_at.load(Ordering::Relaxed) == moved {
            return true;
        }
        let patience = if strained {
            STRAINED_STUCK_NS
        } else {
            STUCK_NS
        };
        let halvings = self.vain_waits.load(Ordering::Relaxed).min(MOST_HALVINGS);
        let vain = wait.is_vain(moved, now_ns(), patience >> halvings);
        if vain {
            self.vain_at.store(moved, Ordering::Relaxed);
        }
        vain
    }

    /// Will a fault there need fresh pages? A hint.
    fn brings_pages(&self, page: usize) -> bool {
        let state = self.region.state_hint(page);
        match state.tag() {
            Tag::Unknown | Tag::Empty => true,
            Tag::Swapped => state
                .name()
                .is_some_and(|name| self.layer.rests(name) != Rests::Frame),
            Tag::Resident | Tag::Freed | Tag::Poisoned | Tag::Foreign => false,
        }
    }

    /// What gives hope of room while it grows. Pages that go out do not where
    /// that was found to gain nothing, and what moves between devices never does.
    pub(crate) fn moved(&self) -> u64 {
        let store = self.layer.store().counters();
        let gained = if self.is_strained() {
            0
        } else {
            self.layer.gauges().swap_out_pages
        };
        let migrated = store.demoted_bytes.get() + store.promoted_bytes.get();
        store.device_written_bytes.get().saturating_sub(migrated)
            + store.cleaned_bytes.get()
            + self.counters.freed_dropped_pages.get()
            + gained
    }

    fn make_some_room(&self, worker: &mut Worker, faulting: usize) -> bool {
        let _inside = self.world.enter();
        let Some(run) = self.spare_run(worker, faulting) else {
            return false;
        };
        let gained = self.frames.present(run) != 0;
        self.empty_run(run);
        gained
    }

    /// A run with physical pages for a fault that found no room: a spare one,
    /// else the oldest cached one written out, else a victim taken and written
    /// out on the spot.
    pub(crate) fn spare_run(&self, worker: &mut Worker, faulting: usize) -> Option<u32> {
        if let Some(run) = self.frames.pop_spare() {
            return Some(run);
        }
        self.counters.direct_reclaims.inc();
        for _ in 0..4 {
            if let Some(run) = self.write_out_oldest(worker, Patience::Fault) {
                return Some(run);
            }
            let block = self.pop_victim()?;
            if block == faulting {
                self.queue_block(block);
                continue;
            }
            self.take_block(worker, block, Patience::Fault);
        }
        None
    }

    /// Gives pages back until `pages` more fit, as far as that goes without
    /// waiting: the fault holds the lock of block `faulting`, and was admitted.
    pub(crate) fn make_room(&self, worker: &mut Worker, pages: u32, faulting: usize) {
        for _ in 0..TRIES {
            if self.has_room(pages) {
                return;
            }
            let Some(run) = self.spare_run(worker, faulting) else {
                return;
            };
            self.empty_run(run);
        }
    }

    fn is_strained(&self) -> bool {
        (self.is_full() || self.strained_ns.load(Ordering::Relaxed) != 0) && !self.can_write_back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_vain_when_nothing_moves_and_never_lasts_for_ever() {
        let mut wait = Wait::new(7);
        let began = wait.began_ns;
        assert!(!wait.is_vain(7, began + 10, 10));
        assert!(wait.is_vain(7, began + 11, 10));
        assert!(!wait.is_vain(8, began + 11, 10));
        assert!(!wait.is_vain(8, began + 20, 10));
        assert!(wait.is_vain(9, began + MOST_NS + 1, u64::MAX));
    }
}
