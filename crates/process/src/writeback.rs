//! The writer: moves the oldest segments to a device while compressed pages
//! take more of the budget than they should, cleans the log, and moves segments
//! between fast and slow devices.

use std::sync::atomic::{AtomicU64, Ordering};

use vswap_platform::clock::now_ns;
use vswap_store::{Tiers, Workspace};
use vswap_units::Bytes;

use crate::engine::Engine;

/// Compressed pages below this are not worth a wait for a device.
const LEAST_POOL: u64 = 2 << 20;

/// A full device is asked again after this long: room on its disk comes and goes unseen.
const FULL_LASTS_NS: u64 = 500_000_000;

/// That no device takes more: until places are given back, or for a while.
#[derive(Default)]
pub(crate) struct DevicesFull {
    since_ns: AtomicU64,
    held_bytes: AtomicU64,
}

impl DevicesFull {
    pub(crate) fn note(&self, held_bytes: u64) {
        self.held_bytes.store(held_bytes, Ordering::Relaxed);
        self.since_ns.store(now_ns(), Ordering::Relaxed);
    }

    pub(crate) fn clear(&self) {
        self.since_ns.store(0, Ordering::Relaxed);
    }

    fn holds(&self, held_bytes: u64, now: u64) -> bool {
        let since = self.since_ns.load(Ordering::Relaxed);
        since != 0
            && now.saturating_sub(since) < FULL_LASTS_NS
            && held_bytes >= self.held_bytes.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// One step; false when there was nothing to do.
    pub(crate) fn write_back_step(&self) -> bool {
        let Some(mut worker) = self.workers.of_writer() else {
            return false;
        };
        let _inside = self.world.enter();
        let wanted = self.writeback_wanted.load(Ordering::Relaxed);
        if wanted > 0 {
            self.writeback_wanted.store(wanted - 1, Ordering::Relaxed);
        }
        if (wanted > 0 || self.pool_is_large()) && self.write_back_one() {
            return true;
        }
        if self.relieve_a_group() {
            return true;
        }
        self.clean_step(&mut worker.codec)
    }

    fn clean_step(&self, codec: &mut Workspace) -> bool {
        // Asked before: what changes meanwhile is for the next look.
        let traffic = self.layer.traffic_bytes();
        let cleaned = self.layer.clean(codec);
        if cleaned {
            self.room_event.signal();
        } else {
            self.holes.note_vain(traffic);
        }
        cleaned
    }

    /// Moves a segment between devices of different priority, when the writer has
    /// nothing more urgent; false when none should move now.
    pub(crate) fn migrate_step(&self, tiers: &mut Tiers) -> bool {
        let _inside = self.world.enter();
        self.layer.store().migrate_step(tiers, now_ns())
    }

    fn write_back_one(&self) -> bool {
        let written = self.layer.writeback_oldest(Bytes(0));
        match written {
            Ok(Some(_)) => self.devices_full.clear(),
            Ok(None) => {}
            Err(_) => self.devices_full.note(self.layer.store().device_bytes().0),
        }
        matches!(written, Ok(Some(_)))
    }

    /// Is there a device that takes more?
    pub(crate) fn device_takes_more(&self) -> bool {
        let store = self.layer.store();
        store.can_write_back() && !self.devices_full.holds(store.device_bytes().0, now_ns())
    }

    /// Is there a device that takes more, and something to write?
    pub(crate) fn can_write_back(&self) -> bool {
        self.device_takes_more() && self.layer.store().ram_bytes().0 > LEAST_POOL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_is_asked_again_when_places_came_back_or_after_a_while() {
        let full = DevicesFull::default();
        assert!(!full.holds(100, now_ns()));
        full.note(100);
        let since = full.since_ns.load(Ordering::Relaxed);
        assert!(full.holds(100, since + 1));
        assert!(!full.holds(99, since + 1));
        assert!(!full.holds(100, since + FULL_LASTS_NS));
        full.clear();
        assert!(!full.holds(100, since + 1));
    }
}
