//! Frames whose pages nobody needs become memory of the log, where the kernel
//! can move pages (argument in `vswap_store::ram::filling`).
//!
//! Only what the reclaimer empties: a fault that needs room needs it now.

use std::sync::atomic::Ordering;

use vswap_units::PAGE_SIZE;

use crate::engine::Engine;
use crate::region::{runs_of, span};
use crate::worker::Worker;

impl Engine {
    /// Gives owned runs' pages to the log as far as it takes them, else to the kernel.
    pub(crate) fn recycle_runs(&self, worker: &Worker, runs: &mut [u32]) {
        for &run in &*runs {
            for (first, count) in runs_of(self.frames.present(run)) {
                if self.give_to_log(worker, run, (first, count)) < count {
                    break;
                }
            }
        }
        runs.sort_unstable();
        let given_back = self.frames.discard_all(runs);
        self.budget.add_pages(-(given_back as i64));
        runs.iter().for_each(|run| self.frames.put(*run));
    }

    /// The same with a spare run: false when there is none, or it was empty.
    pub(crate) fn recycle_spare(&self, worker: &Worker) -> bool {
        let Some(run) = self.frames.pop_spare() else {
            return false;
        };
        let had = self.frames.present(run);
        self.recycle_runs(worker, &mut [run]);
        had != 0
    }

    fn give_to_log(&self, worker: &Worker, run: u32, (first, count): (usize, usize)) -> usize {
        let takes = self.log_takes_frames.load(Ordering::Relaxed);
        let Some(uffd) = worker.uffd.as_deref().filter(|_| takes) else {
            return 0;
        };
        let frame = self.frames.addr(run, first);
        let given = self.layer.store().fill_ram(count, |place, pages| {
            let moved = uffd.move_pages(place, frame, pages * PAGE_SIZE, false);
            moved.done / PAGE_SIZE
        });
        self.frames.set_absent(run, span(first, given));
        given
    }
}
