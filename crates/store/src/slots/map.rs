//! Which slots of a device are taken: two bitmaps, *allocated* and *bad*, in memory
//! shared by the processes that share the device. A bad slot is allocated too, for
//! ever, so one look at *allocated* is enough to find a free one.
//!
//! A word of the bitmap is one place of the device. The lowest free slot is taken
//! first, which keeps writes near each other and the file short.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use vswap_platform::errno::Errno;
use vswap_platform::memfd::{SharedMem, Sharing};

use super::PLACE_SLOTS;

const _: () = assert!(PLACE_SLOTS == u64::BITS);
const ALL: u64 = u64::MAX;

pub(crate) struct SlotMap {
    /// `places` words of *allocated*, then as many of *bad*.
    shared: SharedMem,
    places: u32,
    /// No place below has a free slot, as far as this process knows.
    hint: AtomicU32,
}

impl SlotMap {
    pub(crate) fn new(places: u32) -> Result<Self, Errno> {
        let bytes = 2 * places as usize * size_of::<u64>();
        let shared = SharedMem::create(c"vswap-slots", bytes, Sharing::Writable)?;
        shared.close_descriptor();
        Ok(Self {
            shared,
            places,
            hint: AtomicU32::new(0),
        })
    }

    fn allocated(&self) -> &[AtomicU64] {
        self.shared
            .words(0, self.places as usize)
            .unwrap_or_default()
    }

    fn bad(&self, place: u32) -> Option<&AtomicU64> {
        let words = self.places as usize;
        self.shared
            .words(words * size_of::<u64>(), words)?
            .get(place as usize)
    }

    /// Takes the lowest free slot.
    pub(crate) fn take(&self) -> Option<u32> {
        let start = self.hint.load(Ordering::Relaxed) as usize;
        for (place, word) in self.allocated().iter().enumerate().skip(start) {
            if let Some(bit) = take_bit(word) {
                let place = u32::try_from(place).ok()?;
                self.hint.store(place, Ordering::Relaxed);
                return Some(place * PLACE_SLOTS + bit);
            }
        }
        // Other processes may have freed lower ones: look from the start next time.
        self.hint.store(0, Ordering::Relaxed);
        (start > 0).then(|| self.take()).flatten()
    }

    /// Frees a slot. If its place is empty now, `discard` runs while nobody can take any of it.
    pub(crate) fn free(&self, slot: u32, discard: impl FnOnce(u32)) {
        let (place, bit) = (slot / PLACE_SLOTS, 1 << (slot % PLACE_SLOTS));
        let Some(word) = self.allocated().get(place as usize) else {
            return;
        };
        let left = word.fetch_and(!bit, Ordering::AcqRel) & !bit;
        if left == 0
            && word
                .compare_exchange(0, ALL, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            discard(place);
            word.store(0, Ordering::Release);
        }
        self.hint.fetch_min(place, Ordering::Relaxed);
    }

    /// Never to be used (again).
    pub(crate) fn mark_bad(&self, slot: u32) {
        let (place, bit) = (slot / PLACE_SLOTS, 1 << (slot % PLACE_SLOTS));
        if let (Some(word), Some(bad)) = (self.allocated().get(place as usize), self.bad(place)) {
            bad.fetch_or(bit, Ordering::AcqRel);
            word.fetch_or(bit, Ordering::AcqRel);
        }
    }

    pub(crate) fn is_bad(&self, slot: u32) -> bool {
        self.bad(slot / PLACE_SLOTS)
            .is_some_and(|bad| bad.load(Ordering::Acquire) >> (slot % PLACE_SLOTS) & 1 != 0)
    }

    /// Bytes of the bitmaps, touched or not.
    pub(crate) const fn bytes(&self) -> u64 {
        2 * self.places as u64 * size_of::<u64>() as u64
    }
}

fn take_bit(word: &AtomicU64) -> Option<u32> {
    let mut now = word.load(Ordering::Relaxed);
    loop {
        let bit = (!now).trailing_zeros();
        if bit == u64::BITS {
            return None;
        }
        match word.compare_exchange_weak(now, now | 1 << bit, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some(bit),
            Err(seen) => now = seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    #[test]
    fn the_lowest_free_slot_is_taken() {
        let map = SlotMap::new(2).unwrap();
        for slot in 0..128 {
            assert_eq!(map.take(), Some(slot));
        }
        assert_eq!(map.take(), None);
        map.free(70, |_| panic!("not empty"));
        map.free(3, |_| panic!("not empty"));
        assert_eq!(
            [map.take(), map.take(), map.take()],
            [Some(3), Some(70), None]
        );
    }

    #[test]
    fn an_empty_place_is_discarded_while_nobody_can_take_it() {
        let map = SlotMap::new(1).unwrap();
        let (a, b) = (map.take().unwrap(), map.take().unwrap());
        map.free(a, |_| panic!("not empty"));
        let discarded = Cell::new(false);
        map.free(b, |place| {
            assert_eq!((place, map.take()), (0, None));
            discarded.set(true);
        });
        assert!(discarded.get());
        assert_eq!(map.take(), Some(0));
    }

    #[test]
    fn a_bad_slot_is_never_handed_out_and_keeps_its_place_from_being_discarded() {
        let map = SlotMap::new(1).unwrap();
        map.mark_bad(0);
        assert!(map.is_bad(0));
        assert_eq!(map.take(), Some(1));
        map.free(1, |_| panic!("the bad slot is there"));
        assert_eq!(map.take(), Some(1));
    }
}
