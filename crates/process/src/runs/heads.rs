//! Which runs are blocks of the malloc family, and how long they are.

use std::collections::BTreeMap;

/// A block handed out by the malloc family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// First page of the run.
    pub start: u64,
    /// Pages of the run.
    pub pages: u64,
    /// Bytes from the run's first byte to the pointer the program holds.
    pub offset: u64,
}

/// The blocks by first page.
#[derive(Debug, Default)]
pub(super) struct HeadTable {
    heads: BTreeMap<u64, (u64, u64)>,
}

impl HeadTable {
    pub(super) fn set(&mut self, head: Head) {
        self.heads.insert(head.start, (head.pages, head.offset));
    }

    pub(super) fn clear(&mut self, start: u64) -> Option<Head> {
        let (pages, offset) = self.heads.remove(&start)?;
        Some(Head {
            start,
            pages,
            offset,
        })
    }

    pub(super) fn at(&self, start: u64) -> Option<Head> {
        let &(pages, offset) = self.heads.get(&start)?;
        Some(Head {
            start,
            pages,
            offset,
        })
    }

    pub(super) fn containing(&self, page: u64) -> Option<Head> {
        let (&start, &(pages, offset)) = self.heads.range(..=page).next_back()?;
        (page - start < pages).then_some(Head {
            start,
            pages,
            offset,
        })
    }

    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.heads.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn pages(&self) -> u64 {
        self.heads.values().map(|&(pages, _)| pages).sum()
    }
}
