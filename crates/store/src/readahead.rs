//! Whole segments read ahead from devices.
//!
//! The argument. Pages that left memory together lie in one segment, and pages
//! that left together tend to come back together. A read of 256 KiB takes a
//! disk little longer than one of 8 KiB, so the second read of a segment within
//! a short while fetches all of it, and the rest are copies. The first read
//! stays small: a program that jumps about would throw 250 of 256 KiB away. If
//! the guess is wrong, one read in two is up to twice as long; what it displaces
//! is only other read-ahead.
//!
//! A sealed segment never changes, and its word changes when its number or its
//! place is used again: the same word before and after means the right bytes.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use vswap_platform::errno::Errno;
use vswap_platform::map::AnonMap;
use vswap_platform::sync::RankedMutex;
use vswap_units::{Bytes, PAGE_SIZE, rank};

use crate::SEGMENT_BYTES;
use crate::error::StoreError;
use crate::word::Word;

/// Inside everything but the device.
const SLOT: u8 = rank::DEVICE - 1;
/// Segments whose last single reads are remembered.
const REMEMBERED: usize = 64;

/// What a slot holds.
#[derive(Clone, Copy, Default)]
struct Held {
    segment: u32,
    word: Option<Word>,
}

struct Slot {
    held: RankedMutex<Held, SLOT>,
    /// The segment, plus one, as a hint for who looks without the lock.
    hint: AtomicU32,
    /// When it was last of use.
    stamp: AtomicU64,
}

/// A few segments' bytes, read ahead.
pub(crate) struct Readahead {
    buffer: AnonMap,
    slots: Box<[Slot]>,
    /// Segments read singly of late, plus one.
    recent: [AtomicU32; REMEMBERED],
    clock: AtomicU64,
    touched: AtomicU32,
}

impl Readahead {
    /// Room for `count` segments; nothing is touched yet.
    pub(crate) fn new(count: usize) -> Result<Self, Errno> {
        let slot = |_| Slot {
            held: RankedMutex::new(Held::default()),
            hint: AtomicU32::new(0),
            stamp: AtomicU64::new(0),
        };
        Ok(Self {
            buffer: AnonMap::new(count.max(1) * SEGMENT_BYTES, PAGE_SIZE)?,
            slots: (0..count).map(slot).collect(),
            recent: [const { AtomicU32::new(0) }; REMEMBERED],
            clock: AtomicU64::new(0),
            touched: AtomicU32::new(0),
        })
    }

    /// RAM it holds.
    pub(crate) fn bytes(&self) -> Bytes {
        Bytes(u64::from(self.touched.load(Ordering::Relaxed)) * SEGMENT_BYTES as u64)
    }

    /// Copies bytes of a segment out, if they are here.
    pub(crate) fn copy(&self, segment: u32, word: Word, first: usize, out: &mut [u8]) -> bool {
        self.slots.iter().enumerate().any(|(index, slot)| {
            slot.hint.load(Ordering::Relaxed) == segment + 1
                && self.copy_from(index, slot, segment, word, first, out)
        })
    }

    fn copy_from(
        &self,
        index: usize,
        slot: &Slot,
        segment: u32,
        word: Word,
        first: usize,
        out: &mut [u8],
    ) -> bool {
        let Some(held) = slot.held.try_lock() else {
            return false;
        };
        let same = held.segment == segment && held.word.is_some_and(|had| had.same_place(word));
        let bytes = self.buffer.slice(index * SEGMENT_BYTES + first, out.len());
        let (true, Some(bytes)) = (same, bytes) else {
            return false;
        };
        out.copy_from_slice(bytes);
        slot.stamp.store(
            self.clock.fetch_add(1, Ordering::Relaxed),
            Ordering::Relaxed,
        );
        true
    }

    /// Has the segment been read singly of late? Remembers that it is now.
    pub(crate) fn is_worth_it(&self, segment: u32) -> bool {
        let Some(place) = self.recent.get(segment as usize % REMEMBERED) else {
            return false;
        };
        !self.slots.is_empty() && place.swap(segment + 1, Ordering::Relaxed) == segment + 1
    }

    /// Fetches a whole segment with `read` into the slot that was of no use for
    /// longest. False: every slot is busy.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn fetch(
        &self,
        segment: u32,
        word: Word,
        read: impl FnOnce(&mut [u8]) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        let oldest = |(_, slot): &(usize, &Slot)| slot.stamp.load(Ordering::Relaxed);
        let Some((index, slot)) = self.slots.iter().enumerate().min_by_key(oldest) else {
            return Ok(false);
        };
        let Some(mut held) = slot.held.try_lock() else {
            return Ok(false);
        };
        let Some(buffer) = self.buffer.slice_mut(index * SEGMENT_BYTES, SEGMENT_BYTES) else {
            return Ok(false);
        };
        held.word = None;
        if slot.hint.swap(0, Ordering::Relaxed) == 0 {
            self.touched.fetch_max(index as u32 + 1, Ordering::Relaxed);
        }
        slot.stamp.store(
            self.clock.fetch_add(1, Ordering::Relaxed) + 1,
            Ordering::Relaxed,
        );
        read(buffer)?;
        *held = Held {
            segment,
            word: Some(word),
        };
        slot.hint.store(segment + 1, Ordering::Relaxed);
        Ok(true)
    }

    /// Drops what is here of a segment: it did not read right.
    pub(crate) fn forget(&self, segment: u32) {
        let here = |slot: &&Slot| slot.hint.load(Ordering::Relaxed) == segment + 1;
        for slot in self.slots.iter().filter(here) {
            if let Some(mut held) = slot.held.try_lock() {
                held.word = None;
                slot.hint.store(0, Ordering::Relaxed);
            }
        }
    }

    /// In a forked child: whoever was fetching is gone.
    pub(crate) fn reset_in_child(&self) {
        for slot in &self.slots {
            slot.held.reset_in_child();
            slot.held.lock().word = None;
            slot.hint.store(0, Ordering::Relaxed);
        }
    }
}
