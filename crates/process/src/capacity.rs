//! How much of the program's memory fits, here and on the devices.
//!
//! **The argument.** Memory that is handed out cannot be refused any more when it
//! is touched, so an allocation has to be refused while what is there still fits
//! with room to work in. RAM is three things: what cannot be moved (unmanaged
//! memory, frames), a working set of resident pages, and the log. With the log in
//! all of it a program goes on, a few pages at a time, and never gets anywhere;
//! so an eighth of the budget is never promised to the log. How well pages compress
//! is judged by those that are swapped out now: what was swapped out once and is
//! freed says nothing about what has to fit.
//!
//! **If this is wrong** (resident pages compress worse than swapped ones, or the
//! program overwrites what it has with worse), it has less room to work in than
//! an eighth and becomes slow; (they compress better) it is refused memory that
//! would have fitted, and the report says what budget it takes.

use vswap_units::PAGE_SHIFT;

use crate::engine::Engine;

/// The share of the log's bytes that live: as the cleaner keeps it in RAM, and
/// as it can be kept on a device without reading and writing it all the time.
const LOG_PERCENT: u64 = 85;
const DEVICE_PERCENT: u64 = 75;
/// This part of the budget is for resident pages.
const RESIDENT_PART: u64 = 8;
/// Pages whose compression tells something (16 MiB).
const TELLING_PAGES: u64 = 4096;
/// Nothing counts as compressing better than this.
const MOST_PERCENT: u64 = 10_000;

/// Pages, and the bytes they come to.
#[derive(Clone, Copy)]
struct Shrunk {
    pages: u64,
    bytes: u64,
}

impl Shrunk {
    /// Bytes of pages that `percent` of 100 stored bytes hold.
    fn held_by(self, percent: u64) -> u64 {
        ((self.pages << PAGE_SHIFT) * percent / self.bytes.max(1)).min(MOST_PERCENT)
    }
}

impl Engine {
    /// Bytes of the program's that are held somewhere now.
    pub(crate) fn data_bytes(&self) -> u64 {
        let pages = self.counters.resident_pages.get() + self.counters.swapped_pages.get();
        (pages << PAGE_SHIFT).min(self.counters.handed_out_bytes.get())
    }

    /// How many bytes of the program's fit in RAM and on the devices. `None` while
    /// too little has been swapped out to tell.
    pub(crate) fn capacity(&self) -> Option<u64> {
        let shrunk = self.shrinkage()?;
        let aside = self.charged_unmanaged() + (self.frames.present_pages() << PAGE_SHIFT);
        let high = self.budget.high();
        let resident = (high / RESIDENT_PART).min(high.saturating_sub(aside));
        let log = high.saturating_sub(aside + resident);
        let slots = self.layer.store().slots().capacity() << PAGE_SHIFT;
        let in_log = log.saturating_mul(shrunk.held_by(LOG_PERCENT).max(100));
        let on_devices = self
            .device_room()
            .saturating_mul(shrunk.held_by(DEVICE_PERCENT));
        Some(resident + slots + (in_log + on_devices) / 100)
    }

    /// Bytes of RAM that segments coming back from a device could have: what is free, and what is gained when
    /// resident pages are compressed, until only a working set of them is left.
    pub(crate) fn room_for_segments(&self) -> u64 {
        let high = self.budget.high();
        let free = high.saturating_sub(self.held());
        let resident = self.counters.resident_pages.get() << PAGE_SHIFT;
        let spare = resident.saturating_sub(high / RESIDENT_PART);
        let in_log = spare * 100 / self.shrunk().held_by(LOG_PERCENT).max(100);
        free + (spare - in_log)
    }

    /// [`Engine::shrunk`]; `None` while it tells too little.
    fn shrinkage(&self) -> Option<Shrunk> {
        Some(self.shrunk()).filter(|shrunk| shrunk.pages >= TELLING_PAGES)
    }

    /// What pages come to, by those that are swapped out, else by those that were.
    fn shrunk(&self) -> Shrunk {
        let now = self.layer.gauges();
        // The same page may be tried, and stay, many times.
        let rejected = self.counters.rejected_pages.get();
        let rejected = rejected.min(self.counters.resident_pages.get());
        let held = Shrunk {
            pages: now.stored_pages + now.same_filled_pages + now.slot_pages + rejected,
            bytes: now.stored_bytes + ((now.slot_pages + rejected) << PAGE_SHIFT),
        };
        let ever = Shrunk {
            pages: now.swap_out_pages + rejected,
            bytes: now.swap_out_bytes + ((now.swap_out_slot_pages + rejected) << PAGE_SHIFT),
        };
        if held.pages >= TELLING_PAGES {
            held
        } else {
            ever
        }
    }

    /// How much smaller pages are; `None` while too few are swapped out.
    pub(crate) fn ratio_percent(&self) -> Option<u64> {
        let shrunk = self.shrinkage()?;
        Some(shrunk.held_by(100).max(100))
    }

    /// Is there too little left to work in, and no device to give more?
    pub(crate) fn is_cramped(&self) -> bool {
        let resident = self.counters.resident_pages.get() << PAGE_SHIFT;
        resident < self.budget.high() / RESIDENT_PART && !self.can_write_back()
    }

    /// Bytes that fit on the devices.
    pub(crate) fn device_room(&self) -> u64 {
        self.layer.store().device_capacity().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_hold_what_their_pages_came_to() {
        let third = Shrunk {
            pages: 3000,
            bytes: 1000 << PAGE_SHIFT,
        };
        assert_eq!(third.held_by(100), 300);
        assert_eq!(third.held_by(LOG_PERCENT), 255);
        let nothing = Shrunk {
            pages: 3000,
            bytes: 0,
        };
        assert_eq!(nothing.held_by(100), MOST_PERCENT);
    }
}
