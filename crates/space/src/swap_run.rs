//! Swap-out of neighbouring pages at once, so that those that go to plain slots go there in one write.
//!
//! Several pins are held meanwhile, so none but the first is waited for: a page whose entry others have pinned stays where it is.

use crate::descriptor::Word;
use crate::entry::EntryId;
use crate::layer::SwapLayer;
use crate::pin::Pin;
use crate::same;
use crate::swap::{ForbiddenSlots, SwapOut, WayOut};
use vswap_store::{Slot, StoreError, Workspace};
use vswap_units::{BLOCK_PAGES, PAGE_SIZE};

/// Pinned entries whose pages, neighbours in memory, are to go to slots. Small, since it lives on a faulting thread's stack.
struct Waiting {
    first: usize,
    len: usize,
    /// Devices they may not go to.
    forbidden: ForbiddenSlots,
    pinned: [(Option<EntryId>, Word); BLOCK_PAGES],
}

/// What became of pages swapped out together: a bit for each, the first one's lowest. Those in neither are as they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunOut {
    /// Their frames are the caller's again.
    pub done: u16,
    /// They do not compress, and are better kept in memory than in the log ([`StoreError::Incompressible`]).
    pub refused: u16,
}

impl RunOut {
    fn note(&mut self, i: usize, out: Result<SwapOut, StoreError>) {
        match out {
            Ok(_) => self.done |= 1 << i,
            Err(StoreError::Incompressible) => self.refused |= 1 << i,
            Err(_) => {}
        }
    }
}

impl SwapLayer {
    /// Swaps up to 16 pages out, which are neighbours in memory, each as [`Pin::swap_out`] does.
    pub fn swap_out_run(
        &self,
        entries: impl Iterator<Item = EntryId>,
        pages: &[u8],
        workspace: &mut Workspace,
    ) -> RunOut {
        let mut waiting = Waiting::new();
        let mut outcome = RunOut::default();
        let words = packed_words(pages);
        let each = entries.zip(pages.chunks_exact(PAGE_SIZE)).zip(words);
        let mut pinned = 0;
        for (i, ((entry, page), word)) in each.enumerate() {
            let pin = if waiting.len == 0 {
                self.pin_uncounted(entry)
            } else {
                self.try_pin_uncounted(entry)
            };
            let Some(mut pin) = pin else { continue };
            pinned += 1;
            match pin.swap_out_unless_to_slot(page, word, workspace) {
                Ok(WayOut::ToSlot(forbidden)) => {
                    if !waiting.is_followed_by(i, forbidden) {
                        self.write_waiting(&mut waiting, pages, workspace, &mut outcome);
                    }
                    waiting.push(i, pin, forbidden);
                }
                Ok(WayOut::Done(out)) => outcome.note(i, Ok(out)),
                Err(error) => outcome.note(i, Err(error)),
            }
        }
        self.write_waiting(&mut waiting, pages, workspace, &mut outcome);
        self.note_pinned(pinned);
        outcome
    }

    /// Writes the pages that wait, in as few calls as there are runs of free slots.
    fn write_waiting(
        &self,
        waiting: &mut Waiting,
        pages: &[u8],
        workspace: &mut Workspace,
        outcome: &mut RunOut,
    ) {
        let end = waiting.first + waiting.len;
        while waiting.len > 0 {
            let rest = pages.get(waiting.first * PAGE_SIZE..end * PAGE_SIZE);
            let written = self
                .store
                .slots()
                .write(rest.unwrap_or_default(), waiting.forbidden);
            // Nothing written: one page takes the way that is left to it, then the device is asked again.
            let count = written.map_or(1, |(_, count)| count);
            self.note_slotted(written.map_or(0, |(_, count)| count as u64));
            for n in 0..count {
                let slot = written.ok().and_then(|(first, _)| nth(first, n));
                let i = waiting.first;
                let Some(mut pin) = waiting.pop(self) else {
                    break;
                };
                let page = pages.get(i * PAGE_SIZE..(i + 1) * PAGE_SIZE);
                let out = match slot {
                    Some(slot) => pin.become_slot(slot),
                    None => {
                        let group = self.group_of(pin.entry());
                        pin.swap_out_to_log(group, page.unwrap_or_default(), workspace)
                    }
                };
                outcome.note(i, out);
            }
        }
    }
}

/// Each page's [`same::packed_word`]. Looked for in one go, before anything is pinned: a page's first touch is a cache miss,
/// and an atomic change between two of them would have each wait for the one before.
fn packed_words(pages: &[u8]) -> [Option<u64>; BLOCK_PAGES] {
    let mut words = [None; BLOCK_PAGES];
    for (word, page) in words.iter_mut().zip(pages.chunks_exact(PAGE_SIZE)) {
        *word = same::packed_word(page);
    }
    words
}

fn nth(first: Slot, n: usize) -> Option<Slot> {
    let index = first.index.checked_add(u32::try_from(n).ok()?)?;
    Some(Slot { index, ..first })
}

impl Waiting {
    const fn new() -> Self {
        Self {
            first: 0,
            len: 0,
            forbidden: 0,
            pinned: [(None, Word::FREE); BLOCK_PAGES],
        }
    }

    /// Is page `i` the neighbour of those that wait, and may go where they may?
    const fn is_followed_by(&self, i: usize, forbidden: ForbiddenSlots) -> bool {
        self.len == 0 || (i == self.first + self.len && forbidden == self.forbidden)
    }

    fn push(&mut self, i: usize, pin: Pin<'_>, forbidden: ForbiddenSlots) {
        if self.len == 0 {
            (self.first, self.forbidden) = (i, forbidden);
        }
        if let Some(place) = self.pinned.get_mut(self.first + self.len) {
            *place = (Some(pin.entry()), pin.into_word());
            self.len += 1;
        }
    }

    /// The first one's pin.
    fn pop<'a>(&mut self, layer: &'a SwapLayer) -> Option<Pin<'a>> {
        let (entry, word) = *self.pinned.get(self.first)?;
        self.first += 1;
        self.len -= 1;
        layer.adopt(entry?, word)
    }
}
