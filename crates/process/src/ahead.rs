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

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use vswap_platform::sync::Event;
use vswap_platform::thread;
use vswap_platform::uffd::Userfaultfd;
use vswap_space::GroupId;
use vswap_units::{BLOCK_PAGES, BLOCK_SIZE};

use crate::areas;
use crate::engine::Engine;
use crate::page_state::Tag;
use crate::region::{BlockGuard, span};
use crate::trace::Event as Traced;
use crate::worker::Worker;

/// Blocks of one window at most, and the part of the budget it may be.
const DEEPEST: usize = areas::WIDEST;
const PART: u64 = 256;
/// Requests that wait at a time; more replace the oldest ones.
const REQUESTS: usize = 16;

/// Blocks to bring in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Request {
    first: usize,
    count: usize,
    /// Never touched yet, rather than swapped out.
    fresh: bool,
}

/// Bits of a request's word below its first block: how many blocks, and what kind.
const COUNT_BITS: u32 = 8;
const FRESH: u64 = 1 << (COUNT_BITS - 1);

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
    fn every_second_one_first(self) -> impl Iterator<Item = usize> {
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
    asked: Event,
}

impl Ahead {
    fn ask(&self, request: Request) {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % REQUESTS;
        if let Some(place) = self.requests.get(index) {
            place.store(request.bits(), Ordering::Release);
            self.asked.signal();
        }
    }

    /// The request that has waited longest.
    fn take(&self) -> Option<Request> {
        let oldest = self.next.load(Ordering::Relaxed) % REQUESTS;
        let (newer, older) = self.requests.split_at_checked(oldest)?;
        let mut by_age = older.iter().chain(newer);
        by_age.find_map(|place| Request::from_bits(place.swap(0, Ordering::Acquire)))
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
                self.read_block_ahead(worker, &uffd, &mut guard);
            }
        }
    }

    /// Brings in what is out of a block.
    fn read_block_ahead(
        &self,
        worker: &mut Worker,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
    ) {
        let out = self.read_from_elsewhere(guard);
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
}
