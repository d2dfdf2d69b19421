//! Who needs which place: memory shared by all processes that share the device.
//!
//! ```text
//! page 0     slot 0..61: { process, started, stack, namespace, since }   who has which bit
//! page 1...  place 0, 1, ...: one mask each                   bit n: slot n needs it
//! ```
//! A place is free when its mask is 0. A child gets its bit on every place its
//! copy of the segment table names *before* the fork, from its parent, which
//! holds them; so no place is ever without the bit of somebody who needs it.
//! Whoever clears the last bit gives the space back first, while still holding
//! it. Bits of processes that are gone are cleared by whoever needs room.
//!
//! When all slots are taken, further children share the *crowd* bit, which
//! nobody clears: their places are not reused, which loses room, never bytes.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use vswap_platform::clock;
use vswap_platform::errno::Errno;
use vswap_platform::memfd::{SharedMem, Sharing};
use vswap_units::PAGE_SIZE;

use super::identity::Identity;

/// Processes that have a bit of their own.
const SLOTS: usize = 62;
const CROWD: u32 = 62;
/// The mask of a place that failed: held by nobody, never free.
const BAD: u64 = 1 << 63;
const SLOT_WORDS: usize = 5;
/// Where page 0 keeps the number above every place that was ever taken.
const EVER_AT: usize = PAGE_SIZE - size_of::<u64>();
/// No slot: nobody is expected.
const NOBODY: u32 = 64;

/// In a slot's first word, beside the process number: a child that is about to
/// be born; the number is its parent's.
const UNBORN: u64 = 1 << 32;
/// ... or: the number is of the process that is clearing the slot's bits.
const REAPING: u64 = 1 << 33;
/// An unborn child whose parent is gone may still be on its way for that long.
const BIRTH_NS: u64 = 600_000_000_000;

/// The places of one device.
pub(crate) struct PlaceTable {
    shared: SharedMem,
    capacity: u32,
    /// This process's slot; in a child, its own after [`PlaceTable::child_after_fork`].
    mine: AtomicU32,
    child: AtomicU32,
    /// No place below is free, as far as this process knows.
    hint: AtomicU32,
    /// The place behind the one taken last, and behind the highest ever taken.
    next: AtomicU32,
    frontier: AtomicU32,
}

impl PlaceTable {
    pub(crate) fn new(capacity: u32) -> Result<Self, Errno> {
        let bytes = PAGE_SIZE + capacity as usize * size_of::<u64>();
        let table = Self {
            shared: SharedMem::create(c"vswap-places", bytes, Sharing::Writable)?,
            capacity,
            mine: AtomicU32::new(0),
            child: AtomicU32::new(NOBODY),
            hint: AtomicU32::new(0),
            next: AtomicU32::new(0),
            frontier: AtomicU32::new(0),
        };
        table.shared.close_descriptor();
        table.enter(0);
        Ok(table)
    }

    fn mask(&self, place: u32) -> Option<&AtomicU64> {
        self.masks()?.get(place as usize)
    }

    fn masks(&self) -> Option<&[AtomicU64]> {
        self.shared.words(PAGE_SIZE, self.capacity as usize)
    }

    /// The masks of places that were ever taken. A look at one beyond would make the
    /// kernel allocate the page it is in.
    fn taken_masks(&self) -> &[AtomicU64] {
        let ever = self.ever().map_or(0, |ever| ever.load(Ordering::Acquire));
        let ever = usize::try_from(ever).unwrap_or(usize::MAX);
        self.masks()
            .and_then(|all| all.get(..ever))
            .unwrap_or_default()
    }

    fn ever(&self) -> Option<&AtomicU64> {
        self.shared.words(EVER_AT, 1)?.first()
    }

    /// Notes that a place is about to be taken.
    fn note_taken(&self, place: u32) {
        if let Some(ever) = self.ever()
            && ever.load(Ordering::Relaxed) <= u64::from(place)
        {
            ever.fetch_max(u64::from(place) + 1, Ordering::AcqRel);
        }
    }

    fn slot(&self, slot: u32) -> Option<&[AtomicU64]> {
        self.shared
            .words(slot as usize * SLOT_WORDS * size_of::<u64>(), SLOT_WORDS)
    }

    fn my_bit(&self) -> u64 {
        bit(self.mine.load(Ordering::Acquire))
    }

    /// Takes a free place: the one behind the last, so that writes run on as far
    /// as there is room in a row, unless the file would get longer than it has
    /// been; else the lowest, which keeps it short.
    pub(crate) fn take(&self) -> Option<u32> {
        let next = self.next.load(Ordering::Relaxed);
        let runs_on = next < self.frontier.load(Ordering::Relaxed) && self.try_take(next);
        let place = if runs_on { next } else { self.take_lowest()? };
        self.next.store(place + 1, Ordering::Relaxed);
        self.frontier.fetch_max(place + 1, Ordering::Relaxed);
        Some(place)
    }

    fn try_take(&self, place: u32) -> bool {
        let mine = self.my_bit();
        self.note_taken(place);
        self.mask(place).is_some_and(|mask| {
            mask.compare_exchange(0, mine, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        })
    }

    fn take_lowest(&self) -> Option<u32> {
        let start = self.hint.load(Ordering::Relaxed) as usize;
        for (i, mask) in self.masks()?.iter().enumerate().skip(start) {
            let place = u32::try_from(i).ok()?;
            if mask.load(Ordering::Relaxed) == 0 && self.try_take(place) {
                self.hint.store(place + 1, Ordering::Relaxed);
                return Some(place);
            }
        }
        // Other processes may have freed lower ones: look from the start next time.
        self.hint.store(0, Ordering::Relaxed);
        (start > 0).then(|| self.take_lowest()).flatten()
    }

    /// How many places there are.
    pub(crate) const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How many nobody holds.
    pub(crate) fn free(&self) -> u64 {
        let masks = self.taken_masks().iter();
        let held = masks.filter(|mask| mask.load(Ordering::Relaxed) != 0);
        u64::from(self.capacity).saturating_sub(held.count() as u64)
    }

    /// This process has nothing to do with the device any more.
    pub(crate) fn leave(&self, discard: &dyn Fn(u32)) {
        let slot = self.mine.load(Ordering::Acquire);
        if slot >= CROWD {
            return;
        }
        for (place, mask) in (0_u32..).zip(self.taken_masks()) {
            if mask.load(Ordering::Relaxed) & bit(slot) != 0 {
                clear(mask, bit(slot), || discard(place));
            }
        }
        self.vacate(slot);
    }

    /// Adds this process to those who need a place that it took by other means: of a
    /// slots device the bitmap says what is free, and this table only who needs it.
    pub(crate) fn claim(&self, place: u32) {
        self.note_taken(place);
        if let Some(mask) = self.mask(place) {
            mask.fetch_or(self.my_bit(), Ordering::AcqRel);
        }
    }

    /// Lets go of a place; `discard` gives its space back if nobody else needs it.
    pub(crate) fn give_back(&self, place: u32, discard: impl FnOnce()) {
        let mine = self.my_bit();
        if mine == bit(CROWD) {
            return;
        }
        if let Some(mask) = self.mask(place) {
            clear(mask, mine, discard);
            self.hint.fetch_min(place, Ordering::Relaxed);
        }
    }

    /// Never to be used again.
    pub(crate) fn mark_bad(&self, place: u32) {
        if let Some(mask) = self.mask(place) {
            mask.store(BAD, Ordering::Release);
        }
    }

    /// Does this process hold the place?
    pub(crate) fn holds(&self, place: u32) -> bool {
        self.mask(place)
            .is_some_and(|mask| mask.load(Ordering::Acquire) & self.my_bit() != 0)
    }

    /// Does this process hold it, and no other one?
    pub(crate) fn is_ours_alone(&self, place: u32) -> bool {
        self.mask(place)
            .is_some_and(|mask| mask.load(Ordering::Acquire) == self.my_bit())
    }

    /// How many places this process holds.
    pub(crate) fn held(&self) -> u64 {
        let mine = self.my_bit();
        let masks = self.taken_masks().iter();
        masks
            .filter(|mask| mask.load(Ordering::Relaxed) & mine != 0)
            .count() as u64
    }

    /// Writes into a slot that this process is who it belongs to.
    fn enter(&self, slot: u32) {
        self.describe(slot);
        if let Some([process, ..]) = self.slot(slot) {
            process.store(u64::from(std::process::id()), Ordering::Release);
        }
    }

    /// Writes who this process is. `since` first and `started` last: a reader of
    /// the slot meanwhile finds it young, or unknown.
    fn describe(&self, slot: u32) {
        let own = Identity::own();
        if let Some([_, started, stack, namespace, since]) = self.slot(slot) {
            since.store(clock::boot_ns(), Ordering::SeqCst);
            started.store(0, Ordering::SeqCst);
            stack.store(own.stack, Ordering::SeqCst);
            namespace.store(own.namespace, Ordering::SeqCst);
            started.store(own.started, Ordering::SeqCst);
        }
    }

    /// Nobody has the slot any more.
    fn vacate(&self, slot: u32) {
        if let Some([process, started, ..]) = self.slot(slot) {
            started.store(0, Ordering::SeqCst);
            process.store(0, Ordering::SeqCst);
        }
    }

    /// Before a fork: a slot for the child.
    pub(crate) fn expect_child(&self) {
        let unborn = UNBORN | u64::from(std::process::id());
        let claimed = (0..SLOTS as u32).find(|&slot| {
            self.slot(slot)
                .and_then(<[_]>::first)
                .is_some_and(|process| {
                    process
                        .compare_exchange(0, unborn, Ordering::AcqRel, Ordering::Relaxed)
                        .is_ok()
                })
        });
        let slot = claimed.unwrap_or(CROWD);
        if slot != CROWD {
            self.describe(slot);
        }
        self.child.store(slot, Ordering::Release);
    }

    /// The child will need this place, which this process holds.
    pub(crate) fn grant_child(&self, place: u32) {
        if let Some(mask) = self.mask(place) {
            mask.fetch_or(bit(self.child.load(Ordering::Acquire)), Ordering::AcqRel);
        }
    }

    /// The child will need every place that this process holds.
    pub(crate) fn grant_child_all(&self) {
        let (mine, child) = (self.my_bit(), bit(self.child.load(Ordering::Acquire)));
        for mask in self.taken_masks() {
            if mask.load(Ordering::Acquire) & mine != 0 {
                mask.fetch_or(child, Ordering::AcqRel);
            }
        }
    }

    /// In the parent. Without a child its bits are cleared again.
    pub(crate) fn parent_after_fork(&self, forked: bool) {
        let slot = self.child.swap(NOBODY, Ordering::AcqRel);
        if forked || slot >= CROWD {
            return;
        }
        for mask in self.taken_masks() {
            mask.fetch_and(!bit(slot), Ordering::AcqRel);
        }
        self.vacate(slot);
    }

    /// In the child: from here on it is itself.
    pub(crate) fn child_after_fork(&self) {
        let slot = self.child.swap(NOBODY, Ordering::AcqRel);
        self.mine.store(slot.min(CROWD), Ordering::Release);
        if slot < CROWD {
            self.enter(slot);
        }
    }

    /// Clears the bits of processes that are gone.
    pub(crate) fn reap(&self, discard: &dyn Fn(u32)) {
        let mine = self.mine.load(Ordering::Acquire);
        let others = (0..SLOTS as u32).filter(|&slot| slot != mine);
        let mut here = None;
        for slot in others.filter(|&slot| self.is_taken(slot)) {
            let here = *here.get_or_insert_with(Identity::own);
            if self.claim_dead(slot, here) {
                self.reap_slot(slot, discard);
            }
        }
    }

    fn is_taken(&self, slot: u32) -> bool {
        let process = self.slot(slot).and_then(<[_]>::first);
        process.is_some_and(|process| process.load(Ordering::Relaxed) != 0)
    }

    /// Takes over the slot of a process that is gone. One reaper per slot; should
    /// it be killed at it, the slot stays taken, which loses room, never bytes.
    fn claim_dead(&self, slot: u32, here: Identity) -> bool {
        let Some([process, started, stack, namespace, since]) = self.slot(slot) else {
            return false;
        };
        let seen = process.load(Ordering::SeqCst);
        let was = Identity {
            started: started.load(Ordering::SeqCst),
            stack: stack.load(Ordering::SeqCst),
            namespace: namespace.load(Ordering::SeqCst),
        };
        let age = clock::boot_ns().saturating_sub(since.load(Ordering::SeqCst));
        let settled = seen & UNBORN == 0 || age > BIRTH_NS;
        if seen == 0 || seen & REAPING != 0 || !settled || !was.is_gone(seen as u32, here) {
            return false;
        }
        let reaping = REAPING | u64::from(std::process::id());
        process
            .compare_exchange(seen, reaping, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    fn reap_slot(&self, slot: u32, discard: &dyn Fn(u32)) {
        for (place, mask) in (0_u32..).zip(self.taken_masks()) {
            if mask.load(Ordering::Relaxed) & bit(slot) != 0 {
                clear(mask, bit(slot), || discard(place));
            }
        }
        self.hint.store(0, Ordering::Relaxed);
        self.vacate(slot);
    }
}

const fn bit(slot: u32) -> u64 {
    1_u64.wrapping_shl(slot)
}

/// Clears `mine`. If it is the last bit, `discard` runs first, under it.
fn clear(mask: &AtomicU64, mine: u64, discard: impl FnOnce()) {
    let mut discard = Some(discard);
    let mut now = mask.load(Ordering::Acquire);
    while now & mine != 0 {
        if now == mine
            && let Some(discard) = discard.take()
        {
            discard();
        }
        match mask.compare_exchange(now, now & !mine, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return,
            Err(other) => now = other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    fn process_word(table: &PlaceTable, slot: u32) -> &AtomicU64 {
        &table.slot(slot).unwrap()[0]
    }

    #[test]
    fn the_lowest_free_place_is_taken() {
        let table = PlaceTable::new(4).unwrap();
        assert_eq!(
            [(); 5].map(|()| table.take()),
            [Some(0), Some(1), Some(2), Some(3), None]
        );
        table.give_back(2, || {});
        table.give_back(1, || {});
        assert_eq!([(); 3].map(|()| table.take()), [Some(1), Some(2), None]);
        assert_eq!(table.held(), 4);
    }

    #[test]
    fn a_bad_place_is_never_taken_again() {
        let table = PlaceTable::new(2).unwrap();
        assert_eq!(table.take(), Some(0));
        table.mark_bad(0);
        table.give_back(0, || panic!("discarded"));
        assert_eq!((table.take(), table.take()), (Some(1), None));
    }

    #[test]
    fn a_place_granted_to_a_child_outlives_the_parents_need() {
        let table = PlaceTable::new(2).unwrap();
        assert_eq!(table.take(), Some(0));
        table.expect_child();
        table.grant_child(0);
        table.parent_after_fork(true);
        table.give_back(0, || panic!("the child needs it"));
        assert_eq!((table.take(), table.take()), (Some(1), None));
    }

    #[test]
    fn a_fork_that_failed_leaves_no_bits() {
        let table = PlaceTable::new(1).unwrap();
        assert_eq!(table.take(), Some(0));
        table.expect_child();
        table.grant_child(0);
        table.parent_after_fork(false);
        let discarded = Cell::new(false);
        table.give_back(0, || discarded.set(true));
        assert!(discarded.get());
        assert_eq!(process_word(&table, 1).load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_child_gives_back_what_only_it_still_needs() {
        // One process plays both: first the parent, then the child.
        let table = PlaceTable::new(2).unwrap();
        assert_eq!(table.take(), Some(0));
        table.expect_child();
        table.grant_child(0);
        table.child_after_fork();
        table.give_back(0, || panic!("the parent needs it"));
        assert_eq!(table.take(), Some(1));
        assert!(table.holds(1) && !table.holds(0));
    }

    #[test]
    fn the_bits_of_a_process_that_is_gone_are_cleared() {
        let table = PlaceTable::new(1).unwrap();
        assert_eq!(table.take(), Some(0));
        // As if slot 0 were of a process that no longer is, and we another one.
        table.expect_child();
        table.child_after_fork();
        process_word(&table, 0).store(u64::from(u32::MAX), Ordering::Relaxed);
        let discarded = Cell::new(0);
        table.reap(&|_| discarded.set(discarded.get() + 1));
        assert_eq!(discarded.get(), 1);
        assert_eq!(table.take(), Some(0));
    }

    #[test]
    fn a_living_process_is_never_reaped() {
        let table = PlaceTable::new(1).unwrap();
        assert_eq!(table.take(), Some(0));
        table.expect_child();
        table.child_after_fork();
        table.reap(&|_| panic!("alive"));
        assert_eq!(table.take(), None);
    }

    #[test]
    fn a_child_on_its_way_is_not_reaped_when_its_parent_is_gone() {
        let table = PlaceTable::new(1).unwrap();
        table.expect_child();
        process_word(&table, 1).store(UNBORN | u64::from(u32::MAX), Ordering::Relaxed);
        table.reap(&|_| ());
        assert_eq!(
            process_word(&table, 1).load(Ordering::Relaxed),
            UNBORN | u64::from(u32::MAX)
        );
    }

    #[test]
    fn children_beyond_the_slots_share_a_bit_that_stays() {
        let table = PlaceTable::new(2).unwrap();
        assert_eq!(table.take(), Some(0));
        for _ in 0..SLOTS {
            table.expect_child();
            table.grant_child(0);
            table.parent_after_fork(true);
        }
        assert_eq!(
            table.mask(0).unwrap().load(Ordering::Relaxed) & bit(CROWD),
            bit(CROWD)
        );
        table.expect_child();
        table.child_after_fork();
        assert_eq!(table.take(), Some(1));
        table.give_back(1, || panic!("others of the crowd may need it"));
    }
}
