//! The free pages of a reservation, by address, by size and by age.
//!
//! Two views of the same pages are kept side by side. A *part* is a maximal
//! free range of one kind: clean (the kernel holds nothing there) or kept
//! (still resident from its last owner, with a stamp that says how recently).
//! A *span* is a maximal free range of any kind, so a request may cross from a
//! kept part into a clean one when neither would do alone.

use std::collections::{BTreeMap, BTreeSet};

/// How many free ranges are looked at for one whose alignment happens to fit,
/// before settling for one that is large enough to be aligned for sure.
const ALIGNMENT_TRIES: usize = 32;

/// A free range of one kind; `stamp` 0 means clean, larger means hotter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    pages: u64,
    stamp: u64,
}

/// What was taken out of the free pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Removed {
    /// How many pages of the range were free.
    pub(super) pages: u64,
    /// All of those were clean.
    pub(super) clean: bool,
    /// All of those were kept.
    pub(super) kept: bool,
}

/// The free pages and every order in which they are searched.
#[derive(Debug, Default)]
pub(super) struct FreeMap {
    parts: BTreeMap<u64, Part>,
    kept_by_size: BTreeSet<(u64, u64, u64)>,
    kept_by_age: BTreeSet<(u64, u64)>,
    clean_by_size: BTreeSet<(u64, u64)>,
    spans: BTreeMap<u64, u64>,
    spans_by_size: BTreeSet<(u64, u64)>,
    free_pages: u64,
    kept_pages: u64,
}

/// First page at or after `start` that is a multiple of `align`.
fn align_up(start: u64, align: u64) -> Option<u64> {
    start.checked_next_multiple_of(align.max(1))
}

/// Where a request of `pages` aligned to `align` fits in a range, if it does.
fn place_in(start: u64, length: u64, pages: u64, align: u64) -> Option<u64> {
    let place = align_up(start, align)?;
    let needed = place.checked_sub(start)?.checked_add(pages)?;
    (needed <= length).then_some(place)
}

impl FreeMap {
    pub(super) fn free_pages(&self) -> u64 {
        self.free_pages
    }

    pub(super) fn kept_pages(&self) -> u64 {
        self.kept_pages
    }

    /// Whether every page of the range is free.
    pub(super) fn covers(&self, start: u64, pages: u64) -> bool {
        let Some((&at, &length)) = self.spans.range(..=start).next_back() else {
            return false;
        };
        start.saturating_add(pages) <= at.saturating_add(length)
    }

    /// Whether any page of the range is free.
    pub(super) fn touches(&self, start: u64, pages: u64) -> bool {
        let end = start.saturating_add(pages);
        self.spans
            .range(..end)
            .next_back()
            .is_some_and(|(&at, &length)| at.saturating_add(length) > start)
    }

    /// The first free range at or after `from`, as (first page, page after it);
    /// `(end, end)` if there is none before `end`.
    pub(super) fn next_free(&self, from: u64, end: u64) -> (u64, u64) {
        if let Some((&at, &length)) = self.spans.range(..=from).next_back()
            && at + length > from
        {
            return (from, (at + length).min(end));
        }
        match self.spans.range(from..end).next() {
            Some((&at, &length)) => (at, (at + length).min(end)),
            None => (end, end),
        }
    }

    /// Whether every page of the range is free and clean.
    pub(super) fn is_clean(&self, start: u64, pages: u64) -> bool {
        let Some((&at, part)) = self.parts.range(..=start).next_back() else {
            return false;
        };
        part.stamp == 0 && start.saturating_add(pages) <= at.saturating_add(part.pages)
    }

    /// Adds a range that is not free yet. `stamp` 0 means clean.
    pub(super) fn insert(&mut self, start: u64, pages: u64, stamp: u64) {
        self.join_span(start, pages);
        self.join_part(start, pages, stamp);
    }

    /// Takes a range out of whatever free parts it overlaps.
    pub(super) fn remove(&mut self, start: u64, pages: u64) -> Removed {
        let end = start.saturating_add(pages);
        let mut removed = Removed {
            pages: 0,
            clean: true,
            kept: true,
        };
        while let Some((at, part)) = self.part_before(end, start) {
            let (from, to) = (at.max(start), (at + part.pages).min(end));
            self.cut_part(at, part, from, to);
            self.cut_span(from, to);
            removed.pages += to - from;
            removed.clean &= part.stamp == 0;
            removed.kept &= part.stamp != 0;
        }
        removed
    }

    /// The best kept range: the tightest fit, the hottest among equals.
    pub(super) fn fit_kept(&self, pages: u64, align: u64) -> Option<u64> {
        let sizes = |least: u64| {
            self.kept_by_size
                .range((least, 0, 0)..)
                .map(|&(length, _, start)| (start, length))
        };
        first_fit(sizes, pages, align)
    }

    /// The best clean range: the tightest fit, the lowest among equals.
    pub(super) fn fit_clean(&self, pages: u64, align: u64) -> Option<u64> {
        let sizes = |least: u64| {
            self.clean_by_size
                .range((least, 0)..)
                .map(|&(length, start)| (start, length))
        };
        first_fit(sizes, pages, align)
    }

    /// The best range of any kind, kept and clean parts together.
    pub(super) fn fit_span(&self, pages: u64, align: u64) -> Option<u64> {
        let sizes = |least: u64| {
            self.spans_by_size
                .range((least, 0)..)
                .map(|&(length, start)| (start, length))
        };
        first_fit(sizes, pages, align)
    }

    /// Marks the coldest kept pages clean, at most `limit` of them, and says
    /// which. The high end of a part goes first: allocation takes the low end.
    pub(super) fn cool_coldest(&mut self, limit: u64) -> Option<(u64, u64)> {
        let &(_, at) = self.kept_by_age.first()?;
        let part = *self.parts.get(&at)?;
        let pages = part.pages.min(limit);
        if pages == 0 {
            return None;
        }
        let end = at + part.pages;
        self.cut_part(at, part, end - pages, end);
        self.join_part(end - pages, pages, 0);
        Some((end - pages, pages))
    }

    /// The last part that begins before `end` and reaches past `start`.
    fn part_before(&self, end: u64, start: u64) -> Option<(u64, Part)> {
        let (&at, &part) = self.parts.range(..end).next_back()?;
        (at + part.pages > start).then_some((at, part))
    }

    fn join_span(&mut self, start: u64, pages: u64) {
        let (mut start, mut pages) = (start, pages);
        if let Some((&left, &length)) = self.spans.range(..start).next_back()
            && left + length == start
        {
            self.drop_span(left, length);
            start = left;
            pages += length;
        }
        let right = start + pages;
        if let Some(&length) = self.spans.get(&right) {
            self.drop_span(right, length);
            pages += length;
        }
        self.add_span(start, pages);
    }

    fn cut_span(&mut self, from: u64, to: u64) {
        let Some((&at, &length)) = self.spans.range(..=from).next_back() else {
            return;
        };
        self.drop_span(at, length);
        if at < from {
            self.add_span(at, from - at);
        }
        if to < at + length {
            self.add_span(to, at + length - to);
        }
    }

    /// Adds a part, merged with neighbours of its kind. A merged kept part is
    /// as hot as its hottest page: the next allocation gets the low end of it.
    fn join_part(&mut self, start: u64, pages: u64, stamp: u64) {
        let (mut start, mut pages, mut stamp) = (start, pages, stamp);
        if let Some((&left, &part)) = self.parts.range(..start).next_back()
            && left + part.pages == start
            && (part.stamp == 0) == (stamp == 0)
        {
            self.drop_part(left, part);
            start = left;
            pages += part.pages;
            stamp = stamp.max(part.stamp);
        }
        let right = start + pages;
        if let Some(&part) = self.parts.get(&right)
            && (part.stamp == 0) == (stamp == 0)
        {
            self.drop_part(right, part);
            pages += part.pages;
            stamp = stamp.max(part.stamp);
        }
        self.add_part(start, Part { pages, stamp });
    }

    fn cut_part(&mut self, at: u64, part: Part, from: u64, to: u64) {
        let Part { pages, stamp } = part;
        self.drop_part(at, part);
        if at < from {
            let pages = from - at;
            self.add_part(at, Part { pages, stamp });
        }
        if to < at + pages {
            let pages = at + pages - to;
            self.add_part(to, Part { pages, stamp });
        }
    }

    fn add_span(&mut self, start: u64, pages: u64) {
        self.spans.insert(start, pages);
        self.spans_by_size.insert((pages, start));
    }

    fn drop_span(&mut self, start: u64, pages: u64) {
        self.spans.remove(&start);
        self.spans_by_size.remove(&(pages, start));
    }

    fn add_part(&mut self, start: u64, part: Part) {
        self.parts.insert(start, part);
        self.free_pages += part.pages;
        if part.stamp == 0 {
            self.clean_by_size.insert((part.pages, start));
        } else {
            self.kept_pages += part.pages;
            // Hotter parts sort first among equal sizes.
            self.kept_by_size.insert((part.pages, !part.stamp, start));
            self.kept_by_age.insert((part.stamp, start));
        }
    }

    fn drop_part(&mut self, start: u64, part: Part) {
        self.parts.remove(&start);
        self.free_pages -= part.pages;
        if part.stamp == 0 {
            self.clean_by_size.remove(&(part.pages, start));
        } else {
            self.kept_pages -= part.pages;
            self.kept_by_size.remove(&(part.pages, !part.stamp, start));
            self.kept_by_age.remove(&(part.stamp, start));
        }
    }

    /// Every order holds the same pages. For tests.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        let kept = self.parts.values().filter(|part| part.stamp != 0);
        assert_eq!(self.kept_pages, kept.clone().map(|part| part.pages).sum());
        assert_eq!(self.kept_by_size.len(), kept.clone().count());
        assert_eq!(self.kept_by_age.len(), kept.count());
        let clean = self.parts.values().filter(|part| part.stamp == 0);
        assert_eq!(self.clean_by_size.len(), clean.count());
        assert_eq!(self.spans_by_size.len(), self.spans.len());
        assert_eq!(
            self.free_pages,
            self.parts.values().map(|part| part.pages).sum()
        );
        assert_eq!(self.free_pages, self.spans.values().sum());
        let mut last: Option<(u64, bool)> = None;
        for (&start, part) in &self.parts {
            if let Some((end, kept)) = last {
                assert!(end <= start, "parts overlap");
                assert!(end < start || kept != (part.stamp != 0), "parts unmerged");
            }
            last = Some((start + part.pages, part.stamp != 0));
        }
    }
}

/// The first range, smallest first, in which the request fits. A range of
/// `pages + align - 1` always does, so misses of alignment stay bounded.
fn first_fit<R, I>(ranges: R, pages: u64, align: u64) -> Option<u64>
where
    R: Fn(u64) -> I,
    I: Iterator<Item = (u64, u64)>,
{
    ranges(pages)
        .take(ALIGNMENT_TRIES)
        .find_map(|(start, length)| place_in(start, length, pages, align))
        .or_else(|| {
            let (start, length) = ranges(pages.checked_add(align.max(1))? - 1).next()?;
            place_in(start, length, pages, align)
        })
        .or_else(|| {
            if align <= 1 {
                return None;
            }
            ranges(pages).find_map(|(start, length)| place_in(start, length, pages, align))
        })
}
