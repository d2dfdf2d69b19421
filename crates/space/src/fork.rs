//! Around a fork: nothing of this layer half done in the child.
//!
//! Prepare shuts the gate, waits until nobody holds a pin, then takes the lock of every cluster. Only then is every descriptor,
//! count and bitmap whole; then the store does the same. The caller holds the locks of pages already, since threads that wait at
//! the gate may hold some.

use crate::descriptor::Word;
use crate::entry::{CLUSTER_ENTRIES, EntryId};
use crate::layer::SwapLayer;
use core::sync::atomic::{Ordering::SeqCst, fence};
use vswap_platform::clock;

impl SwapLayer {
    /// Before the fork. No pin is held by this thread.
    pub fn fork_prepare(&self) {
        self.gate.close();
        self.wait_for_pins(u64::MAX);
        self.allocator.lock_for_fork();
        if let Some(sharing) = &self.sharing {
            sharing.table.lock_for_fork();
        }
        self.store.fork_prepare();
    }

    /// After the fork, in the parent; `forked`: there is a child.
    pub fn fork_parent(&self, forked: bool) {
        self.store.fork_parent(forked);
        if let Some(sharing) = &self.sharing {
            sharing.table.unlock_after_fork();
        }
        self.allocator.unlock_after_fork();
        self.gate.open();
    }

    /// After the fork, in the child, which has one thread.
    pub fn fork_child(&self) {
        self.store.fork_child();
        if let Some(sharing) = &self.sharing {
            sharing.table.after_fork_in_child();
        }
        self.allocator.unlock_after_fork();
        self.clear_passing_pins();
        self.allocator
            .forget_currents(&self.workers, self.store.groups());
        self.allocator.relist_all(&self.table);
        for event in &self.parking {
            event.after_fork_in_child();
        }
        self.gate.open_in_child();
    }

    /// Waits, with the gate shut, until no entry is pinned; at most so long. True if so.
    pub(crate) fn wait_for_pins(&self, timeout_ns: u64) -> bool {
        let end = clock::now_ns().saturating_add(timeout_ns);
        // The gate is shut before the first look: see `gate`.
        fence(SeqCst);
        // A thread with a pin may take more, behind our back: only a whole walk without one counts.
        while self.pinned_entries().next().is_some() {
            if clock::now_ns() > end {
                return false;
            }
            self.rest();
        }
        true
    }

    /// Sleeps for a moment: whoever holds a pin does not know that we wait.
    pub(crate) fn rest(&self) {
        const MOMENT_NS: u64 = 50_000;
        if let Some(event) = self.parking.first() {
            event.wait(MOMENT_NS);
        }
    }

    /// A thread of the parent may have had its pin bit in for the moment between taking it and finding the gate shut. Such a
    /// thread changed nothing.
    fn clear_passing_pins(&self) {
        for entry in self.pinned_entries() {
            if let Some(cell) = self.table.cell(entry) {
                let word = Word::from_bits(cell.load(SeqCst));
                cell.store(word.unpinned().bits(), SeqCst);
            }
        }
    }

    pub(crate) fn pinned_entries(&self) -> impl Iterator<Item = EntryId> + '_ {
        self.allocator.inhabited().flat_map(move |cluster| {
            (0..CLUSTER_ENTRIES).filter_map(move |offset| {
                let entry = EntryId::from_parts(cluster, offset)?;
                self.table.load(entry).is_pinned().then_some(entry)
            })
        })
    }
}
