//! What each worker did, summed up on demand: charging a page is one or two additions on a cache line nobody else writes.
//!
//! A tally only ever grows: what is held now is what came less what went. Every charge is made by whoever holds the
//! entry's pin, so sums are exact whenever no pin is held, and never go wrong in between by more than what is in flight.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// What one worker did.
        pub(crate) struct Tally { $($(#[$doc])* pub(crate) $name: Count,)+ }

        /// Tallies of all workers, summed.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct Sums { $($(#[$doc])* pub(crate) $name: u64,)+ }

        impl Tally {
            pub(crate) const fn new() -> Self {
                Self { $($name: Count::new(),)+ }
            }
        }

        impl Sums {
            pub(crate) fn add(&mut self, tally: &Tally) {
                $(self.$name += tally.$name.get();)+
            }
        }
    };
}

tally! {
    /// Descriptors read without a pin.
    looked,
    /// Entries pinned.
    pinned,
    /// Entries bound to a frame.
    bound,
    /// Locks of clusters taken to hand entries out or take them back.
    locked,
    /// Entries handed out.
    allocated,
    /// Entries taken out of use.
    released,
    /// Pages that became objects.
    stored,
    /// Bytes of those.
    stored_bytes,
    /// How many of those did not compress.
    stored_raw,
    /// Objects given up.
    unstored,
    /// Bytes of those.
    unstored_bytes,
    /// Pages that went to a slot.
    slotted,
    /// Slots given up.
    unslotted,
    /// Pages that became one word.
    same,
    /// Words given up.
    unsame,
    /// Entries that became shares in an object.
    shared,
    /// Shares given up.
    unshared,
    /// Objects that came to be shared.
    shared_objects,
    /// Shared objects given up, with their last share.
    unshared_objects,
    /// Bytes that shares beyond an object's first one did not take.
    saved_bytes,
    /// Of those, what shares that were given up had not taken.
    unsaved_bytes,
    /// Pages swapped out by sharing.
    dedup_hits,
    /// Candidates whose bytes were different.
    dedup_different,
    /// Pages read back.
    loaded,
    /// Pages found unreadable.
    poisoned,
}

/// A count that only grows.
pub(crate) struct Count(AtomicU64);

impl Count {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn add_if(&self, n: u64) {
        if n != 0 {
            self.add(n);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Sums {
    /// Looks into the table of descriptors: hints, pins, and those that bind a frame.
    pub(crate) const fn lookups(&self) -> u64 {
        self.looked + self.pinned + self.bound
    }

    /// Legal steps that descriptors made, each of which is told by something else that is counted.
    pub(crate) const fn changes(&self) -> u64 {
        let out = self.stored + self.slotted + self.same + self.dedup_hits;
        self.allocated + self.bound + out + self.poisoned + self.released
    }

    /// Entries in use now.
    pub(crate) const fn entries_now(&self) -> u64 {
        self.allocated.saturating_sub(self.released)
    }

    /// Pages that are objects of the store now.
    pub(crate) const fn stored_now(&self) -> u64 {
        self.stored.saturating_sub(self.unstored)
    }

    /// The bytes of those, headers and rounding apart.
    pub(crate) const fn stored_bytes_now(&self) -> u64 {
        self.stored_bytes.saturating_sub(self.unstored_bytes)
    }

    /// Pages in plain slots now.
    pub(crate) const fn slots_now(&self) -> u64 {
        self.slotted.saturating_sub(self.unslotted)
    }

    /// Pages that are one word now.
    pub(crate) const fn same_now(&self) -> u64 {
        self.same.saturating_sub(self.unsame)
    }

    /// Shares in objects now.
    pub(crate) const fn shared_now(&self) -> u64 {
        self.shared.saturating_sub(self.unshared)
    }

    /// Objects that are shared now.
    pub(crate) const fn shared_objects_now(&self) -> u64 {
        self.shared_objects.saturating_sub(self.unshared_objects)
    }

    /// Bytes that sharing saves now.
    pub(crate) const fn saved_now(&self) -> u64 {
        self.saved_bytes.saturating_sub(self.unsaved_bytes)
    }
}
