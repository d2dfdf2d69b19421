//! Fork: the child gets an engine of its own.
//!
//! The child has a copy of the address space, no engine threads, and no
//! userfaultfd: the parent's acts on the parent, and is in the engine's
//! private descriptor table, so the child never sees it. Between the fork and
//! [`child`] nothing may touch a page that is out: it would read zeros.
//!
//! Order in `prepare`: registry, clients, names of groups, run allocator, asking, world (waits until no
//! operation is inside, so no block is locked), the layers below, the arena.

use std::sync::Arc;

use vswap_platform::{arena, loader, log, pagemap, signal, stdio, thread};
use vswap_units::{BLOCK_PAGES, CounterKind, PAGE_SHIFT, PAGE_SIZE};

use crate::config::Faults;
use crate::delivery::{Delivery, open_userfaultfd};
use crate::engine::Engine;
use crate::page_state::Tag;
use crate::region::{slots, span};
use crate::registry;

/// Bytes of a stdio stream the C library touches in the child before our handler runs.
const STREAM_BYTES: usize = 512;
/// Pages whose presence is asked for at a time.
const PRESENCE_PAGES: usize = 4096;
/// How much of the forking thread's stack may be touched meanwhile.
const STACK_BYTES: usize = 64 << 10;

/// Before the fork, in the forking thread.
pub fn prepare() {
    for engine in registry::all() {
        engine.keep_for_fork(true);
    }
    for engine in registry::lock_for_fork() {
        // The child reads places on devices through descriptors of this table.
        let _ = engine.layer.store().device_fds();
        engine.control.lock_for_fork();
        engine.groups.lock_for_fork();
        engine.runs.lock_for_fork();
        engine.desk.lock_for_fork();
        engine.world.close();
        engine.settle_all();
        engine.layer.fork_prepare();
    }
    arena::fork_lock();
}

/// After the fork, in the parent.
pub fn parent() {
    arena::fork_unlock();
    for engine in registry::locked_for_fork() {
        engine.layer.fork_parent(true);
        engine.world.open();
        engine.desk.unlock_after_fork();
        engine.runs.unlock_after_fork();
        engine.groups.unlock_after_fork();
        engine.control.unlock_after_fork();
    }
    registry::unlock_after_fork();
    for engine in registry::all() {
        engine.keep_for_fork(false);
    }
}

/// After the fork, in the child, before the program runs on.
pub fn child() {
    arena::fork_unlock();
    vswap_platform::tls::after_fork_in_child();
    for engine in registry::locked_for_fork() {
        engine.layer.fork_child();
        engine.workers.reset_in_child();
        engine.handles.reset_in_child();
        engine.handlers.reset_in_child();
        engine.ahead.reset_in_child();
        engine.control.unlock_after_fork();
        engine.control.reset_in_child();
        engine.reclaim_event.after_fork_in_child();
        engine.write_event.after_fork_in_child();
        engine.world.open();
        engine.desk.reset_in_child();
        engine.board.reset_in_child();
        engine.runs.unlock_after_fork();
        engine.groups.unlock_after_fork();
    }
    registry::unlock_after_fork();
    for engine in registry::all() {
        if let Err(reason) = engine.live_again() {
            log::say(&[
                "a forked child cannot go on without its swapped memory: ",
                &reason,
            ]);
            signal::die();
        }
        engine.keep_for_fork(false);
    }
}

impl Engine {
    /// What the C library touches between the fork and the time our threads run stays in memory.
    fn keep_for_fork(&self, keep: bool) {
        let each = |addr: usize, len: usize| {
            if self.owns(addr) && self.owns(addr + len) {
                let first = addr & !(PAGE_SIZE - 1);
                let len = (addr + len - first).next_multiple_of(PAGE_SIZE);
                let _ = if keep {
                    self.pin(first, len)
                } else {
                    self.unpin(first, len)
                };
            }
        };
        stdio::each_stream(&mut |stream| each(stream, STREAM_BYTES));
        // For starting the child's engine threads: until they run nobody serves its faults.
        loader::each_record_with_tls(&mut |record| each(record, loader::RECORD_BYTES));
        let here = stdio::stack_pointer();
        each(here.saturating_sub(STACK_BYTES), STACK_BYTES + PAGE_SIZE);
    }

    /// In the child: a userfaultfd, registrations, threads, counters of its own.
    fn live_again(self: &Arc<Self>) -> Result<(), String> {
        self.reset_counts();
        if let Some(tree) = &self.tree {
            tree.renew();
        }
        self.trace.renew_recording();
        let faults = match self.delivery() {
            Delivery::Thread => Faults::Thread,
            Delivery::Signal => Faults::Signal,
        };
        let (_, uffd) = open_userfaultfd(faults).map_err(|error| error.to_string())?;
        if self.is_armed() && !self.register(&uffd) {
            return Err("its memory cannot be registered".into());
        }
        self.forget_zero_pages();
        self.set_private_fds(self.layer.store().device_fds());
        self.adopt(uffd);
        let old = std::mem::take(&mut *self.handles.lock());
        old.into_iter().for_each(thread::Thread::gone_after_fork);
        self.bring_up().map_err(|error| error.to_string())
    }

    /// From here on every state says whether its page is there, in the child too.
    fn settle_all(&self) {
        if self.is_armed() {
            let pages = self.high_water_bytes() >> PAGE_SHIFT;
            self.each_block(0, pages, |guard, _| self.settle(guard));
        }
    }

    /// A mapping that was only ever read holds nothing but the kernel's zero
    /// page, and the kernel copies no page tables of such a mapping. So what is
    /// present in the parent and absent in its child read zeros, and does again
    /// when it is touched: it is empty, not lost.
    fn forget_zero_pages(&self) {
        if !self.is_armed() {
            return;
        }
        let pages = self.high_water_bytes() >> PAGE_SHIFT;
        let mut presence = [0u8; PRESENCE_PAGES];
        for first in (0..pages).step_by(PRESENCE_PAGES) {
            let count = (pages - first).min(PRESENCE_PAGES);
            let Some(known) = presence.get_mut(..count) else {
                return;
            };
            if pagemap::holding(self.region.addr_of(first), count * PAGE_SIZE, known).is_ok() {
                self.forget_absent(first, known);
            }
        }
    }

    fn forget_absent(&self, first: usize, presence: &[u8]) {
        self.each_block(first, presence.len(), |guard, mask| {
            let start = guard.index() * BLOCK_PAGES;
            let absent = |slot: &usize| {
                (start + slot)
                    .checked_sub(first)
                    .and_then(|page| presence.get(page))
                    .is_some_and(|page| page & 1 == 0)
            };
            let there = guard.mask(|state| matches!(state.tag(), Tag::Resident | Tag::Freed));
            let gone = slots(there & mask)
                .filter(absent)
                .fold(0, |gone, slot| gone | span(slot, 1));
            slots(gone).for_each(|slot| guard.retag(slot, Tag::Empty));
            self.pages_went(guard, gone.count_ones());
        });
    }

    /// What the parent did before is the parent's.
    fn reset_counts(&self) {
        for (info, counter) in self.counters.iter() {
            if info.kind == CounterKind::Counter {
                counter.set(0);
            }
        }
        self.latency.reset();
    }
}
