//! The run allocator by example, and against a bitmap that cannot be wrong.

use super::{RunAllocator, Want};
use proptest::prelude::*;

fn take(runs: &mut RunAllocator, pages: u64) -> u64 {
    runs.allocate(pages, 1, Want::Any).unwrap().start
}

#[test]
fn the_hottest_of_equal_kept_runs_is_reused_first() {
    let mut runs = RunAllocator::new(1000);
    let blocks: Vec<u64> = (0..6).map(|_| take(&mut runs, 10)).collect();
    runs.release(blocks[0], 10, true);
    runs.release(blocks[4], 10, true);
    runs.release(blocks[2], 10, true);
    let run = runs.allocate(10, 1, Want::Any).unwrap();
    assert_eq!((run.start, run.clean), (blocks[2], false));
    assert_eq!(take(&mut runs, 10), blocks[4]);
}

#[test]
fn a_tighter_kept_run_wins_over_a_hotter_one() {
    let mut runs = RunAllocator::new(1000);
    let small = take(&mut runs, 10);
    take(&mut runs, 1);
    let large = take(&mut runs, 50);
    take(&mut runs, 1);
    runs.release(small, 10, true);
    runs.release(large, 50, true);
    assert_eq!(take(&mut runs, 10), small);
}

#[test]
fn who_promises_zeros_gets_clean_pages_while_there_are_any() {
    let mut runs = RunAllocator::new(30);
    let block = take(&mut runs, 10);
    runs.release(block, 10, true);
    let run = runs.allocate(10, 1, Want::Clean).unwrap();
    assert!(run.clean);
    assert_eq!(run.start, 10);
    assert!(runs.allocate(10, 1, Want::Clean).unwrap().clean);
    let last = runs.allocate(10, 1, Want::Clean).unwrap();
    assert!(!last.clean);
}

#[test]
fn a_request_may_cross_from_kept_into_clean_pages() {
    let mut runs = RunAllocator::new(30);
    let block = take(&mut runs, 20);
    runs.release(block, 20, true);
    let run = runs.allocate(30, 1, Want::Any).unwrap();
    assert!(!run.clean);
    assert_eq!(runs.free_pages(), 0);
}

#[test]
fn a_double_free_is_refused() {
    let mut runs = RunAllocator::new(100);
    let block = take(&mut runs, 10);
    assert!(runs.release(block, 10, true));
    assert!(!runs.release(block, 10, true));
    assert!(!runs.release(95, 10, false));
    assert_eq!(runs.free_pages(), 100);
}

#[test]
fn trimming_hands_out_the_coldest_pages_first_and_leaves_them_clean() {
    let mut runs = RunAllocator::new(100);
    let cold = take(&mut runs, 10);
    take(&mut runs, 1);
    let hot = take(&mut runs, 10);
    take(&mut runs, 1);
    runs.release(cold, 10, true);
    runs.release(hot, 10, true);
    let mut seen = Vec::new();
    assert_eq!(
        runs.trim_coldest(12, &mut |start, pages| seen.push((start, pages))),
        12
    );
    assert_eq!(seen, [(cold, 10), (hot + 8, 2)]);
    assert_eq!(runs.kept_pages(), 8);
    assert_eq!(runs.trim(&mut |_, _| ()), 8);
    assert!(runs.is_clean(hot, 10));
}

#[test]
fn a_run_grows_where_it_stands_only_into_free_pages() {
    let mut runs = RunAllocator::new(40);
    let first = take(&mut runs, 10);
    let second = take(&mut runs, 10);
    assert!(!runs.grow_in_place(first, 10, 11));
    assert!(runs.grow_in_place(second, 10, 30));
    assert!(!runs.grow_in_place(second, 30, 31));
    assert_eq!(runs.free_pages(), 0);
}

#[test]
fn the_head_table_finds_a_block_from_any_of_its_pages() {
    let mut runs = RunAllocator::new(100);
    let block = take(&mut runs, 10);
    runs.set_head(block, 10, 64);
    assert_eq!(runs.head(block), Some(10));
    assert_eq!(runs.find(block + 9).unwrap().offset, 64);
    assert_eq!(runs.find(block + 10), None);
    assert_eq!(runs.clear_head(block).unwrap().pages, 10);
    assert_eq!(runs.head(block), None);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Page {
    Clean,
    Kept,
    Held,
}

#[derive(Clone, Debug)]
enum Step {
    Allocate { pages: u64, align: u64, clean: bool },
    Release { pick: usize, cut: u64, kept: bool },
    Grow { pick: usize, more: u64 },
    Trim { pages: u64 },
    Claim { start: u64, pages: u64 },
    Unmap { start: u64, pages: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u64..40, 0u32..5, any::<bool>()).prop_map(|(pages, shift, clean)| Step::Allocate {
            pages,
            align: 1 << shift,
            clean
        }),
        4 => (any::<usize>(), 0u64..6, any::<bool>())
            .prop_map(|(pick, cut, kept)| Step::Release { pick, cut, kept }),
        1 => (any::<usize>(), 0u64..20).prop_map(|(pick, more)| Step::Grow { pick, more }),
        1 => (0u64..60).prop_map(|pages| Step::Trim { pages }),
        1 => (0u64..200, 1u64..8).prop_map(|(start, pages)| Step::Claim { start, pages }),
        1 => (0u64..200, 1u64..40).prop_map(|(start, pages)| Step::Unmap { start, pages }),
    ];
    prop::collection::vec(step, 1..120)
}

/// The allocator and the bitmap, driven together.
struct Pair {
    runs: RunAllocator,
    bitmap: Vec<Page>,
    held: Vec<(u64, u64)>,
}

impl Pair {
    fn new(pages: u64) -> Self {
        let bitmap = vec![Page::Clean; pages as usize];
        Self {
            runs: RunAllocator::new(pages),
            bitmap,
            held: Vec::new(),
        }
    }

    fn slice(&mut self, start: u64, pages: u64) -> &mut [Page] {
        &mut self.bitmap[start as usize..(start + pages) as usize]
    }

    fn fits(&self, pages: u64, align: u64) -> bool {
        let last = self.bitmap.len().saturating_sub(pages as usize);
        (0..=last).step_by(align as usize).any(|start| {
            let range = self.bitmap.get(start..start + pages as usize);
            range.is_some_and(|range| range.iter().all(|&page| page != Page::Held))
        })
    }

    fn allocate(&mut self, pages: u64, align: u64, clean: bool) {
        let want = if clean { Want::Clean } else { Want::Any };
        let possible = self.fits(pages, align);
        let Some(run) = self.runs.allocate(pages, align, want) else {
            assert!(!possible, "refused though it fits");
            return;
        };
        assert_eq!((run.start % align, run.pages), (0, pages));
        let range = self.slice(run.start, pages);
        assert!(range.iter().all(|&page| page != Page::Held));
        assert_eq!(run.clean, range.iter().all(|&page| page == Page::Clean));
        assert_eq!(run.kept, range.iter().all(|&page| page == Page::Kept));
        range.fill(Page::Held);
        self.held.push((run.start, pages));
    }

    /// Releases all of a run but `cut` pages at its front, which stay held.
    fn release(&mut self, pick: usize, cut: u64, kept: bool) {
        if self.held.is_empty() {
            return;
        }
        let at = pick % self.held.len();
        let (start, pages) = self.held.swap_remove(at);
        let cut = cut.min(pages - 1);
        assert!(self.runs.release(start + cut, pages - cut, kept));
        assert!(!self.runs.release(start + cut, 1, kept));
        let kind = if kept { Page::Kept } else { Page::Clean };
        self.slice(start + cut, pages - cut).fill(kind);
        if cut > 0 {
            self.held.push((start, cut));
        }
    }

    fn grow(&mut self, pick: usize, more: u64) {
        if self.held.is_empty() {
            return;
        }
        let at = pick % self.held.len();
        let (start, pages) = self.held[at];
        let end = (start + pages) as usize;
        let range = self.bitmap.get(end..end + more as usize);
        let possible = range.is_some_and(|range| range.iter().all(|&page| page != Page::Held));
        assert_eq!(
            self.runs.grow_in_place(start, pages, pages + more),
            possible
        );
        if possible {
            self.slice(start + pages, more).fill(Page::Held);
            self.held[at].1 += more;
        }
    }

    fn trim(&mut self, pages: u64) {
        let kept = self.count(Page::Kept);
        let mut ranges = Vec::new();
        let trimmed = self
            .runs
            .trim_coldest(pages, &mut |start, pages| ranges.push((start, pages)));
        assert_eq!(trimmed, pages.min(kept));
        for (start, pages) in ranges {
            let range = self.slice(start, pages);
            assert!(range.iter().all(|&page| page == Page::Kept));
            range.fill(Page::Clean);
        }
    }

    fn claim(&mut self, start: u64, pages: u64) {
        let pages = pages.min(self.bitmap.len() as u64 - start);
        let range = self.slice(start, pages);
        let free = range.iter().filter(|&&page| page != Page::Held).count() as u64;
        if free != pages {
            return;
        }
        range.fill(Page::Held);
        assert_eq!(self.runs.claim(start, pages), free);
        self.held.push((start, pages));
    }

    /// As munmap does: whatever is held of the range ends, holes are skipped.
    fn unmap(&mut self, start: u64, pages: u64) {
        let pages = pages.min(self.bitmap.len() as u64 - start);
        let end = start + pages;
        let range = self.slice(start, pages);
        let held = range.iter().filter(|&&page| page == Page::Held).count() as u64;
        for page in range.iter_mut().filter(|page| **page == Page::Held) {
            *page = Page::Clean;
        }
        assert_eq!(self.runs.release_held(start, pages), held);
        let cut = |&(at, length): &(u64, u64)| {
            let left = (at, length.min(start.saturating_sub(at)));
            let right = at + length - (at + length).min(end).max(at);
            [left, (at + length - right, right)]
        };
        let pieces = self.held.iter().flat_map(cut);
        self.held = pieces.filter(|&(_, length)| length > 0).collect();
    }

    fn count(&self, kind: Page) -> u64 {
        self.bitmap.iter().filter(|&&page| page == kind).count() as u64
    }

    fn check(&self) {
        self.runs.free.assert_consistent();
        let held = self.count(Page::Held);
        assert_eq!(self.runs.allocated_pages(), held);
        assert_eq!(self.runs.kept_pages(), self.count(Page::Kept));
        for (page, &kind) in self.bitmap.iter().enumerate() {
            let page = page as u64;
            assert_eq!(self.runs.is_free(page), kind != Page::Held);
            assert_eq!(self.runs.is_clean(page, 1), kind == Page::Clean);
        }
    }
}

proptest! {
    #[test]
    fn the_run_allocator_agrees_with_a_bitmap(steps in steps()) {
        let mut pair = Pair::new(200);
        for step in steps {
            match step {
                Step::Allocate { pages, align, clean } => pair.allocate(pages, align, clean),
                Step::Release { pick, cut, kept } => pair.release(pick, cut, kept),
                Step::Grow { pick, more } => pair.grow(pick, more),
                Step::Trim { pages } => pair.trim(pages),
                Step::Claim { start, pages } => pair.claim(start, pages),
                Step::Unmap { start, pages } => pair.unmap(start, pages),
            }
            pair.check();
        }
    }
}
