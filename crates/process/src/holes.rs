//! When the cleaner is called.
//!
//! **The argument.** The writer looks for something to clean ten times a second
//! by itself. In that time a program at a limit can be refused room for
//! thousands of pages, which stay in memory, while holes enough for all of them
//! lie in the log. So who is refused calls it. A look walks the segment table,
//! and after one that gained nothing another gains something only when the log
//! has changed: it is called once objects of a segment's bytes were made or given
//! up, or, while nobody is refused, of a 16th of the log. A refusal that a device
//! can mend calls it at once.
//!
//! **If this is wrong** (the log changes, and cleaning never pays because it is
//! dense), the table is walked once for every segment that is written.

use std::sync::atomic::{AtomicU64, Ordering};

use vswap_space::GroupId;
use vswap_store::SEGMENT_BYTES;

use crate::engine::Engine;

/// While nobody is refused room, the part of the log that has to change.
const CHANGED_PART: u64 = 16;
const SEGMENT: u64 = SEGMENT_BYTES as u64;

/// The log's traffic when the cleaner last found nothing to gain.
#[derive(Default)]
pub(crate) struct Holes {
    vain_at: AtomicU64,
}

impl Holes {
    pub(crate) fn note_vain(&self, traffic: u64) {
        self.vain_at.store(traffic, Ordering::Relaxed);
    }

    fn may_be_there(&self, traffic: u64, by: u64) -> bool {
        traffic.saturating_sub(self.vain_at.load(Ordering::Relaxed)) >= by
    }
}

impl Engine {
    /// A page of this group found no room in the log: the writer makes some, if
    /// it can. **Context**: any locks; signal-safe.
    pub(crate) fn call_for_room(&self, group: GroupId) {
        let traffic = self.layer.traffic_bytes();
        if self.holes.may_be_there(traffic, SEGMENT) || self.can_be_relieved(group) {
            self.write_event.signal();
        }
    }

    /// Would a device take segments that stand against this group's limit?
    fn can_be_relieved(&self, group: GroupId) -> bool {
        let store = self.layer.store();
        self.device_takes_more()
            && store
                .groups()
                .refused_by(group)
                .is_some_and(|limiting| store.can_relieve(limiting))
    }

    /// At each tick: of a group that is stuck nothing is tried any more, so nobody
    /// is refused; and without a limit holes only make the log larger.
    pub(crate) fn cleaning_may_pay(&self) -> bool {
        let store = self.layer.store();
        let tree = store.groups();
        let waits = || tree.all().any(|group| tree.refused_by(group).is_some());
        let by = match self.groups.any() && waits() {
            true => SEGMENT,
            false => (store.ram_bytes().0 / CHANGED_PART).max(SEGMENT),
        };
        self.holes.may_be_there(self.layer.traffic_bytes(), by)
    }
}

#[cfg(test)]
mod tests;
