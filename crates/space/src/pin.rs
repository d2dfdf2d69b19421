//! Pins: the right to rely on a backing and to change it.
//!
//! A pin is one bit of the descriptor. The guard carries the descriptor as a value; what was done under the pin appears in the
//! table in one store, when the guard is dropped. Others see the former backing until then, which hints allow.
//!
//! **Order**: take a pin after the locks of pages and frames. While holding one, do nothing of this layer but through the
//! guard (a second pin is for `swap_in_block` and `free`, which know how to take several without waiting for any).

use crate::descriptor::{Backing, Tag, Word};
use crate::entry::EntryId;
use crate::gate;
use crate::layer::SwapLayer;
use crate::transition::{Step, step};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};
use vswap_platform::sync::Event;

/// Looks at a pinned entry before its thread goes to sleep. A pin over a compression lasts a few microseconds.
const SPINS: u32 = 200;
/// Waiting places. Entries share them; a wake-up for another entry is harmless.
pub(crate) const PARKING: usize = 16;

/// What became of an attempt to pin.
pub(crate) enum Attempt {
    /// Pinned. The word has its pin bit set.
    Pinned(Word),
    /// Somebody else has it pinned.
    Busy,
    /// The gate is shut.
    Shut,
    /// Not an entry in use.
    Dead,
}

/// A pinned entry: its backing is certain, and this guard alone may change it.
#[must_use = "the entry is unpinned when this is dropped"]
pub struct Pin<'a> {
    pub(crate) layer: &'a SwapLayer,
    pub(crate) entry: EntryId,
    cell: &'a AtomicU64,
    pub(crate) word: Word,
    /// The thread counts its pins, so the guard stays on it.
    not_send: PhantomData<*const ()>,
}

impl SwapLayer {
    /// Pins an entry, waiting while somebody else has it pinned. `None` if it is not in use.
    ///
    /// All signals of the thread are to be blocked while the pin is held.
    #[must_use]
    pub fn pin(&self, entry: EntryId) -> Option<Pin<'_>> {
        let pin = self.pin_uncounted(entry);
        self.note_pinned(u64::from(pin.is_some()));
        pin
    }

    /// Pins an entry unless that means waiting. `None` also if it is not in use.
    #[must_use]
    pub fn try_pin(&self, entry: EntryId) -> Option<Pin<'_>> {
        let pin = self.try_pin_uncounted(entry);
        self.note_pinned(u64::from(pin.is_some()));
        pin
    }

    /// As [`SwapLayer::pin`], for callers that pin many and count them once.
    pub(crate) fn pin_uncounted(&self, entry: EntryId) -> Option<Pin<'_>> {
        let cell = self.table.cell(entry)?;
        let mut looks = 0;
        loop {
            match self.attempt(cell) {
                Attempt::Pinned(word) => {
                    return Some(Pin::new(self, entry, cell, word));
                }
                Attempt::Dead => return None,
                Attempt::Shut => self.gate.wait(),
                Attempt::Busy if looks < SPINS => {
                    looks += 1;
                    core::hint::spin_loop();
                }
                Attempt::Busy => self.wait_for_unpin(cell),
            }
        }
    }

    /// As [`SwapLayer::try_pin`], for the same.
    pub(crate) fn try_pin_uncounted(&self, entry: EntryId) -> Option<Pin<'_>> {
        let cell = self.table.cell(entry)?;
        match self.attempt(cell) {
            Attempt::Pinned(word) => Some(Pin::new(self, entry, cell, word)),
            Attempt::Busy | Attempt::Shut | Attempt::Dead => None,
        }
    }

    /// Counts pins taken.
    pub(crate) fn note_pinned(&self, pins: u64) {
        self.worker().tally.pinned.add_if(pins);
    }

    /// The guard of an entry that this thread has pinned.
    pub(crate) fn adopt(&self, entry: EntryId, word: Word) -> Option<Pin<'_>> {
        self.table
            .cell(entry)
            .map(|cell| Pin::new(self, entry, cell, word))
    }

    /// Where the page is, by a look without the pin.
    #[must_use]
    pub fn hint(&self, entry: EntryId) -> Backing {
        self.table.load(entry).backing()
    }

    /// Counts entries looked at by [`SwapLayer::hint`], which counts nothing itself: callers look at many at once.
    pub fn note_looks(&self, entries: u32) {
        self.worker().tally.looked.add_if(u64::from(entries));
    }

    /// Binds a frame to an entry that has no bytes yet. False if it has some, or is not in use.
    pub fn cache(&self, entry: EntryId, frame: u32) -> bool {
        let bound = self.cache_uncounted(entry, frame);
        self.note_bound(u64::from(bound));
        bound
    }

    /// The same, for callers that bind many and count them once ([`SwapLayer::note_bound`]).
    pub fn cache_uncounted(&self, entry: EntryId, frame: u32) -> bool {
        let Some(cell) = self.table.cell(entry) else {
            return false;
        };
        let now = Word::from_bits(cell.load(Ordering::Relaxed));
        if !now.is_pinned() && now.tag() == Tag::None {
            // Pin, step and unpin in one exchange.
            let Some(next) = step(now.pinned(), Step::Cache(frame)).map(Word::unpinned) else {
                return false;
            };
            if cell
                .compare_exchange(now.bits(), next.bits(), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                return true;
            }
        }
        self.pin(entry)
            .is_some_and(|mut pin| pin.apply(Step::Cache(frame)))
    }

    /// Counts entries that were bound to frames.
    pub fn note_bound(&self, entries: u64) {
        self.worker().tally.bound.add_if(entries);
    }

    pub(crate) fn attempt(&self, cell: &AtomicU64) -> Attempt {
        let mut bits = cell.load(Ordering::Relaxed);
        loop {
            let word = Word::from_bits(bits);
            if word.tag() == Tag::Free {
                return Attempt::Dead;
            }
            if word.is_pinned() {
                return Attempt::Busy;
            }
            match cell.compare_exchange_weak(
                bits,
                word.pinned().bits(),
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) if self.gate.lets_pass() => {
                    gate::note_pin();
                    return Attempt::Pinned(word.pinned());
                }
                Ok(_) => {
                    self.put_word(cell, word);
                    return Attempt::Shut;
                }
                Err(seen) => bits = seen,
            }
        }
    }

    /// Unpins: the word becomes what was made of it, and waiters are told.
    pub(crate) fn unpin(&self, cell: &AtomicU64, word: Word) {
        self.put_word(cell, word);
        gate::forget_pins(1);
    }

    pub(crate) fn put_word(&self, cell: &AtomicU64, word: Word) {
        let former = Word::from_bits(cell.swap(word.unpinned().bits(), Ordering::SeqCst));
        if former.is_waited_for()
            && let Some(event) = self.parking_of(cell)
        {
            event.signal();
        }
    }

    #[cold]
    fn wait_for_unpin(&self, cell: &AtomicU64) {
        let Some(event) = self.parking_of(cell) else {
            return;
        };
        let seen = event.seen();
        let word = Word::from_bits(cell.load(Ordering::SeqCst));
        if !word.is_pinned() {
            return;
        }
        let marked = word.is_waited_for()
            || cell
                .compare_exchange(
                    word.bits(),
                    word.waited_for().bits(),
                    Ordering::SeqCst,
                    Ordering::Relaxed,
                )
                .is_ok();
        if marked {
            event.wait_past(seen, gate::PATIENCE_NS);
        }
    }

    fn parking_of(&self, cell: &AtomicU64) -> Option<&Event> {
        self.parking
            .get(core::ptr::from_ref(cell) as usize / size_of::<AtomicU64>() % PARKING)
    }
}

impl<'a> Pin<'a> {
    const fn new(layer: &'a SwapLayer, entry: EntryId, cell: &'a AtomicU64, word: Word) -> Self {
        Self {
            layer,
            entry,
            cell,
            word,
            not_send: PhantomData,
        }
    }
}

impl Pin<'_> {
    /// The entry.
    #[must_use]
    pub const fn entry(&self) -> EntryId {
        self.entry
    }

    /// Where its page is.
    #[must_use]
    pub fn backing(&self) -> Backing {
        self.word.backing()
    }

    /// Whether nobody needs the entry any more and only its frame keeps it alive.
    #[must_use]
    pub const fn is_cached_only(&self) -> bool {
        self.word.is_cached_only()
    }

    /// Binds a frame to an entry that has no bytes yet. False if it has some.
    pub fn cache(&mut self, frame: u32) -> bool {
        let bound = self.apply(Step::Cache(frame));
        self.layer.note_bound(u64::from(bound));
        bound
    }

    /// Takes the frame of a cached entry: the caller owns it from now on, and the entry has no bytes. An entry that was alive
    /// only for this frame is gone afterwards.
    #[must_use]
    pub fn take_frame(&mut self) -> Option<u32> {
        let frame = self.word.frame()?;
        let last = self.word.is_cached_only();
        if !self.apply(Step::TakeFrame) {
            return None;
        }
        if last {
            self.release();
        }
        Some(frame)
    }

    /// Gives the bytes up for lost: readers get `Poisoned` from now on.
    pub fn poison(&mut self) {
        let former = self.word;
        if self.apply(Step::Poison) {
            self.layer.worker().tally.poisoned.add(1);
            self.layer.give_up(self.entry, former);
        }
    }

    pub(crate) fn apply(&mut self, what: Step) -> bool {
        match step(self.word, what) {
            Some(next) => {
                self.word = next;
                true
            }
            None => false,
        }
    }

    /// The pinned word, without its guard: the caller sees to the pin.
    pub(crate) fn into_word(self) -> Word {
        core::mem::ManuallyDrop::new(self).word
    }

    /// Takes an entry without a backing out of use. The guard holds nothing afterwards.
    pub(crate) fn release(&mut self) {
        if let Some(free) = step(self.word, Step::Release) {
            self.word = free;
            self.layer
                .release(self.entry.cluster(), &[self.entry.offset() as u16]);
        }
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        if self.word != Word::FREE {
            self.layer.unpin(self.cell, self.word);
        }
    }
}
