//! The count of an entry: how many owners need it. One is the usual case and costs nothing; what is above one is in a side
//! table, under the entry's pin.

use crate::descriptor::{Tag, Word};
use crate::entry::EntryId;
use crate::layer::SwapLayer;
use crate::transition::{Step, step};
use core::fmt;

/// The entry is not in use, or nobody but the swap cache has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadEntry;

impl fmt::Display for DeadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the swap entry is not in use")
    }
}

impl core::error::Error for DeadEntry {}

impl SwapLayer {
    /// Adds one to the count of an entry. Returns the count.
    ///
    /// # Errors
    /// When the count is 0: a dead entry does not come to life again.
    pub fn duplicate(&self, entry: EntryId) -> Result<u64, DeadEntry> {
        let mut pin = self.pin(entry).ok_or(DeadEntry)?;
        if pin.is_cached_only() {
            return Err(DeadEntry);
        }
        if !pin.word.is_counted() {
            // The note makes sure that the page of the count goes when the cluster empties.
            self.allocator.note_counted(entry.cluster());
            pin.apply(Step::Count(true));
        }
        let extra = self.table.extra(entry) + 1;
        self.table.set_extra(entry, extra);
        Ok(extra + 1)
    }

    /// The count of an entry: 0 when dead or only cached. Stale at once unless others are kept away.
    #[must_use]
    pub fn count(&self, entry: EntryId) -> u64 {
        let word = self.table.load(entry);
        match word.tag() {
            Tag::Free => 0,
            _ if word.is_cached_only() => 0,
            _ if word.is_counted() => 1 + self.table.extra(entry),
            _ => 1,
        }
    }

    /// One owner less of a pinned entry with several.
    pub(crate) fn count_down(&self, entry: EntryId, word: Word) -> Word {
        let extra = self.table.extra(entry).saturating_sub(1);
        self.table.set_extra(entry, extra);
        step(word, Step::Count(extra != 0)).unwrap_or(word)
    }
}
