//! The engine's own allocator, ready for `#[global_allocator]`: size classes
//! carved from mappings of its own, never libc's malloc (which the preload
//! layer replaces by calls into this very engine).
//!
//! Small blocks (up to 32 KiB) come from per-class free lists and are reused,
//! never unmapped; larger ones are one mapping each. Not for the fault path.

use crate::{map, sync::RankedMutex};
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use vswap_units::rank;

/// Log2 of the smallest and the largest class.
const MIN_SHIFT: u32 = 4;
const MAX_SHIFT: u32 = 15;
/// Four classes per power of two keep the loss to rounding under a quarter.
const CLASSES: usize = ((MAX_SHIFT - MIN_SHIFT) * 4 + 1) as usize;
/// What is taken from the kernel at a time for small blocks.
const CHUNK: usize = 256 << 10;
/// Blocks are aligned to at least this.
const GRAIN: usize = 16;

static SHARED: RankedMutex<Blocks, { rank::ARENA }> = RankedMutex::new(Blocks::new());
static HELD: AtomicUsize = AtomicUsize::new(0);

/// The arena as an allocator. There is one arena per process; every value of
/// this type stands for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arena;

impl Arena {
    /// The process's arena.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

/// Bytes the arena has mapped.
#[must_use]
pub fn held_bytes() -> usize {
    HELD.load(Relaxed)
}

/// Before a fork: no other thread is inside the arena until [`fork_unlock`].
pub fn fork_lock() {
    SHARED.lock_for_fork();
}

/// After a fork, in parent and child.
pub fn fork_unlock() {
    SHARED.unlock_after_fork();
}

/// A freed block holds the link to the next one.
#[repr(C)]
struct Free {
    next: Option<NonNull<Free>>,
}

#[repr(C)]
struct Blocks {
    free: [*mut Free; CLASSES],
    /// The rest of the chunk being carved.
    fresh: usize,
    fresh_end: usize,
}

// SAFETY: the pointers are to blocks the lists own; whoever holds the lock may follow them.
unsafe impl Send for Blocks {}

impl Blocks {
    const fn new() -> Self {
        Self {
            free: [null_mut(); CLASSES],
            fresh: 0,
            fresh_end: 0,
        }
    }

    fn take(&mut self, class: usize) -> Option<NonNull<u8>> {
        let list = self.free.get_mut(class)?;
        if let Some(block) = NonNull::new(*list) {
            // SAFETY: blocks on the list are free and hold a link.
            *list = unsafe { block.as_ref() }
                .next
                .map_or(null_mut(), NonNull::as_ptr);
            return Some(block.cast());
        }
        self.carve(class)
    }

    fn give(&mut self, class: usize, block: NonNull<u8>) {
        let Some(list) = self.free.get_mut(class) else {
            return;
        };
        let link = block.cast::<Free>();
        // SAFETY: the block is free now, at least 16 bytes and aligned to 16.
        unsafe {
            link.write(Free {
                next: NonNull::new(*list),
            });
        }
        *list = link.as_ptr();
    }

    fn carve(&mut self, class: usize) -> Option<NonNull<u8>> {
        let size = size_of_class(class);
        let mut start = self.fresh.next_multiple_of(align_of_class(size));
        if start == 0 || start + size > self.fresh_end {
            self.fresh = map_counted(CHUNK)?;
            self.fresh_end = self.fresh + CHUNK;
            start = self.fresh;
        }
        self.fresh = start + size;
        NonNull::new(start as *mut u8)
    }
}

/// The alignment every block of that size has: its largest power-of-two
/// factor, up to a page (chunks start on pages).
const fn align_of_class(size: usize) -> usize {
    let factor = 1 << size.trailing_zeros();
    if factor > 4096 { 4096 } else { factor }
}

const fn size_of_class(class: usize) -> usize {
    let octave = MIN_SHIFT + (class / 4) as u32;
    let step = (class % 4) << (octave - 2);
    // Steps of a 16-byte octave would break the grain: those classes are never chosen.
    (1 << octave) + step
}

/// The class of a layout, or `None` where it needs a mapping of its own.
fn class_of(layout: Layout) -> Option<usize> {
    let size = layout.size().max(GRAIN);
    // A class of power-of-two size is aligned to it; others only to a grain or so.
    let size = match layout.align() {
        ..=GRAIN => size.next_multiple_of(GRAIN),
        align => size.max(align).next_power_of_two(),
    };
    if size > 1 << MAX_SHIFT || layout.align() > 4096 {
        return None;
    }
    let octave = size.ilog2();
    let quarter = 1_usize << (octave - 2);
    let step = (size - (1 << octave)).div_ceil(quarter);
    let class = (octave - MIN_SHIFT) as usize * 4 + step;
    // The steps between 16, 32 and 64 that are no multiples of the grain are skipped.
    Some(
        (class..)
            .find(|c| size_of_class(*c).is_multiple_of(GRAIN))
            .unwrap_or(class),
    )
}

fn map_counted(len: usize) -> Option<usize> {
    let addr = map::map_anywhere(len, map::Prot::READ_WRITE).ok()?;
    HELD.fetch_add(len, Relaxed);
    Some(addr)
}

fn large_len(layout: Layout) -> Option<usize> {
    map::page_up(layout.size())
}

fn allocate_large(layout: Layout) -> Option<*mut u8> {
    let len = large_len(layout)?;
    if layout.align() > 4096 {
        let map = map::AnonMap::new(len, layout.align()).ok()?;
        let addr = map.addr();
        // Unmapped again by `free_large`, which knows the layout.
        core::mem::forget(map);
        HELD.fetch_add(len, Relaxed);
        return Some(addr as *mut u8);
    }
    map_counted(len).map(|addr| addr as *mut u8)
}

fn free_large(block: *mut u8, layout: Layout) {
    let Some(len) = large_len(layout) else { return };
    if map::unmap(block as usize, len).is_ok() {
        HELD.fetch_sub(len, Relaxed);
    }
}

/// Grows or shrinks a block that is a mapping of its own before and after.
fn resize_large(block: *mut u8, layout: Layout, new: Layout) -> Option<*mut u8> {
    let (old_len, new_len) = (large_len(layout)?, large_len(new)?);
    let addr = map::remap(block as usize, old_len, new_len).ok()?;
    HELD.fetch_add(new_len, Relaxed);
    HELD.fetch_sub(old_len, Relaxed);
    Some(addr as *mut u8)
}

// SAFETY: blocks are unique until freed (free lists under a lock, or own
// mappings), sized and aligned for their layout, and no call unwinds.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = match class_of(layout) {
            Some(class) => SHARED.lock().take(class).map(NonNull::as_ptr),
            None => allocate_large(layout),
        };
        block.unwrap_or(null_mut())
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match (class_of(layout), NonNull::new(block)) {
            (Some(class), Some(block)) => SHARED.lock().give(class, block),
            (None, Some(_)) => free_large(block, layout),
            (_, None) => {}
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: same contract.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() && class_of(layout).is_some() {
            // SAFETY: the block is at least that large; fresh mappings are zero already.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Ok(new) = Layout::from_size_align(new_size, layout.align()) else {
            return null_mut();
        };
        match (class_of(layout), class_of(new)) {
            (Some(old), Some(wanted)) if old == wanted => return block,
            (None, None) if layout.align() <= 4096 => {
                return resize_large(block, layout, new).unwrap_or(null_mut());
            }
            _ => {}
        }
        // SAFETY: same contract; both blocks hold the smaller of the two sizes.
        unsafe {
            let moved = self.alloc(new);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn every_class_holds_its_layouts_at_their_alignment() {
        for shift in 0..=12 {
            let align = 1 << shift;
            for size in (1..40_000).step_by(37).chain([1, 15, 16, 17, 32768, 32769]) {
                let Some(class) = class_of(layout(size, align)) else {
                    assert!(size > 32768 || align > 4096 || size.max(align) > 16384);
                    continue;
                };
                let real = size_of_class(class);
                assert!(class < CLASSES && real >= size, "{size} in {real}");
                assert!(
                    align_of_class(real) >= align.max(GRAIN),
                    "{align} in {real}"
                );
                assert!(
                    align > GRAIN || real <= size + size / 4 + 32,
                    "{size} in {real}"
                );
            }
        }
    }

    #[test]
    fn a_freed_block_is_reused_and_zeroed_when_asked() {
        let arena = Arena::new();
        let small = layout(20_011, 8);
        // SAFETY: blocks are used within their layout and freed once.
        unsafe {
            let first = arena.alloc(small);
            first.write_bytes(0xaa, small.size());
            arena.dealloc(first, small);
            let again = arena.alloc_zeroed(small);
            assert_eq!(*again.add(small.size() - 1), 0);
            arena.dealloc(again, small);
        }
    }

    #[test]
    fn large_blocks_grow_in_place_of_their_mapping_and_are_given_back() {
        let arena = Arena::new();
        // SAFETY: blocks are used within their layout and freed once.
        unsafe {
            let block = arena.alloc(layout(100_000, 16));
            block.add(99_999).write(7);
            let block = arena.realloc(block, layout(100_000, 16), 9_000_000);
            assert_eq!(*block.add(99_999), 7);
            let block = arena.realloc(block, layout(9_000_000, 16), 100);
            assert_eq!(*block, 0);
            arena.dealloc(block, layout(100, 16));
            let aligned = arena.alloc(layout(5000, 1 << 21));
            assert_eq!(aligned as usize % (1 << 21), 0);
            arena.dealloc(aligned, layout(5000, 1 << 21));
        }
    }

    /// Many blocks of changing sizes, each filled with its owner's byte.
    fn churn(owner: u8) {
        let arena = Arena::new();
        let mut blocks: Vec<(*mut u8, Layout)> = Vec::new();
        let mut seed = u64::from(owner) + 1;
        for round in 0..4000_usize {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let wanted = layout(1 + (((seed >> 33) as usize % 40_000) >> (round % 9)), 16);
            // SAFETY: blocks are used within their layout and freed once.
            unsafe {
                let block = arena.alloc(wanted);
                assert!(!block.is_null());
                block.write_bytes(owner, wanted.size());
                blocks.push((block, wanted));
                if blocks.len() > 50 {
                    let (old, held) = blocks.swap_remove(seed as usize % 50);
                    let bytes = core::slice::from_raw_parts(old, held.size());
                    assert!(bytes.iter().all(|b| *b == owner));
                    arena.dealloc(old, held);
                }
            }
        }
        for (block, held) in blocks {
            // SAFETY: allocated above with that layout.
            unsafe { arena.dealloc(block, held) };
        }
    }

    #[test]
    fn threads_never_share_a_block() {
        let threads: Vec<_> = (0..4)
            .map(|n| std::thread::spawn(move || churn(n)))
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(held_bytes() > 0);
    }

    #[test]
    fn a_fork_lock_keeps_others_out_until_it_is_released() {
        fork_lock();
        let other = std::thread::spawn(|| {
            let arena = Arena::new();
            // SAFETY: freed at once with the same layout.
            unsafe { arena.dealloc(arena.alloc(layout(64, 8)), layout(64, 8)) };
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!other.is_finished());
        fork_unlock();
        other.join().unwrap();
    }
}
