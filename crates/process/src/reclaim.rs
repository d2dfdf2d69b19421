//! The background reclaimer: keeps what is held below the low watermark.
//!
//! Order of preference, cheapest first: freed runs the allocator keeps, spare
//! frames, the oldest cached run (compress), the next victim (move out). A
//! block moved out gives no memory back yet; it waits in the staging area for
//! its second chance, and the run it pushes out of there is compressed.

use std::sync::atomic::Ordering;

use vswap_platform::clock::now_ns;
use vswap_units::{BLOCK_PAGES, PAGE_SIZE};

use crate::engine::Engine;
use crate::evict::Patience;
use crate::worker::Worker;

/// Spare runs kept for faults at most (4 MiB): a page that is moved in costs a
/// third of one that the kernel allocates and copies, and giving it back to the
/// kernel first costs an interrupt on every CPU.
pub(crate) const SPARE_RUNS: usize = 64;
/// Steps between two looks at the kernel's count of this process (5 us each).
const STEPS_PER_SAMPLE: u32 = 16;
/// Kept pages taken from the run allocator at a time (4 MiB).
pub(crate) const TRIM_PAGES: u64 = 1024;
/// Steps before the reclaimer looks up: for requests, for the counters, and for
/// whether all this compressing gains anything.
const STEPS_PER_LOOK: u32 = 512;
/// Segments the writer is asked for at a time, and how long it is waited for.
const SEGMENTS_PER_CALL: u32 = 4;
const WRITER_PAUSE_NS: u64 = 2_000_000;
/// How long a reclaim that gained nothing is not tried again.
const STRAINED_REST_NS: u64 = 50_000_000;

/// What had been swapped out at the last look.
#[derive(Clone, Copy, Default)]
pub struct Progress {
    pages: u64,
    bytes: u64,
}

impl Engine {
    /// Reclaims towards the low watermark, for at most one look's worth of steps.
    pub(crate) fn reclaim(&self, worker: &mut Worker) {
        let before = self.swapped_out();
        let resting = self.rests_from_vain_work();
        let mut dry = false;
        for step in 0..STEPS_PER_LOOK {
            if step % STEPS_PER_SAMPLE == 0 {
                self.sample();
            }
            if dry || self.held() <= self.budget.low() || self.is_asked() {
                break;
            }
            dry = if resting {
                self.trim_kept(TRIM_PAGES) == 0
            } else {
                !self.reclaim_step(worker)
            };
        }
        self.sample();
        self.window.adapt(self.window_bounds());
        self.compact_if_cramped();
        let over = self.held() > self.budget.high();
        let nothing_gained = dry || !self.has_gained(before);
        if !over {
            self.strained_ns.store(0, Ordering::Relaxed);
            self.counters.full.set(0);
        } else if !resting && !self.is_asked() {
            let strained = nothing_gained && !self.can_write_back();
            let since = if strained { now_ns() } else { 0 };
            self.strained_ns.store(since, Ordering::Relaxed);
            if nothing_gained && !self.let_writer_help() {
                self.counters.full.set(1);
            }
        }
    }

    /// Has the last look just shown that nothing can be gained? Then only what
    /// the program frees is gathered for a moment: trying every page again and
    /// again would take the CPU from a program that has nowhere to go.
    fn rests_from_vain_work(&self) -> bool {
        let since = self.strained_ns.load(Ordering::Relaxed);
        since != 0 && now_ns().saturating_sub(since) < STRAINED_REST_NS && !self.device_takes_more()
    }

    /// Holes in the log are all that is left to gain.
    fn compact_if_cramped(&self) {
        let is_cramped = self.is_cramped();
        self.layer.store().set_ram_tight(is_cramped);
        if is_cramped {
            self.write_event.signal();
        }
    }

    fn swapped_out(&self) -> Progress {
        let now = self.layer.gauges();
        Progress {
            pages: now.swap_out_pages,
            bytes: now.swap_out_bytes,
        }
    }

    /// Was at least a quarter of what was swapped out since gained? Pages that
    /// do not compress take the room they give; only a device helps then.
    fn has_gained(&self, before: Progress) -> bool {
        let now = self.swapped_out();
        let pages = now.pages.saturating_sub(before.pages);
        let bytes = now.bytes.saturating_sub(before.bytes);
        bytes < pages * PAGE_SIZE as u64 / 4 * 3
    }

    /// Compressed pages in RAM can go to a device: wakes the writer and waits a moment.
    fn let_writer_help(&self) -> bool {
        if !self.can_write_back() {
            return false;
        }
        self.writeback_wanted
            .store(SEGMENTS_PER_CALL, Ordering::Relaxed);
        self.write_event.signal();
        self.reclaim_event.wait(WRITER_PAUSE_NS);
        true
    }

    /// One step; false when there was nothing to do.
    fn reclaim_step(&self, worker: &mut Worker) -> bool {
        if self.trim_kept(TRIM_PAGES) > 0 {
            return true;
        }
        let _inside = self.world.enter();
        let cached = self.frames.cached_runs();
        let beyond = (cached + 1).saturating_sub(self.window.runs(self.window_bounds()));
        if beyond > 0 {
            return self.write_out_and_keep(worker, beyond) || self.recycle_spare(worker);
        }
        match self.pop_victim() {
            Some(block) => {
                let count = 1 + self.pop_victims_after(block);
                self.take_blocks(worker, block, count) > 0 || self.victims_len() > 0
            }
            None => self.write_out_and_keep(worker, 1) || self.recycle_spare(worker),
        }
    }

    /// Writes the oldest cached run out, whose frames wait for faults; or where
    /// enough wait already, up to `most` runs, and their frames go.
    fn write_out_and_keep(&self, worker: &mut Worker, most: usize) -> bool {
        if self.frames.spare_runs() >= self.spare_target() {
            return self.recycle_spare(worker) | self.write_out_and_drop(worker, most);
        }
        let Some(run) = self.write_out_oldest(worker, Patience::Background) else {
            return false;
        };
        self.frames.put(run);
        self.room_event.signal();
        true
    }

    /// Spare runs worth keeping: a 64th of the budget.
    fn spare_target(&self) -> usize {
        (self.budget.ram() as usize / 64 / (BLOCK_PAGES * PAGE_SIZE)).clamp(2, SPARE_RUNS)
    }

    pub(crate) fn drop_spare(&self) -> bool {
        let Some(run) = self.frames.pop_spare() else {
            return false;
        };
        let had = self.frames.present(run);
        self.empty_run(run);
        had != 0
    }

    /// Has the last reclaim found nothing more to move out?
    pub fn is_full(&self) -> bool {
        self.counters.full.get() != 0
    }
}
