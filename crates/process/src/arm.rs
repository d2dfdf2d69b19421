//! Registering late: far from the budget a managed range is ordinary memory.
//!
//! The range is registered when what has been handed out plus what is not
//! managed reaches the low watermark. Handed-out bytes bound what first touch
//! can reach before the next look, and first touch runs at gigabytes a second.
//!
//! **Pins:** arming happens under the run allocator's lock, which every
//! operation that changes an unregistered range holds too; so no operation
//! that began unregistered ends registered.

use std::sync::atomic::Ordering;

use vswap_platform::pagemap;
use vswap_platform::uffd::Userfaultfd;
use vswap_units::{BLOCK_SIZE, PAGE_SIZE};

use crate::budget::Scope;
use crate::engine::Engine;

impl Engine {
    /// Are faults and reclaim on?
    pub fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Acquire)
    }

    /// Would handing out `more` bytes bring the program near its budget?
    pub(crate) fn is_near_budget(&self, more: u64) -> bool {
        self.counters.handed_out_bytes.get() + more + self.charged_unmanaged() >= self.budget.low()
    }

    /// What is not managed, as far as the budget bounds it.
    pub(crate) fn charged_unmanaged(&self) -> u64 {
        match self.budget.scope() {
            Scope::Process => self.counters.unmanaged_bytes.get(),
            Scope::Space => 0,
        }
    }

    /// Registers the region and the frames, and queues what is present for
    /// reclaim. Called by an engine thread (they own the userfaultfd) while the
    /// asking thread holds the run allocator's lock.
    pub(crate) fn arm(&self, uffd: &Userfaultfd) -> bool {
        if self.is_armed() {
            return true;
        }
        let _ = vswap_platform::map::no_huge_pages(self.region.base(), self.region.bytes());
        if !self.register(uffd) {
            return false;
        }
        self.queue_present();
        self.armed.store(true, Ordering::Release);
        self.counters.armed.set(1);
        true
    }

    /// Registers region and frames. Absent frames fault nobody: they are only
    /// written when present. The log is registered so that frames may become
    /// part of it (`recycle.rs`); its missing pages stay the kernel's.
    pub(crate) fn register(&self, uffd: &Userfaultfd) -> bool {
        let frames = !uffd.has_move()
            || uffd
                .register(self.frames.base(), self.frames.bytes())
                .is_ok();
        let (log, log_bytes) = self.layer.store().ram_area();
        let moves = uffd.has_move() && uffd.register_as_target(log, log_bytes).is_ok();
        self.log_takes_frames.store(moves, Ordering::Relaxed);
        frames
            && uffd
                .register(self.region.base(), self.region.bytes())
                .is_ok()
    }

    /// Counts and queues the blocks that hold pages already. States stay
    /// "unknown" until a fault or reclaim looks at the block.
    fn queue_present(&self) {
        let mut pages = 0;
        let base = self.region.base();
        let mut queue = |start: usize, end: usize| {
            pages += (end - start) / PAGE_SIZE;
            for block in (start - base) / BLOCK_SIZE..=(end - 1 - base) / BLOCK_SIZE {
                self.queue_block(block);
            }
        };
        let used = self.high_water_bytes();
        let _ = pagemap::scan_present(base, used, &mut queue);
        self.counters.resident_pages.set(pages as u64);
    }
}
