//! The staging area: frames, in runs of 16 that mirror a block.
//!
//! Page `slot` of a block is only ever staged in frame `slot` of a run, so a
//! contiguous part of a block is contiguous in its run and moves in one call.
//!
//! ```text
//!            evict: MOVE out             write-out: compress
//!   Empty ───────────────────► Cached ───────────────────────► Spare
//!     ▲                          │ all touched again              │
//!     └──────────────────────────┴────────────────────────────────┘
//!        swap-in: decode into a spare run's frames, MOVE in
//! ```
//!
//! **Who owns a run:** a run popped from a list belongs to whoever popped it,
//! until it is put back. A *cached* run belongs to the block whose
//! `frame_run` names it, under that block's lock; its place in the `cached`
//! queue is only a reminder to come back. The `present` bits (which frames
//! have a physical page) belong to the owner of the run.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use vswap_platform::errno::Errno;
use vswap_platform::lazy::LazySlice;
use vswap_platform::map::AnonMap;
use vswap_platform::sync::RankedMutex;
use vswap_units::{BLOCK_PAGES, BLOCK_SIZE, PAGE_SIZE, rank};

use crate::empty_runs::EmptyRuns;
use crate::region::{HUGE_PAGE, runs_of, span};

struct Lists {
    empty: EmptyRuns,
    spare: Vec<u32>,
    cached: VecDeque<u32>,
}

/// The pool of frame runs.
pub struct Frames {
    area: AnonMap,
    runs: usize,
    present: LazySlice<AtomicU32>,
    owner: LazySlice<AtomicU32>,
    lists: RankedMutex<Lists, { rank::FRAME }>,
    present_pages: AtomicU64,
}

impl Frames {
    /// A pool of `runs` frame runs, none with a physical page yet.
    ///
    /// # Errors
    /// The kernel's, when the area cannot be mapped.
    pub fn new(runs: usize) -> Result<Self, Errno> {
        let area = AnonMap::new(runs * BLOCK_SIZE, HUGE_PAGE)?;
        let _ = vswap_platform::map::no_huge_pages(area.addr(), area.len());
        let ids = u32::try_from(runs).unwrap_or(u32::MAX);
        Ok(Self {
            area,
            runs,
            present: LazySlice::reserve(runs, runs)?,
            owner: LazySlice::reserve(runs, runs)?,
            lists: RankedMutex::new(Lists {
                empty: EmptyRuns::all(ids),
                spare: Vec::with_capacity(runs),
                cached: VecDeque::with_capacity(runs + 1),
            }),
            present_pages: AtomicU64::new(0),
        })
    }

    /// First address of the area.
    pub fn base(&self) -> usize {
        self.area.addr()
    }

    /// Length of the area in bytes.
    pub fn bytes(&self) -> usize {
        self.area.len()
    }

    /// Number of runs.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// Address of frame `slot` of `run`.
    pub fn addr(&self, run: u32, slot: usize) -> usize {
        self.base() + run as usize * BLOCK_SIZE + slot * PAGE_SIZE
    }

    /// The frame number of `slot` of `run`, as the swap cache names it.
    pub fn frame(run: u32, slot: usize) -> u32 {
        run * BLOCK_PAGES as u32 + slot as u32
    }

    /// The run a frame number belongs to.
    pub fn run_of(frame: u32) -> u32 {
        frame / BLOCK_PAGES as u32
    }

    /// The bytes of neighbouring frames that are present, to read.
    pub fn pages(&self, run: u32, first: usize, count: usize) -> Option<&[u8]> {
        let wanted = span(first, count);
        (self.present(run) & wanted == wanted).then_some(())?;
        let offset = run as usize * BLOCK_SIZE + first * PAGE_SIZE;
        self.area.slice(offset, count * PAGE_SIZE)
    }

    /// The bytes of a present frame, to write. The caller owns the run.
    pub fn page_mut(&self, run: u32, slot: usize) -> Option<&mut [u8]> {
        self.is_present(run, slot).then_some(())?;
        self.area
            .slice_mut(run as usize * BLOCK_SIZE + slot * PAGE_SIZE, PAGE_SIZE)
    }

    /// Copies `count` present pages at a raw address into frames from `slot` on
    /// (kernels without MOVE).
    pub fn copy_in(&self, run: u32, slot: usize, addr: usize, count: usize) {
        let offset = run as usize * BLOCK_SIZE + slot * PAGE_SIZE;
        let _ = self.area.copy_from_address(offset, addr, count * PAGE_SIZE);
    }

    /// Which frames of the run have a physical page.
    pub fn present(&self, run: u32) -> u16 {
        let bits = self.present.get(run as usize);
        bits.map_or(0, |bits| bits.load(Ordering::Relaxed) as u16)
    }

    fn is_present(&self, run: u32, slot: usize) -> bool {
        self.present(run) & (1 << slot) != 0
    }

    /// Frames of `mask` now have a physical page.
    pub fn set_present(&self, run: u32, mask: u16) {
        let Some(bits) = self.present.get(run as usize) else {
            return;
        };
        let old = bits.fetch_or(u32::from(mask), Ordering::Relaxed) as u16;
        self.count(i64::from((mask & !old).count_ones()));
    }

    /// Frames of `mask` no longer have a physical page.
    pub fn set_absent(&self, run: u32, mask: u16) {
        let Some(bits) = self.present.get(run as usize) else {
            return;
        };
        let old = bits.fetch_and(!u32::from(mask), Ordering::Relaxed) as u16;
        self.count(-i64::from((mask & old).count_ones()));
    }

    fn count(&self, change: i64) {
        self.present_pages
            .fetch_add(change as u64, Ordering::Relaxed);
    }

    /// Physical pages in the staging area.
    pub fn present_pages(&self) -> u64 {
        self.present_pages.load(Ordering::Relaxed)
    }

    /// Gives the physical pages of `mask` back to the kernel; returns how many.
    pub fn discard(&self, run: u32, mask: u16) -> u64 {
        let mask = mask & self.present(run);
        for (first, count) in runs_of(mask) {
            let offset = run as usize * BLOCK_SIZE + first * PAGE_SIZE;
            if self.area.discard(offset, count * PAGE_SIZE).is_ok() {
                self.set_absent(run, span(first, count));
            }
        }
        u64::from((mask & !self.present(run)).count_ones())
    }

    /// Gives all physical pages of owned runs back to the kernel, those of
    /// neighbours at one go; returns how many. The runs are in order.
    pub fn discard_all(&self, runs: &[u32]) -> u64 {
        let before = self.present_in(runs);
        for neighbours in runs.chunk_by(|run, next| run + 1 == *next) {
            let first = neighbours.first().map_or(0, |run| *run as usize);
            let (offset, len) = (first * BLOCK_SIZE, neighbours.len() * BLOCK_SIZE);
            if self.present_in(neighbours) > 0 && self.area.discard(offset, len).is_ok() {
                for run in neighbours {
                    self.set_absent(*run, u16::MAX);
                }
            }
        }
        before - self.present_in(runs)
    }

    fn present_in(&self, runs: &[u32]) -> u64 {
        let pages = runs.iter().map(|run| self.present(*run).count_ones());
        pages.map(u64::from).sum()
    }

    /// A run without physical pages.
    pub fn pop_empty(&self) -> Option<u32> {
        self.lists.lock().empty.pop()
    }

    /// `count` neighbouring runs without physical pages: the first one.
    pub fn pop_side_by_side(&self, count: usize) -> Option<u32> {
        self.lists.lock().empty.pop_side_by_side(count)
    }

    /// How many runs have no physical pages.
    pub fn empty_runs(&self) -> usize {
        self.lists.lock().empty.len()
    }

    /// A run with physical pages whose contents nobody needs.
    pub fn pop_spare(&self) -> Option<u32> {
        self.lists.lock().spare.pop()
    }

    /// How many spare runs there are.
    pub fn spare_runs(&self) -> usize {
        self.lists.lock().spare.len()
    }

    /// How many runs wait in the swap cache.
    pub fn cached_runs(&self) -> usize {
        self.lists.lock().cached.len()
    }

    /// Puts an owned run back where its frames say it belongs.
    pub fn put(&self, run: u32) {
        let is_empty = self.present(run) == 0;
        let mut lists = self.lists.lock();
        if is_empty {
            lists.empty.insert(run);
        } else {
            lists.spare.push(run);
        }
    }

    /// Queues a run that now holds cached pages of `block`.
    pub fn put_cached(&self, run: u32, block: usize) {
        if let Some(owner) = self.owner.get(run as usize) {
            owner.store(block as u32, Ordering::Relaxed);
        }
        self.lists.lock().cached.push_back(run);
    }

    /// The oldest cached run and the block it was taken from. The caller locks
    /// that block and looks again: only then is the run its own.
    pub fn pop_cached(&self) -> Option<(u32, usize)> {
        let run = self.lists.lock().cached.pop_front()?;
        let owner = self.owner.get(run as usize)?;
        Some((run, owner.load(Ordering::Relaxed) as usize))
    }

    /// The oldest cached run that was taken from a block `mine` says yes to. A
    /// look at every cached run in the worst case, and those are few.
    pub fn pop_cached_where(&self, mine: &dyn Fn(usize) -> bool) -> Option<(u32, usize)> {
        let mut lists = self.lists.lock();
        let block_of = |run: u32| {
            let owner = self.owner.get(run as usize);
            owner.map_or(0, |owner| owner.load(Ordering::Relaxed) as usize)
        };
        let at = lists.cached.iter().position(|&run| mine(block_of(run)))?;
        let run = lists.cached.remove(at)?;
        Some((run, block_of(run)))
    }

    /// Puts a run back as the oldest cached one (its block was busy).
    pub fn requeue_cached(&self, run: u32) {
        self.lists.lock().cached.push_front(run);
    }

    /// Every run is in exactly one place: on a list, or in an owner's hands.
    pub fn check(&self, problems: &mut Vec<String>) {
        let lists = self.lists.lock();
        let mut seen = vec![0u8; self.runs];
        for run in lists.spare.iter().chain(&lists.cached) {
            if let Some(count) = seen.get_mut(*run as usize) {
                *count += 1;
            }
        }
        for (run, count) in (0..).zip(&mut seen) {
            *count += u8::from(lists.empty.contains(run));
        }
        if let Some(run) = seen.iter().position(|&count| count > 1) {
            problems.push(format!("frame run {run} is on more than one list"));
        }
        let present: u64 = (0..self.runs as u32)
            .map(|run| u64::from(self.present(run).count_ones()))
            .sum();
        if present != self.present_pages() {
            let counted = self.present_pages();
            problems.push(format!(
                "{present} frames are present, {counted} are counted"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_back_where_its_frames_say() {
        let frames = Frames::new(4).unwrap();
        let run = frames.pop_empty().unwrap();
        frames.set_present(run, 0b11);
        frames.put(run);
        assert_eq!(frames.pop_spare(), Some(run));
        frames.page_mut(run, 1).unwrap().fill(7);
        assert_eq!(frames.discard(run, 0xffff), 2);
        frames.put(run);
        assert_eq!(frames.spare_runs(), 0);
        assert_eq!(frames.present_pages(), 0);
        let mut problems = Vec::new();
        frames.check(&mut problems);
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn an_absent_frame_is_never_handed_out_to_write() {
        let frames = Frames::new(1).unwrap();
        let run = frames.pop_empty().unwrap();
        assert!(frames.page_mut(run, 0).is_none());
        frames.set_present(run, 1);
        assert!(frames.page_mut(run, 0).is_some());
    }

    #[test]
    fn runs_are_discarded_with_their_neighbours_and_no_other_is() {
        let frames = Frames::new(6).unwrap();
        for run in 0..6 {
            assert_eq!(frames.pop_empty(), Some(run));
            frames.set_present(run, 0b101 << run);
            frames.page_mut(run, run as usize).unwrap().fill(9);
        }
        assert_eq!(frames.discard_all(&[0, 1, 3, 5]), 8);
        assert_eq!(frames.present_pages(), 4);
        for run in 0..6 {
            let kept = [2, 4].contains(&run);
            assert_eq!(frames.present(run) != 0, kept);
            frames.set_present(run, u16::MAX);
            let byte = frames.page_mut(run, run as usize).unwrap()[0];
            assert_eq!(byte, if kept { 9 } else { 0 });
        }
    }

    #[test]
    fn cached_runs_come_back_oldest_first_with_their_block() {
        let frames = Frames::new(2).unwrap();
        let (a, b) = (frames.pop_empty().unwrap(), frames.pop_empty().unwrap());
        frames.put_cached(a, 10);
        frames.put_cached(b, 11);
        assert_eq!(frames.pop_cached(), Some((a, 10)));
        frames.requeue_cached(a);
        assert_eq!(frames.pop_cached(), Some((a, 10)));
        assert_eq!(frames.pop_cached(), Some((b, 11)));
        assert_eq!(frames.pop_cached(), None);
    }
}
