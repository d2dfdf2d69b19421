//! Huge tables that cost nothing until used: an array in address space whose
//! pages appear at the first touch and can be given back.

use crate::{cache, errno::Errno, map, map::AnonMap};
use bytemuck::Zeroable;
use core::marker::PhantomData;
use core::ops::Range;
use vswap_units::PAGE_SIZE;

/// A fixed-length array of elements that start as all-zero bytes.
///
/// Elements are shared (`&T`), so a useful `T` is made of atomics or locks. No
/// element is ever dropped.
#[derive(Debug)]
pub struct LazySlice<T: Zeroable + Sync> {
    map: AnonMap,
    len: usize,
    elements: PhantomData<T>,
}

// SAFETY: only `&T` is handed out, and `T` is `Sync`; nothing in it is owned
// by a thread, since elements are never moved in or dropped.
unsafe impl<T: Zeroable + Sync> Send for LazySlice<T> {}
// SAFETY: as above.
unsafe impl<T: Zeroable + Sync> Sync for LazySlice<T> {}

impl<T: Zeroable + Sync> LazySlice<T> {
    /// Reserves room for `max_len` elements; where address space is short,
    /// half as many, and so on, but never fewer than `min_len`.
    ///
    /// # Errors
    /// ENOMEM if not even `min_len` fit, EINVAL for no elements or elements
    /// without size.
    pub fn reserve(max_len: usize, min_len: usize) -> Result<Self, Errno> {
        if max_len == 0 || size_of::<T>() == 0 {
            return Err(Errno::EINVAL);
        }
        let floor = min_len.clamp(1, max_len);
        let mut len = max_len;
        loop {
            match Self::exactly(len) {
                Err(Errno::ENOMEM) if len > floor => len = (len / 2).max(floor),
                result => return result,
            }
        }
    }

    fn exactly(len: usize) -> Result<Self, Errno> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or(Errno::ENOMEM)?;
        let map = AnonMap::new(bytes, align_of::<T>())?;
        // One touched element must cost one page, not two megabytes.
        let _ = map::no_huge_pages(map.addr(), map.len());
        let _ = map::no_core_dump(map.addr(), map.len());
        Ok(Self {
            map,
            len,
            elements: PhantomData,
        })
    }

    /// How many elements there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Never true.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Element `index`: all-zero if nobody has written it since it was
    /// reserved or discarded.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        if index >= self.len {
            return None;
        }
        // SAFETY: the element lies in the mapping, is aligned, and its bytes
        // are zero (valid by Zeroable) or were written through `&T`.
        Some(unsafe { &*(self.map.addr() as *const T).add(index) })
    }

    /// Has an element that is about to be used brought near.
    #[inline]
    pub fn prefetch(&self, index: usize) {
        let addr = self.map.addr() + index.wrapping_mul(size_of::<T>());
        cache::prefetch(addr, size_of::<T>());
    }

    /// Several neighbours at once.
    #[inline]
    #[must_use]
    pub fn range(&self, range: Range<usize>) -> Option<&[T]> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        // SAFETY: as in `get`, for every element of the range.
        Some(unsafe {
            let first = (self.map.addr() as *const T).add(range.start);
            core::slice::from_raw_parts(first, range.len())
        })
    }

    /// Makes elements zero again by giving their memory back: only pages that
    /// lie wholly inside the range. **Protocol**: nobody uses an element of
    /// the range meanwhile. Returns the bytes of the pages dropped.
    ///
    /// # Errors
    /// EINVAL outside.
    pub fn discard(&self, range: Range<usize>) -> Result<usize, Errno> {
        if range.start > range.end || range.end > self.len {
            return Err(Errno::EINVAL);
        }
        let start = (range.start * size_of::<T>()).next_multiple_of(PAGE_SIZE);
        let end = self.page_end(range.end);
        if start >= end {
            return Ok(0);
        }
        self.map.discard(start, end - start)?;
        Ok(end - start)
    }

    /// Where the last whole page before element `end` ends. What lies behind
    /// the last element belongs to nobody, so it goes with it.
    fn page_end(&self, end: usize) -> usize {
        if end == self.len {
            self.map.len()
        } else {
            (end * size_of::<T>()) & !(PAGE_SIZE - 1)
        }
    }

    /// Bytes of memory the table takes now (mincore's view).
    #[must_use]
    pub fn touched_bytes(&self) -> usize {
        map::count_resident(self.map.addr(), self.map.len()).map_or(0, |pages| pages * PAGE_SIZE)
    }

    /// Bytes of address space.
    #[must_use]
    pub const fn reserved_bytes(&self) -> usize {
        self.map.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[test]
    fn an_untouched_table_takes_no_memory() {
        let table = LazySlice::<AtomicU64>::reserve(1 << 30, 1 << 30).unwrap();
        assert_eq!(table.len(), 1 << 30);
        table.get(5 << 20).unwrap().store(1, Relaxed);
        table.get((1 << 30) - 1).unwrap().store(2, Relaxed);
        assert!(table.get(1 << 30).is_none());
        let near: usize = [5 << 20, (1 << 30) - 1]
            .iter()
            .map(|i| {
                let page = (core::ptr::from_ref(table.get(*i).unwrap()) as usize) & !4095;
                map::count_resident(page - 4096, 2 * 4096).unwrap()
            })
            .sum();
        assert_eq!(near, 2);
    }

    #[test]
    fn a_discarded_range_gives_its_whole_pages_back() {
        let table = LazySlice::<AtomicU64>::reserve(4096, 1).unwrap();
        for i in 0..4096 {
            table.get(i).unwrap().store(i as u64 + 1, Relaxed);
        }
        assert_eq!(table.touched_bytes(), 8 * PAGE_SIZE);
        assert_eq!(table.discard(1..1536), Ok(2 * PAGE_SIZE));
        assert_eq!(table.touched_bytes(), 6 * PAGE_SIZE);
        assert_eq!(table.get(0).unwrap().load(Relaxed), 1);
        assert_eq!(table.get(511).unwrap().load(Relaxed), 512);
        assert_eq!(table.get(512).unwrap().load(Relaxed), 0);
        assert_eq!(table.get(1536).unwrap().load(Relaxed), 1537);
        assert_eq!(table.discard(7..9), Ok(0));
        assert_eq!(table.discard(0..4097), Err(Errno::EINVAL));
        assert!(table.range(4000..4097).is_none());
        assert_eq!(table.range(4090..4096).unwrap().len(), 6);
    }

    #[test]
    fn a_reservation_too_large_is_halved_down_to_the_minimum() {
        let huge = 1_usize << 45;
        let table = LazySlice::<AtomicU64>::reserve(huge, 1024).unwrap();
        assert!(table.len() >= 1024 && table.len() < huge);
        assert_eq!(
            LazySlice::<AtomicU64>::reserve(huge, huge).unwrap_err(),
            Errno::ENOMEM
        );
        assert_eq!(
            LazySlice::<AtomicU64>::reserve(0, 0).unwrap_err(),
            Errno::EINVAL
        );
    }
}
