//! The runs freed last, before they are sorted in.
//!
//! Programs free and ask for the same sizes over and over (temporaries in a
//! loop). Sorting a run into every order of the free pages and out again costs
//! ten times as much as finding it here, newest first.

/// How many runs wait; more would make the search as slow as the sorting.
const MOST: usize = 16;

/// Kept runs by time of release, oldest first.
#[derive(Debug)]
pub(super) struct Recent {
    runs: Vec<(u64, u64)>,
    pages: u64,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self {
            runs: Vec::with_capacity(MOST),
            pages: 0,
        }
    }

    /// Pages of all of them.
    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    /// Whether any page of the range is in one of them.
    pub(super) fn touches(&self, start: u64, pages: u64) -> bool {
        let end = start.saturating_add(pages);
        self.runs
            .iter()
            .any(|&(at, length)| at < end && at + length > start)
    }

    /// Adds a run; gives the oldest back when there were too many.
    pub(super) fn push(&mut self, start: u64, pages: u64) -> Option<(u64, u64)> {
        let oldest = (self.runs.len() >= MOST).then(|| self.runs.remove(0));
        if let Some((_, length)) = oldest {
            self.pages -= length;
        }
        self.runs.push((start, pages));
        self.pages += pages;
        oldest
    }

    /// Takes the newest run of exactly this size and alignment.
    pub(super) fn take(&mut self, pages: u64, align: u64) -> Option<u64> {
        let align = align.max(1);
        let fits = |&(start, length): &(u64, u64)| length == pages && start.is_multiple_of(align);
        let index = self.runs.iter().rposition(fits)?;
        let (start, _) = self.runs.remove(index);
        self.pages -= pages;
        Some(start)
    }

    /// Takes the oldest run.
    pub(super) fn pop_oldest(&mut self) -> Option<(u64, u64)> {
        if self.runs.is_empty() {
            return None;
        }
        let (start, pages) = self.runs.remove(0);
        self.pages -= pages;
        Some((start, pages))
    }
}
