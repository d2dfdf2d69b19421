//! The writer: moves the oldest segments to a device while compressed pages
//! take more of the budget than they should, and cleans the log.

use std::sync::atomic::Ordering;

use vswap_units::Bytes;

use crate::engine::Engine;

/// Compressed pages below this are not worth a wait for a device.
const LEAST_POOL: u64 = 2 << 20;

impl Engine {
    /// One step; false when there was nothing to do.
    pub(crate) fn write_back_step(&self) -> bool {
        let _inside = self.world.enter();
        let wanted = self.writeback_wanted.load(Ordering::Relaxed);
        if wanted > 0 {
            self.writeback_wanted.store(wanted - 1, Ordering::Relaxed);
        }
        if (wanted > 0 || self.pool_is_large()) && self.write_back_one() {
            return true;
        }
        let Some(mut worker) = self.workers.take(self.workers.len() - 1) else {
            return false;
        };
        self.layer.clean(&mut worker.codec).objects > 0
    }

    fn write_back_one(&self) -> bool {
        let written = self.layer.writeback_oldest(Bytes(0));
        self.devices_full.store(written.is_err(), Ordering::Relaxed);
        matches!(written, Ok(Some(_)))
    }

    /// Is there a device that takes more, and something to write?
    pub(crate) fn can_write_back(&self) -> bool {
        let store = self.layer.store();
        store.can_write_back()
            && !self.devices_full.load(Ordering::Relaxed)
            && store.ram_bytes().0 > LEAST_POOL
    }
}
