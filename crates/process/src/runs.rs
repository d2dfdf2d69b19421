//! Hands out runs of pages of one reservation.
//!
//! A pure data structure over page numbers: it never touches the pages. Freed
//! runs stay resident and are reused hottest first, because giving them back
//! to the kernel at every free costs programs with large temporaries eight
//! times their run time; reclaim takes them away first, coldest first, with
//! [`RunAllocator::trim_coldest`]. So every free page is *clean* (the kernel
//! holds nothing there, it reads as zero) or *kept* (it may hold old bytes).

mod free;
mod heads;
mod recent;
#[cfg(test)]
mod tests;

pub use heads::Head;

use free::FreeMap;
use heads::HeadTable;
use recent::Recent;

/// Which free pages a request would rather have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The hottest kept pages that fit: whoever asks overwrites them anyway.
    Any,
    /// Clean pages, for callers that promise zeros; kept ones if need be.
    Clean,
}

/// Pages handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First page.
    pub start: u64,
    /// How many.
    pub pages: u64,
    /// Whether every page of it reads as zero without further work.
    pub clean: bool,
    /// Whether every page of it was kept: it is as its last owner left it.
    pub kept: bool,
}

/// The run allocator of one reservation.
#[derive(Debug)]
pub struct RunAllocator {
    total: u64,
    free: FreeMap,
    recent: Recent,
    heads: HeadTable,
    stamp: u64,
}

impl RunAllocator {
    /// A reservation of `total_pages`, all free and clean.
    #[must_use]
    pub fn new(total_pages: u64) -> Self {
        let mut free = FreeMap::default();
        if total_pages > 0 {
            free.insert(0, total_pages, 0);
        }
        Self {
            total: total_pages,
            free,
            recent: Recent::new(),
            heads: HeadTable::default(),
            stamp: 0,
        }
    }

    /// Takes `pages` pages that begin at a multiple of `align_pages`.
    pub fn allocate(&mut self, pages: u64, align_pages: u64, want: Want) -> Option<Run> {
        if pages == 0 || pages > self.free_pages() {
            return None;
        }
        if want == Want::Any
            && let Some(start) = self.recent.take(pages, align_pages)
        {
            return Some(Run {
                start,
                pages,
                clean: false,
                kept: true,
            });
        }
        let start = self.find_place(pages, align_pages, want)?;
        let removed = self.free.remove(start, pages);
        Some(Run {
            start,
            pages,
            clean: removed.clean,
            kept: removed.kept,
        })
    }

    fn find_place(&mut self, pages: u64, align: u64, want: Want) -> Option<u64> {
        if want == Want::Clean
            && let Some(start) = self.free.fit_clean(pages, align)
        {
            return Some(start);
        }
        self.sort_in();
        if want == Want::Any
            && let Some(start) = self.free.fit_kept(pages, align)
        {
            return Some(start);
        }
        self.free.fit_span(pages, align)
    }

    /// Gives pages back; `kept` says that they may still be resident or hold
    /// old bytes. Any part of a run may be given back alone. Returns false,
    /// and changes nothing, when a page of the range is free already or lies
    /// outside: a double free must not hand the same page out twice.
    pub fn release(&mut self, start: u64, pages: u64, kept: bool) -> bool {
        let inside = start
            .checked_add(pages)
            .is_some_and(|end| end <= self.total);
        let twice = self.free.touches(start, pages) || self.recent.touches(start, pages);
        if pages == 0 || !inside || twice {
            return false;
        }
        if !kept {
            self.free.insert(start, pages, 0);
        } else if let Some((start, pages)) = self.recent.push(start, pages) {
            let stamp = self.next_stamp();
            self.free.insert(start, pages, stamp);
        }
        true
    }

    /// Gives back whatever of the range is held, as clean pages: for `munmap`,
    /// which may cross holes. Returns the pages given back.
    pub fn release_held(&mut self, start: u64, pages: u64) -> u64 {
        self.sort_in();
        let end = start.saturating_add(pages).min(self.total);
        let mut given = 0;
        let mut from = start;
        while from < end {
            let (hole, after) = self.free.next_free(from, end);
            if hole > from {
                self.free.insert(from, hole - from, 0);
                given += hole - from;
            }
            from = after;
        }
        given
    }

    /// Hands out every kept range to be discarded, and marks it clean. Returns
    /// the pages handed out.
    pub fn trim(&mut self, discard: &mut dyn FnMut(u64, u64)) -> u64 {
        self.trim_coldest(u64::MAX, discard)
    }

    /// Like [`Self::trim`], coldest first, and stops after `pages` pages.
    pub fn trim_coldest(&mut self, pages: u64, discard: &mut dyn FnMut(u64, u64)) -> u64 {
        self.sort_in();
        let mut trimmed = 0;
        while trimmed < pages {
            let Some((start, length)) = self.free.cool_coldest(pages - trimmed) else {
                break;
            };
            discard(start, length);
            trimmed += length;
        }
        trimmed
    }

    /// Extends the run of `old` pages at `start` to `new` pages where it
    /// stands, if the pages after it are free. They may hold old bytes: ask
    /// [`Self::is_clean`] first where that matters.
    pub fn grow_in_place(&mut self, start: u64, old: u64, new: u64) -> bool {
        let (Some(from), Some(more)) = (start.checked_add(old), new.checked_sub(old)) else {
            return false;
        };
        if more == 0 {
            return true;
        }
        self.sort_in();
        if !self.free.covers(from, more) {
            return false;
        }
        self.free.remove(from, more);
        true
    }

    /// Takes whatever pages of the range are free out of circulation, so that
    /// somebody else may map over it. Returns how many were free.
    pub fn claim(&mut self, start: u64, pages: u64) -> u64 {
        self.sort_in();
        self.free.remove(start, pages).pages
    }

    /// Pages of the reservation.
    #[must_use]
    pub fn total_pages(&self) -> u64 {
        self.total
    }

    /// Pages nobody holds.
    #[must_use]
    pub fn free_pages(&self) -> u64 {
        self.free.free_pages() + self.recent.pages()
    }

    /// Free pages that may still be resident.
    #[must_use]
    pub fn kept_pages(&self) -> u64 {
        self.free.kept_pages() + self.recent.pages()
    }

    /// Pages handed out.
    #[must_use]
    pub fn allocated_pages(&self) -> u64 {
        self.total - self.free_pages()
    }

    /// Whether nobody holds the page.
    #[must_use]
    pub fn is_free(&self, page: u64) -> bool {
        self.free.covers(page, 1) || self.recent.touches(page, 1)
    }

    /// Whether every page of the range is free and clean.
    #[must_use]
    pub fn is_clean(&self, start: u64, pages: u64) -> bool {
        self.free.is_clean(start, pages)
    }

    /// Remembers the run at `start` as a block of the malloc family; `offset`
    /// is the distance in bytes of the program's pointer from its first byte.
    pub fn set_head(&mut self, start: u64, pages: u64, offset: u64) {
        self.heads.set(Head {
            start,
            pages,
            offset,
        });
    }

    /// Forgets the block at `start`, and says what it was.
    pub fn clear_head(&mut self, start: u64) -> Option<Head> {
        self.heads.clear(start)
    }

    /// The pages of the block that begins at `start`.
    #[must_use]
    pub fn head(&self, start: u64) -> Option<u64> {
        self.heads.at(start).map(|head| head.pages)
    }

    /// The block that holds `page`.
    #[must_use]
    pub fn find(&self, page: u64) -> Option<Head> {
        self.heads.containing(page)
    }

    /// Blocks of the malloc family, and the pages of all of them.
    #[must_use]
    pub fn heads(&self) -> (u64, u64) {
        (self.heads.count(), self.heads.pages())
    }

    /// Sorts the runs freed last into the free pages, so that they coalesce.
    fn sort_in(&mut self) {
        while let Some((start, pages)) = self.recent.pop_oldest() {
            let stamp = self.next_stamp();
            self.free.insert(start, pages, stamp);
        }
    }

    fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }
}
