//! Swap-in of up to 16 neighbours at once, for fault-around: those on a device with as few reads as their places allow.
//!
//! Several pins are held meanwhile, so none but the first is waited for: an entry that others have pinned is reported busy.

use crate::dedup::owner_word;
use crate::descriptor::{Backing, Tag, Word};
use crate::entry::EntryId;
use crate::layer::SwapLayer;
use crate::pin::Pin;
use crate::swap::SwapInError;
use vswap_store::{Location, ReadItem, StoreError, Stored, Workspace};
use vswap_units::{BLOCK_PAGES, PAGE_SIZE};

const NO_ITEM: ReadItem = ReadItem {
    at: Stored {
        location: Location {
            segment: 0,
            granule: 0,
        },
        stored_bytes: 0,
    },
    owner: 0,
};

/// Pinned entries whose objects are on a device. Small, since it lives on a faulting thread's stack.
struct Waiting<'o> {
    len: usize,
    /// Which of the caller's entries each is.
    which: [u8; BLOCK_PAGES],
    words: [Word; BLOCK_PAGES],
    items: [ReadItem; BLOCK_PAGES],
    outs: [&'o mut [u8]; BLOCK_PAGES],
    results: [Result<(), StoreError>; BLOCK_PAGES],
}

impl SwapLayer {
    /// Reads the pages of up to 16 entries, each into the buffer of the same number, and says for each how it went: as from
    /// [`Pin::swap_in`], or `Busy`. Entries past the 16th, or without buffer or result, are not looked at.
    pub fn swap_in_block(
        &self,
        entries: &[EntryId],
        outs: &mut [&mut [u8]],
        results: &mut [Result<(), SwapInError>],
        workspace: &mut Workspace,
    ) {
        let mut waiting = Waiting::new();
        let mut pinned = 0;
        for (i, ((&entry, out), result)) in entries
            .iter()
            .zip(outs)
            .zip(&mut *results)
            .take(BLOCK_PAGES)
            .enumerate()
        {
            let pin = if waiting.len == 0 {
                self.pin_uncounted(entry)
            } else {
                self.try_pin_uncounted(entry)
            };
            pinned += u64::from(pin.is_some());
            *result = match pin {
                None => Err(self.why_not(entry)),
                Some(mut pin) if out.len() != PAGE_SIZE => pin.swap_in(out, workspace),
                Some(mut pin) => match self.on_device(&pin) {
                    Some(at) => {
                        waiting.push(i, pin, at, out);
                        Ok(())
                    }
                    None => pin.swap_in(out, workspace),
                },
            };
        }
        self.note_pinned(pinned);
        self.read_waiting(waiting, entries, results, workspace);
    }

    fn read_waiting(
        &self,
        mut waiting: Waiting<'_>,
        entries: &[EntryId],
        results: &mut [Result<(), SwapInError>],
        workspace: &mut Workspace,
    ) {
        let len = waiting.len;
        if let (Some(items), Some(outs), Some(read)) = (
            waiting.items.get(..len),
            waiting.outs.get_mut(..len),
            waiting.results.get_mut(..len),
        ) {
            self.store.read_many(items, outs, read, workspace);
        }
        let mut loaded = 0;
        let kept = waiting.which.iter().zip(&waiting.words).zip(&waiting.items);
        let read = waiting.outs.iter_mut().zip(&waiting.results);
        for (((&which, &word), item), (out, &read)) in kept.zip(read).take(len) {
            let which = usize::from(which);
            if let (Some(&entry), Some(result)) = (entries.get(which), results.get_mut(which))
                && let Some(mut pin) = self.adopt(entry, word)
            {
                let read = pin.read_again(read, item.at, item.owner, out, workspace);
                if let Some(id) = word.shared() {
                    self.exit_shared(id);
                }
                *result = pin.settle(read);
                loaded += u64::from(result.is_ok());
            }
        }
        self.worker().tally.loaded.add_if(loaded);
    }

    /// The object of a pinned entry, if it is on a device. A shared one is kept where it is until its reader is counted out.
    fn on_device(&self, pin: &Pin<'_>) -> Option<Stored> {
        match pin.backing() {
            Backing::Stored(at) if !self.store.is_in_ram(at) => Some(at),
            Backing::Shared(id) => {
                let at = self.enter_shared(id)?;
                if self.store.is_in_ram(at) {
                    self.exit_shared(id);
                    return None;
                }
                Some(at)
            }
            _ => None,
        }
    }

    fn why_not(&self, entry: EntryId) -> SwapInError {
        match self.table.load(entry).tag() {
            Tag::Free => SwapInError::Empty,
            _ => SwapInError::Busy,
        }
    }
}

impl<'o> Waiting<'o> {
    fn new() -> Self {
        Self {
            len: 0,
            which: [0; BLOCK_PAGES],
            words: [Word::FREE; BLOCK_PAGES],
            items: [NO_ITEM; BLOCK_PAGES],
            outs: Default::default(),
            results: [Ok(()); BLOCK_PAGES],
        }
    }

    fn push(&mut self, which: usize, pin: Pin<'_>, at: Stored, out: &'o mut [u8]) {
        let owner = owner_word(pin.entry, pin.word);
        let at_end = self.len;
        if let (Some(number), Some(word), Some(item), Some(place)) = (
            self.which.get_mut(at_end),
            self.words.get_mut(at_end),
            self.items.get_mut(at_end),
            self.outs.get_mut(at_end),
        ) {
            *number = which as u8;
            *word = pin.into_word();
            *item = ReadItem { at, owner };
            *place = out;
            self.len += 1;
        }
    }
}
