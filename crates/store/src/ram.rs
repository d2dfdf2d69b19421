//! RAM for segments: one mapping cut into slots, given back at once when free.
//!
//! A few freed slots are kept as they are (the hot cache), because a log under
//! steady load frees and takes slots all the time and each fresh slot costs 64
//! page faults. They are counted as held: they are. A log that grows gets slots
//! made of pages whose bytes it has just taken (`filling.rs`).

mod filling;

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytemuck::Zeroable;
use vswap_platform::cache;
use vswap_platform::errno::Errno;
use vswap_platform::lazy::LazySlice;
use vswap_platform::map::{self, AnonMap};
use vswap_platform::sync::{self, RankedMutex};
use vswap_units::rank;

use self::filling::Filling;
use crate::SEGMENT_BYTES;

/// Rank of the slot lists: the innermost of this floor.
const SLOTS: u8 = rank::SEGMENT + 2;
/// Free slots kept with their memory.
const HOT: usize = 8;
/// How long to leave the CPU to a reader that was interrupted.
const READER_PAUSE_NS: u64 = 50_000;

#[derive(Zeroable)]
#[repr(C)]
struct Slot {
    /// Threads decoding out of this slot.
    readers: AtomicU32,
    /// The next cold free slot, plus one.
    next: AtomicU32,
}

struct Slots {
    hot: [u32; HOT],
    hot_len: usize,
    filling: Option<Filling>,
    /// First of the cold free slots, plus one.
    cold: u32,
    /// Slots from here on were never used.
    fresh: u32,
    in_use: u32,
}

/// All RAM segments.
pub(crate) struct RamPool {
    memory: AnonMap,
    table: LazySlice<Slot>,
    slots: RankedMutex<Slots, SLOTS>,
    /// How many slots may be in use.
    limit: AtomicU32,
    /// Slots whose memory is held: in use or hot.
    held: AtomicU64,
}

/// A reader's hold on a slot: it is not reused before this is dropped.
pub(crate) struct Reading<'a>(&'a AtomicU32);

impl Drop for Reading<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl RamPool {
    /// Reserves address space for `limit` slots and `spare` more.
    pub(crate) fn new(limit: u32, spare: u32) -> Result<Self, Errno> {
        let count = limit.checked_add(spare).ok_or(Errno::EINVAL)? as usize;
        let bytes = count.checked_mul(SEGMENT_BYTES).ok_or(Errno::EINVAL)?;
        Ok(Self {
            memory: AnonMap::new(bytes, SEGMENT_BYTES)?,
            table: LazySlice::reserve(count, count)?,
            slots: RankedMutex::new(Slots {
                hot: [0; HOT],
                hot_len: 0,
                filling: None,
                cold: 0,
                fresh: 0,
                in_use: 0,
            }),
            limit: AtomicU32::new(limit),
            held: AtomicU64::new(0),
        })
    }

    /// Takes a free slot; `beyond` of them more than the limit allows.
    pub(crate) fn take(&self, beyond: u32) -> Option<u32> {
        let mut slots = self.slots.lock();
        if slots.in_use >= self.limit.load(Ordering::Relaxed).saturating_add(beyond) {
            return None;
        }
        if let Some(hot) = slots.pop_hot() {
            slots.in_use += 1;
            return Some(hot);
        }
        if let Some(begun) = slots.pop_filling() {
            slots.in_use += 1;
            drop(slots);
            self.populate(begun);
            return Some(begun.slot);
        }
        let cold = self.pop_cold(&mut slots)?;
        slots.in_use += 1;
        drop(slots);
        self.held.fetch_add(1, Ordering::Relaxed);
        self.populate(Filling::new(cold));
        Some(cold)
    }

    /// Memory for what a slot has none for yet. One call in place of up to 64 faults, which cost 0.1 to 0.2 µs per
    /// object. Where the kernel has not this call the faults do it.
    fn populate(&self, begun: Filling) {
        let (first, bytes) = begun.rest();
        let _ = map::populate_write(self.memory.addr() + first, bytes);
    }

    fn pop_cold(&self, slots: &mut Slots) -> Option<u32> {
        if let Some(slot) = slots.cold.checked_sub(1) {
            slots.cold = self.table.get(slot as usize)?.next.load(Ordering::Relaxed);
            return Some(slot);
        }
        let slot = slots.fresh;
        self.table.get(slot as usize)?;
        slots.fresh += 1;
        Some(slot)
    }

    /// Gives a slot back, after the last reader left it. The words that named
    /// it must have changed before, so no new reader stays.
    pub(crate) fn put(&self, slot: u32) {
        self.wait_for_readers(slot);
        let mut slots = self.slots.lock();
        slots.in_use = slots.in_use.saturating_sub(1);
        let above = slots.in_use >= self.limit.load(Ordering::Relaxed);
        if !above && slots.push_hot(slot) {
            return;
        }
        drop(slots);
        self.discard(slot);
        self.push_cold(&mut self.slots.lock(), slot);
    }

    /// Gives the memory of the hot cache back, and of the slot that is being filled.
    pub(crate) fn trim(&self) {
        loop {
            let Some(slot) = self.slots.lock().pop_kept() else {
                return;
            };
            self.discard(slot);
            self.push_cold(&mut self.slots.lock(), slot);
        }
    }

    fn push_cold(&self, slots: &mut Slots, slot: u32) {
        if let Some(entry) = self.table.get(slot as usize) {
            entry.next.store(slots.cold, Ordering::Relaxed);
            slots.cold = slot + 1;
        }
    }

    fn discard(&self, slot: u32) {
        let _ = self.memory.discard(offset_of(slot), SEGMENT_BYTES);
        self.held.fetch_sub(1, Ordering::Relaxed);
    }

    /// A reader of a slot is decoding one page, or found the word changed and
    /// is leaving: microseconds, unless it lost the CPU.
    fn wait_for_readers(&self, slot: u32) {
        let Some(entry) = self.table.get(slot as usize) else {
            return;
        };
        let mut spins = 0_u32;
        loop {
            let readers = entry.readers.load(Ordering::SeqCst);
            if readers == 0 {
                return;
            }
            spins = spins.saturating_add(1);
            if spins < 200 {
                core::hint::spin_loop();
            } else {
                // Nobody wakes us: a short sleep lets the reader have the CPU.
                let _ = sync::wait(&entry.readers, readers, Some(READER_PAUSE_NS));
            }
        }
    }

    /// Counts a reader in. The caller looks at the segment's word again after.
    #[inline]
    pub(crate) fn enter(&self, slot: u32) -> Option<Reading<'_>> {
        let readers = &self.table.get(slot as usize)?.readers;
        readers.fetch_add(1, Ordering::SeqCst);
        Some(Reading(readers))
    }

    /// Bytes of a slot, for reading. Stable while the caller has a [`Reading`],
    /// or holds the segment in a state that keeps it here.
    #[inline]
    pub(crate) fn bytes(&self, slot: u32, offset: usize, length: usize) -> Option<&[u8]> {
        if offset.checked_add(length)? > SEGMENT_BYTES {
            return None;
        }
        self.memory.slice(offset_of(slot) + offset, length)
    }

    /// Brings bytes of a slot near, whoever has it.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u32, offset: usize, length: usize) {
        cache::prefetch(self.memory.addr() + offset_of(slot) + offset, length);
    }

    /// Bytes of a slot from `offset` to its end, for writing. **Context**: the
    /// caller holds the lane lock of the open segment in this slot and writes
    /// only behind its tail, where no reader has been sent yet.
    #[inline]
    pub(crate) fn tail(&self, slot: u32, offset: usize) -> Option<&mut [u8]> {
        let length = SEGMENT_BYTES.checked_sub(offset)?;
        self.memory.slice_mut(offset_of(slot) + offset, length)
    }

    /// Bytes of memory held: slots in use and hot ones, whole.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed) * SEGMENT_BYTES as u64
    }

    /// Are as many slots in use as may be?
    pub(crate) fn is_full(&self) -> bool {
        self.slots.lock().in_use >= self.limit()
    }

    /// How many more slots may be taken into use.
    pub(crate) fn room(&self) -> u64 {
        u64::from(self.limit().saturating_sub(self.slots.lock().in_use))
    }

    /// How many slots may be in use.
    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit, at most to what was reserved. Slots in use stay.
    pub(crate) fn set_limit(&self, limit: u32, spare: u32) {
        let most = u32::try_from(self.table.len())
            .unwrap_or(u32::MAX)
            .saturating_sub(spare);
        self.limit.store(limit.min(most), Ordering::Relaxed);
    }

    pub(crate) fn lock_for_fork(&self) {
        self.slots.lock_for_fork();
    }

    pub(crate) fn unlock_after_fork(&self) {
        self.slots.unlock_after_fork();
    }

    /// In a forked child: who was reading in the parent is not here.
    pub(crate) fn forget_readers(&self) {
        let ever = self.slots.lock().fresh;
        let entries = (0..ever).filter_map(|slot| self.table.get(slot as usize));
        entries.for_each(|entry| entry.readers.store(0, Ordering::Relaxed));
    }

    /// In a forked child: the lists anew, from the slots that segments use.
    /// Threads that were between a list and a segment do not exist here.
    pub(crate) fn rebuild(&self, uses: impl Fn(&dyn Fn(u32))) {
        let mut slots = self.slots.lock();
        (slots.hot_len, slots.filling, slots.cold, slots.in_use) = (0, None, 0, 0);
        for slot in 0..slots.fresh {
            if let Some(entry) = self.table.get(slot as usize) {
                entry.next.store(0, Ordering::Relaxed);
            }
        }
        uses(&|slot| {
            if let Some(entry) = self.table.get(slot as usize) {
                entry.next.store(USED, Ordering::Relaxed);
            }
        });
        for slot in 0..slots.fresh {
            let used = self
                .table
                .get(slot as usize)
                .is_some_and(|e| e.next.load(Ordering::Relaxed) == USED);
            if used {
                slots.in_use += 1;
            } else {
                let _ = self.memory.discard(offset_of(slot), SEGMENT_BYTES);
                self.push_cold(&mut slots, slot);
            }
        }
        self.held.store(u64::from(slots.in_use), Ordering::Relaxed);
    }

    /// For the self-check: (in use, hot or being filled, cold, ever used).
    pub(crate) fn census(&self) -> (u32, u32, u32, u32) {
        let slots = self.slots.lock();
        let (mut cold, mut at) = (0, slots.cold);
        while let Some(slot) = at.checked_sub(1) {
            cold += 1;
            if cold > slots.fresh {
                break;
            }
            at = self
                .table
                .get(slot as usize)
                .map_or(0, |e| e.next.load(Ordering::Relaxed));
        }
        let kept = slots.hot_len as u32 + u32::from(slots.filling.is_some());
        (slots.in_use, kept, cold, slots.fresh)
    }
}

/// Marks a slot found in use while the lists are made anew.
const USED: u32 = u32::MAX;

const fn offset_of(slot: u32) -> usize {
    slot as usize * SEGMENT_BYTES
}

impl Slots {
    fn pop_hot(&mut self) -> Option<u32> {
        self.hot_len = self.hot_len.checked_sub(1)?;
        self.hot.get(self.hot_len).copied()
    }

    fn pop_kept(&mut self) -> Option<u32> {
        let hot = self.pop_hot();
        hot.or_else(|| Some(self.pop_filling()?.slot))
    }

    fn push_hot(&mut self, slot: u32) -> bool {
        let Some(place) = self.hot.get_mut(self.hot_len) else {
            return false;
        };
        *place = slot;
        self.hot_len += 1;
        true
    }
}
