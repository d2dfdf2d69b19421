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

    /// Takes the lowest free slot and the free ones right after it: up to `most`, all of one place. Returns the first and how many.
    pub(crate) fn take(&self, most: u32) -> Option<(u32, u32)> {
        let start = self.hint.load(Ordering::Relaxed) as usize;
        for (place, word) in self.allocated().iter().enumerate().skip(start) {
            if let Some((bit, count)) = take_bits(word, most) {
                let place = u32::try_from(place).ok()?;
                self.hint.store(place, Ordering::Relaxed);
                return Some((place * PLACE_SLOTS + bit, count));
            }
        }
        // Other processes may have freed lower ones: look from the start next time.
        self.hint.store(0, Ordering::Relaxed);
        (start > 0).then(|| self.take(most)).flatten()
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

    /// Slots that are not taken. Walks the bitmap.
    pub(crate) fn free_slots(&self) -> u64 {
        let words = self.allocated().iter();
        words
            .map(|word| u64::from(word.load(Ordering::Relaxed).count_zeros()))
            .sum()
    }

    /// Bytes of the bitmaps, touched or not.
    pub(crate) const fn bytes(&self) -> u64 {
        2 * self.places as u64 * size_of::<u64>() as u64
    }
}

fn take_bits(word: &AtomicU64, most: u32) -> Option<(u32, u32)> {
    let mut now = word.load(Ordering::Relaxed);
    loop {
        let bit = (!now).trailing_zeros();
        if bit == u64::BITS {
            return None;
        }
        let count = (now >> bit)
            .trailing_zeros()
            .min(u64::BITS - bit)
            .min(most.max(1));
        let taken = ALL >> (u64::BITS - count) << bit;
        match word.compare_exchange_weak(now, now | taken, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some((bit, count)),
            Err(seen) => now = seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    fn take(map: &SlotMap) -> Option<u32> {
        map.take(1).map(|(slot, _)| slot)
    }

    #[test]
    fn the_lowest_free_slot_is_taken() {
        let map = SlotMap::new(2).unwrap();
        for slot in 0..128 {
            assert_eq!(take(&map), Some(slot));
        }
        assert_eq!(take(&map), None);
        map.free(70, |_| panic!("not empty"));
        map.free(3, |_| panic!("not empty"));
        assert_eq!(
            [take(&map), take(&map), take(&map)],
            [Some(3), Some(70), None]
        );
    }

    #[test]
    fn neighbours_are_taken_together_as_far_as_they_are_free() {
        let map = SlotMap::new(2).unwrap();
        assert_eq!(map.take(60), Some((0, 60)));
        assert_eq!(map.take(16), Some((60, 4)));
        assert_eq!(map.take(16), Some((64, 16)));
        map.free(10, |_| panic!("not empty"));
        map.free(11, |_| panic!("not empty"));
        assert_eq!(map.take(16), Some((10, 2)));
        assert_eq!(map.take(64), Some((80, 48)));
        assert_eq!(map.take(1), None);
    }

    #[test]
    fn an_empty_place_is_discarded_while_nobody_can_take_it() {
        let map = SlotMap::new(1).unwrap();
        let (a, b) = (take(&map).unwrap(), take(&map).unwrap());
        map.free(a, |_| panic!("not empty"));
        let discarded = Cell::new(false);
        map.free(b, |place| {
            assert_eq!((place, take(&map)), (0, None));
            discarded.set(true);
        });
        assert!(discarded.get());
        assert_eq!(take(&map), Some(0));
    }

    #[test]
    fn a_bad_slot_is_never_handed_out_and_keeps_its_place_from_being_discarded() {
        let map = SlotMap::new(1).unwrap();
        map.mark_bad(0);
        assert!(map.is_bad(0));
        assert_eq!(take(&map), Some(1));
        map.free(1, |_| panic!("the bad slot is there"));
        assert_eq!(take(&map), Some(1));
    }
}
