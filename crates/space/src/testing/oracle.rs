//! What is known of every entry in use, from what was done with it.

use crate::{EntryId, Freed, SwapInError, SwapOut};
use std::collections::BTreeMap;
use vswap_store::StoreError;
use vswap_store::testing::{noise_page, text_page};
use vswap_units::PAGE_SIZE;

/// A page, by how it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageOf {
    pub(super) kind: u8,
    pub(super) seed: u8,
}

impl PageOf {
    /// The bytes: always the same for the same page.
    pub(super) fn bytes(self) -> Vec<u8> {
        let seed = u64::from(self.seed);
        match self.kind % 6 {
            0 => vec![0; PAGE_SIZE],
            1 => (seed << 8).to_ne_bytes().repeat(PAGE_SIZE / 8),
            2 => (0.1 + self.seed as f64).to_ne_bytes().repeat(PAGE_SIZE / 8),
            3 => text_page(seed),
            4 => noise_page(seed),
            _ => {
                let mut page = noise_page(seed);
                page.iter_mut()
                    .skip(PAGE_SIZE / 2)
                    .for_each(|byte| *byte = self.seed);
                page
            }
        }
    }
}

/// What an entry's page should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    Frame(u32),
    Page(PageOf),
    Lost,
}

/// What may go wrong with a read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    /// The device may refuse.
    pub(super) refused: bool,
    /// Bytes may be changed often enough to be given up.
    pub(super) lossy: bool,
}

/// Counts and pages of the entries in use. Count 0: only the frame keeps it.
#[derive(Default)]
pub(super) struct Oracle {
    pub(super) entries: BTreeMap<EntryId, (u64, Known)>,
}

impl Oracle {
    pub(super) fn handed_out(&mut self, entry: EntryId) {
        let before = self.entries.insert(entry, (1, Known::Nothing));
        assert_eq!(before, None, "{entry:?} was handed out twice");
    }

    pub(super) fn of(&self, entry: EntryId) -> (u64, Known) {
        self.entries
            .get(&entry)
            .copied()
            .unwrap_or((0, Known::Nothing))
    }

    pub(super) fn is_live(&self, entry: EntryId) -> bool {
        self.entries.contains_key(&entry)
    }

    /// Does only its frame keep it?
    pub(super) fn is_orphan(&self, entry: EntryId) -> bool {
        matches!(self.entries.get(&entry), Some((0, _)))
    }

    pub(super) fn duplicated(&mut self, entry: EntryId, count: Option<u64>) {
        match self.entries.get_mut(&entry) {
            Some((known, _)) if *known > 0 => {
                *known += 1;
                assert_eq!(count, Some(*known));
            }
            _ => assert_eq!(count, None, "a dead {entry:?} came to life"),
        }
    }

    /// What `free` will say of these, and it happens.
    pub(super) fn free(&mut self, entries: &[EntryId]) -> Freed {
        let mut sum = Freed::default();
        for &entry in entries {
            match self.of(entry) {
                (0, _) => sum.dead += 1,
                (1, Known::Frame(_)) => {
                    sum.still_cached += 1;
                    self.set(entry, 0, self.of(entry).1);
                }
                (1, _) => {
                    sum.freed += 1;
                    self.entries.remove(&entry);
                }
                (count, known) => {
                    sum.still_counted += 1;
                    self.set(entry, count - 1, known);
                }
            }
        }
        sum
    }

    /// One owner less, and a frame does not keep the entry. The frame that comes free.
    pub(super) fn end(&mut self, entry: EntryId) -> Option<u32> {
        let (count, known) = self.of(entry);
        if count > 1 {
            self.set(entry, count - 1, known);
            return None;
        }
        self.entries.remove(&entry);
        match known {
            Known::Frame(frame) => Some(frame),
            _ => None,
        }
    }

    pub(super) fn cached(&mut self, entry: EntryId, frame: u32, bound: bool) {
        let (count, known) = self.of(entry);
        let may = self.is_live(entry) && known == Known::Nothing;
        assert_eq!(bound, may, "caching {entry:?}");
        if may {
            self.set(entry, count, Known::Frame(frame));
        }
    }

    pub(super) fn frame_taken(&mut self, entry: EntryId, taken: Option<u32>) {
        let (count, known) = self.of(entry);
        let Known::Frame(frame) = known else {
            assert_eq!(taken, None);
            return;
        };
        assert_eq!(taken, Some(frame));
        match count {
            0 => drop(self.entries.remove(&entry)),
            _ => self.set(entry, count, Known::Nothing),
        }
    }

    pub(super) fn swapped_out(
        &mut self,
        entry: EntryId,
        page: PageOf,
        end: Result<SwapOut, StoreError>,
    ) {
        let (count, _) = self.of(entry);
        match end {
            Ok(SwapOut::Unneeded) => {
                assert_eq!(count, 0, "{entry:?} was needed");
                self.entries.remove(&entry);
            }
            Ok(_) => self.set(entry, count, Known::Page(page)),
            Err(error) => {
                assert_eq!(error, StoreError::NoRoom);
                assert!(page.kind % 6 > 1, "a page of one word needs no room");
            }
        }
    }

    pub(super) fn swapped_in(
        &mut self,
        entry: EntryId,
        end: Result<(), SwapInError>,
        bytes: &[u8],
        trouble: Trouble,
    ) {
        let (count, known) = self.of(entry);
        match (known, end) {
            (Known::Nothing, Err(SwapInError::Empty))
            | (Known::Lost, Err(SwapInError::Poisoned)) => {}
            (Known::Frame(frame), Err(SwapInError::Cached(found))) => assert_eq!(frame, found),
            (Known::Page(page), Ok(())) => assert!(bytes == page.bytes(), "{entry:?}: wrong bytes"),
            (Known::Page(_), Err(SwapInError::Store(StoreError::Io(_)))) if trouble.refused => {}
            (Known::Page(_), Err(SwapInError::Poisoned)) if trouble.lossy => {
                self.set(entry, count, Known::Lost);
            }
            (known, end) => unexpected(entry, known, end),
        }
    }

    pub(super) fn lost(&mut self, entry: EntryId) {
        if let (1.., _) = self.of(entry) {
            self.set(entry, self.of(entry).0, Known::Lost);
        }
    }

    fn set(&mut self, entry: EntryId, count: u64, known: Known) {
        self.entries.insert(entry, (count, known));
    }
}

#[expect(clippy::panic, reason = "an oracle says no by panicking")]
fn unexpected(entry: EntryId, known: Known, end: Result<(), SwapInError>) -> ! {
    panic!("{entry:?} should be {known:?} and reads as {end:?}")
}
