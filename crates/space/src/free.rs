//! The end of entries.
//!
//! An entry lives while its count is above 0 or a frame is bound to it. Frees come in batches: every entry is pinned, loses its
//! backing, and stays pinned until its whole batch leaves the cluster under one lock. So a fork, which waits for pins, never
//! sees an entry that is neither in use nor free.

use crate::descriptor::{Backing, Word};
use crate::entry::EntryId;
use crate::gate;
use crate::layer::SwapLayer;
use crate::pin::{Attempt, Pin};
use crate::transition::{Step, can_end, step};
use core::sync::atomic::AtomicU64;

/// Entries that leave a cluster under one lock.
const BATCH: usize = 64;

/// What became of entries that were freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Out of use.
    pub freed: usize,
    /// Count 0, but a frame still keeps them alive.
    pub still_cached: usize,
    /// Their count is one lower and still above 0.
    pub still_counted: usize,
    /// Not in use to begin with: a mistake of the caller.
    pub dead: usize,
}

impl SwapLayer {
    /// Subtracts one from the count of every entry, and takes those with none left out of use with their backing. Cached ones
    /// stay until their frame is taken. Fast when neighbours come together. The caller holds no pin of any of them.
    pub fn free(&self, entries: &[EntryId]) -> Freed {
        Sweep::new(self, None).run(entries)
    }

    /// [`SwapLayer::free`], but a frame does not keep its entry alive: `frames` gets it. It is called with pins held, so it
    /// only notes the frame.
    pub fn free_into(&self, entries: &[EntryId], frames: &mut dyn FnMut(EntryId, u32)) -> Freed {
        Sweep::new(self, Some(frames)).run(entries)
    }

    /// Takes pinned entries without backing out of use. The pins go with them.
    pub(crate) fn release(&self, cluster: usize, offsets: &[u16]) {
        let worker = self.worker();
        self.allocator
            .give_back(cluster, offsets, worker, &self.table, &mut |entry| {
                if let Some(cell) = self.table.cell(entry) {
                    self.put_word(cell, Word::FREE);
                }
            });
        gate::forget_pins(offsets.len());
    }
}

/// One call of `free`: a batch of pinned entries of one cluster that lost their backing, and what it adds up to.
struct Sweep<'a, 'f> {
    layer: &'a SwapLayer,
    /// Where frames go; without it they keep their entries alive.
    frames: Option<&'f mut dyn FnMut(EntryId, u32)>,
    sum: Freed,
    cluster: usize,
    offsets: [u16; BATCH],
    len: usize,
    pinned: u64,
    unstored: u64,
    unstored_bytes: u64,
    unslotted: u64,
    unsame: u64,
}

impl<'a, 'f> Sweep<'a, 'f> {
    fn new(layer: &'a SwapLayer, frames: Option<&'f mut dyn FnMut(EntryId, u32)>) -> Self {
        Self {
            layer,
            frames,
            sum: Freed::default(),
            cluster: 0,
            offsets: [0; BATCH],
            len: 0,
            pinned: 0,
            unstored: 0,
            unstored_bytes: 0,
            unslotted: 0,
            unsame: 0,
        }
    }

    fn run(mut self, entries: &[EntryId]) -> Freed {
        for &entry in entries {
            if self.len == BATCH || self.cluster != entry.cluster() {
                self.finish();
                self.cluster = entry.cluster();
            }
            match self.pin(entry) {
                Some((cell, word)) => self.end_one(entry, cell, word),
                None => self.sum.dead += 1,
            }
        }
        self.finish();
        self.layer.note_pinned(self.pinned);
        self.sum
    }

    fn pin(&mut self, entry: EntryId) -> Option<(&'a AtomicU64, Word)> {
        let cell = self.layer.table.cell(entry)?;
        let word = match self.layer.attempt(cell) {
            Attempt::Pinned(word) => word,
            Attempt::Dead => return None,
            Attempt::Busy | Attempt::Shut => {
                // Waiting with pins in hand could be waiting for each other.
                self.finish();
                self.layer.pin_uncounted(entry)?.into_word()
            }
        };
        self.pinned += 1;
        Some((cell, word))
    }

    /// Ends one use of a pinned entry.
    fn end_one(&mut self, entry: EntryId, cell: &AtomicU64, word: Word) {
        let layer = self.layer;
        if word.is_counted() {
            layer.unpin(cell, layer.count_down(entry, word));
            self.sum.still_counted += 1;
            return;
        }
        match (word.backing(), &mut self.frames) {
            (Backing::Cached(_), None) => {
                let orphan = step(word, Step::Orphan);
                layer.unpin(cell, orphan.unwrap_or(word));
                self.sum.still_cached += usize::from(orphan.is_some());
                self.sum.dead += usize::from(orphan.is_none());
                return;
            }
            (Backing::Cached(frame), Some(take)) => take(entry, frame),
            (Backing::Stored(object), _) => {
                layer.store.free(object);
                self.unstored += 1;
                self.unstored_bytes += u64::from(object.stored_bytes);
            }
            (Backing::Slot(slot), _) => {
                layer.store.slots().free(slot);
                self.unslotted += 1;
            }
            (Backing::Shared(id), _) => layer.leave_shared(id, layer.group_of(entry)),
            (Backing::Same(_), _) => self.unsame += 1,
            (Backing::None | Backing::Poisoned, _) => {}
        }
        debug_assert!(can_end(word));
        self.push(entry);
    }

    fn push(&mut self, entry: EntryId) {
        if let Some(slot) = self.offsets.get_mut(self.len) {
            *slot = entry.offset() as u16;
            self.len += 1;
        }
    }

    /// Charges first, while the pins are held: see `group`.
    fn finish(&mut self) {
        if self.len == 0 {
            return;
        }
        let tally = &self.layer.worker().tally;
        tally.unstored.add_if(core::mem::take(&mut self.unstored));
        tally
            .unstored_bytes
            .add_if(core::mem::take(&mut self.unstored_bytes));
        tally.unslotted.add_if(core::mem::take(&mut self.unslotted));
        tally.unsame.add_if(core::mem::take(&mut self.unsame));
        let offsets = self.offsets.get(..self.len).unwrap_or_default();
        self.layer.release(self.cluster, offsets);
        self.sum.freed += self.len;
        self.len = 0;
    }
}

impl Pin<'_> {
    /// Frees the entry under the pin: its count goes down by one, and at 0 it goes with its backing. Returns the frame if it
    /// had one and is gone.
    pub fn free(mut self) -> Option<u32> {
        if self.word.is_counted() {
            self.word = self.layer.count_down(self.entry, self.word);
            return None;
        }
        let former = self.word;
        self.apply(Step::Drop);
        self.layer.give_up(self.entry, former);
        self.release();
        former.frame()
    }
}
