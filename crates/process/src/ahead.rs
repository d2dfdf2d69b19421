//! Blocks read ahead of a program that goes through its memory in order.
//!
//! **The argument.** A fault costs the program its own wake-up and the time to
//! decode 16 pages. A program that goes on to the next block will fault there
//! too, and meanwhile another CPU has nothing to do. So what a stream of faults
//! is going to need (`streams`), or an area in which they gather (`areas`), is
//! brought in by a thread of its own: the program waits once for many blocks, and
//! the waiting for devices overlaps with its work. The same goes for memory that
//! is touched for the first time: its zeros are put there ahead. Nobody waits for
//! what is read ahead, so nothing is forced for its sake: no room is made, no
//! lock that is busy is waited for, no page is given up because it could not be
//! read. The next fault finds out.
//!
//! **If this is wrong** (the program stops short), one window of pages (a 256th
//! of the budget, [`DEEPEST`] blocks at most) has displaced others.

mod requests;

use std::sync::Arc;

use vswap_platform::thread;
use vswap_platform::uffd::Userfaultfd;
use vswap_space::GroupId;
use vswap_units::{BLOCK_PAGES, BLOCK_SIZE};

use crate::areas;
use crate::engine::Engine;
use crate::names::Rests;
use crate::page_state::Tag;
use crate::region::{BlockGuard, span};
use crate::trace::Event as Traced;
use crate::worker::Worker;

pub(crate) use requests::Ahead;
use requests::Request;

/// Blocks of one window at most, and the part of the budget it may be.
const DEEPEST: usize = areas::WIDEST;
const PART: u64 = 256;
/// Blocks after the one being read that a fault looks at for one to read itself.
const LOOKED_AT: usize = 2;

/// The thread.
pub(crate) fn ahead_main(engine: Arc<Engine>) {
    let Some(mut worker) = engine.workers.of_ahead() else {
        return;
    };
    // Without, it begins later.
    let _ = thread::ask_for_short_slices();
    while !engine.is_stopping() {
        let seen = engine.ahead.asked.seen();
        match engine.ahead.take() {
            Some(request) if request.fresh => engine.fill_ahead(&worker, request),
            Some(request) => engine.read_ahead(&mut worker, request),
            None => {
                engine.ahead.asked.wait_past(seen, u64::MAX);
            }
        }
    }
}

impl Engine {
    /// Blocks that may be brought in ahead at a time, of a group's memory.
    fn deepest_window(&self, group: GroupId) -> usize {
        if !self.config.read_ahead {
            return 1;
        }
        let limit = self.groups.ram_max(group).unwrap_or(u64::MAX);
        let most = self.budget.ram().min(limit) / PART / BLOCK_SIZE as u64;
        (most as usize).clamp(1, DEEPEST)
    }

    /// A fault on the swapped page: asks for what is likely to be touched next,
    /// and says how many pages of its block come with it.
    pub(crate) fn look_ahead(&self, guard: &BlockGuard<'_>, slot: usize) -> usize {
        let (block, deepest) = (guard.index(), self.deepest_window(guard.group()));
        let reach = self.streams.reach(block * BLOCK_PAGES + slot, deepest);
        if reach.continues {
            self.ask_ahead(reach.ahead_from, reach.ahead_blocks, false);
        } else if deepest > 1 {
            let blocks = 1 << deepest.ilog2();
            if let Some(first) = self.areas.note(block, blocks) {
                self.ask_ahead(first, blocks, false);
            }
        }
        reach.around
    }

    /// A fault on a page that was never touched: asks for zeros where a stream goes on.
    pub(crate) fn look_ahead_afresh(&self, guard: &BlockGuard<'_>, slot: usize) {
        let (block, deepest) = (guard.index(), self.deepest_window(guard.group()));
        let reach = self
            .fresh_streams
            .reach(block * BLOCK_PAGES + slot, deepest);
        self.ask_ahead(reach.ahead_from, reach.ahead_blocks, true);
    }

    fn ask_ahead(&self, first: usize, count: usize, fresh: bool) {
        if count > 0 {
            self.ahead.ask(Request {
                first,
                count,
                fresh,
            });
        }
    }

    /// May the block that is next be brought in now?
    fn may_go_on(&self, block: usize) -> bool {
        !self.is_stopping()
            && self.has_room(BLOCK_PAGES as u32)
            && self.group_has_room(self.region.group_of(block))
    }

    fn read_ahead(&self, worker: &mut Worker, request: Request) {
        let Some(uffd) = worker.uffd.clone() else {
            return;
        };
        for block in request.every_second_one_first() {
            if !self.may_go_on(block) {
                return;
            }
            let _inside = self.world.enter();
            if let Some(mut guard) = self.region.try_lock(block) {
                self.ahead.set_reading(request, Some(block));
                let out = self.read_from_elsewhere(&guard);
                self.read_block_ahead(worker, &uffd, &mut guard, out);
                self.ahead.set_reading(request, None);
            }
        }
    }

    /// For a fault on a page that is just being read ahead: brings in a block that
    /// is to be read after it, as far as that takes no I/O, instead of waiting. A
    /// program as fast as its read-ahead has both CPUs decoding that way.
    pub(crate) fn help_read_ahead(&self, worker: &mut Worker, uffd: &Userfaultfd, page: usize) {
        let Some(after) = self.ahead.after(page / BLOCK_PAGES) else {
            return;
        };
        let group = self.region.group_of(page / BLOCK_PAGES);
        let reach = self.streams.reach(page, self.deepest_window(group));
        self.ask_ahead(reach.ahead_from, reach.ahead_blocks, false);
        for block in after.take(LOOKED_AT) {
            if !self.may_go_on(block) {
                return;
            }
            let Some(mut guard) = self.region.try_lock(block) else {
                continue;
            };
            let out = self.resting(&guard, |rests| rests == Rests::Ram);
            if out != 0 {
                return self.read_block_ahead(worker, uffd, &mut guard, out);
            }
        }
    }

    /// Brings in the pages `out` of a block.
    fn read_block_ahead(
        &self,
        worker: &mut Worker,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        out: u16,
    ) {
        if out == 0 {
            return;
        }
        let run = self.frames.pop_spare();
        let back = self.bring_back(worker, uffd, guard, run, out);
        self.counters
            .ahead_swap_in_pages
            .add(u64::from(back.count_ones()));
    }

    fn fill_ahead(&self, worker: &Worker, request: Request) {
        let Some(uffd) = worker.uffd.as_deref() else {
            return;
        };
        for block in request.first..request.first + request.count {
            // While this lock is held, what is handed out stays so. The program may want it more.
            let Some(runs) = self.runs.try_lock() else {
                return;
            };
            let Some(handed_out) = runs.find((block * BLOCK_PAGES) as u64) else {
                return;
            };
            if !self.may_go_on(block) {
                return;
            }
            let _inside = self.world.enter();
            if let Some(mut guard) = self.region.try_lock(block) {
                let end = (handed_out.start + handed_out.pages) as usize - block * BLOCK_PAGES;
                self.fill_block_ahead(uffd, &mut guard, span(0, end.min(BLOCK_PAGES)));
            }
        }
    }

    /// Puts zeros where a block has none yet.
    fn fill_block_ahead(&self, uffd: &Userfaultfd, guard: &mut BlockGuard<'_>, within: u16) {
        self.settle(guard);
        let empty = guard.tagged(Tag::Empty) & within;
        if empty == 0 {
            return;
        }
        let began = self.trace.begin();
        let slot = empty.trailing_zeros() as usize;
        let spare = self.frames.pop_spare();
        let moved = spare.map_or(0, |run| self.move_zeros(uffd, guard, run, empty));
        let copied = self.copy_zeros(uffd, guard, empty & !moved);
        let filled = moved | copied.done | copied.occupied;
        self.book_first_touch(guard, filled);
        let put = u64::from(filled.count_ones());
        self.counters.ahead_zero_fill_pages.add(put);
        let page = guard.index() * BLOCK_PAGES + slot;
        self.trace.end(began, Traced::ZeroFill, page as u64);
    }
}
