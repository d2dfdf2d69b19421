//! Memory of the engine's own.

use super::{Prot, discard, map_anywhere, page_up, protect, unmap};
use crate::errno::Errno;
use vswap_units::PAGE_SIZE;

/// Private anonymous memory of the engine's own, unmapped when dropped.
///
/// Pages exist from their first touch on. Several threads may use different
/// parts at once; who uses which part is the owner's protocol, see
/// [`AnonMap::slice_mut`].
#[derive(Debug)]
pub struct AnonMap {
    addr: usize,
    len: usize,
}

impl AnonMap {
    /// Readable and writable zero pages, not counted against overcommit,
    /// starting at a multiple of `align` (a power of two; at least a page).
    ///
    /// # Errors
    /// ENOMEM where address space is short, EINVAL for a zero or odd size.
    pub fn new(len: usize, align: usize) -> Result<Self, Errno> {
        Self::with(len, align, Prot::READ_WRITE)
    }

    /// Address space only: touching it kills the process until a part is made
    /// usable by [`AnonMap::commit`] or [`protect`].
    ///
    /// # Errors
    /// As [`AnonMap::new`].
    pub fn reserve_none(len: usize, align: usize) -> Result<Self, Errno> {
        Self::with(len, align, Prot::NONE)
    }

    fn with(len: usize, align: usize, prot: Prot) -> Result<Self, Errno> {
        let (len, align) = match (page_up(len), align.max(PAGE_SIZE)) {
            (Some(len), align) if len > 0 && align.is_power_of_two() => (len, align),
            _ => return Err(Errno::EINVAL),
        };
        let slack = align - PAGE_SIZE;
        let whole = len.checked_add(slack).ok_or(Errno::ENOMEM)?;
        let start = map_anywhere(whole, prot)?;
        let addr = start.next_multiple_of(align);
        // Cutting the ends off a mapping of our own cannot lose anything.
        let _ = trim(start, addr);
        let _ = trim(addr + len, start + whole);
        Ok(Self { addr, len })
    }

    /// The first address.
    #[must_use]
    pub const fn addr(&self) -> usize {
        self.addr
    }

    /// Bytes, in whole pages.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Never true: a mapping has at least a page.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `addr` lies inside.
    #[must_use]
    pub const fn contains(&self, addr: usize) -> bool {
        addr.wrapping_sub(self.addr) < self.len
    }

    /// The address of `off`, if `len` bytes from there lie inside.
    #[must_use]
    pub const fn part(&self, off: usize, len: usize) -> Option<usize> {
        match off.checked_add(len) {
            Some(end) if end <= self.len => Some(self.addr + off),
            _ => None,
        }
    }

    /// The bytes of a part. By the protocol of [`AnonMap::slice_mut`], nobody
    /// writes that part while the slice is used.
    #[must_use]
    #[inline]
    pub fn slice(&self, off: usize, len: usize) -> Option<&[u8]> {
        let addr = self.part(off, len)?;
        // SAFETY: the part lies in this mapping, which lives as long as `self`;
        // the owner's protocol keeps writers away.
        Some(unsafe { core::slice::from_raw_parts(addr as *const u8, len) })
    }

    /// The bytes of a part, to write.
    ///
    /// **Protocol**: the caller owns that part while the slice is used: by its
    /// own locks, states or hand-over nobody else reads or writes it. This
    /// stands in for the borrow checker, which cannot see that two workers
    /// use two frames. A part must be accessible ([`AnonMap::commit`]).
    #[must_use]
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "exclusive by the documented protocol")]
    pub fn slice_mut(&self, off: usize, len: usize) -> Option<&mut [u8]> {
        let addr = self.part(off, len)?;
        // SAFETY: the part lies in this mapping, which lives as long as `self`;
        // the owner's protocol makes the caller its only user.
        Some(unsafe { core::slice::from_raw_parts_mut(addr as *mut u8, len) })
    }

    /// Copies `len` bytes at a raw address in. Contract: those pages are
    /// present, readable, and not written meanwhile.
    pub fn copy_from_address(&self, off: usize, addr: usize, len: usize) -> Option<()> {
        let to = self.slice_mut(off, len)?;
        // SAFETY: `to` is `len` writable bytes of ours; the source is readable by
        // contract and in another mapping.
        unsafe { core::ptr::copy_nonoverlapping(addr as *const u8, to.as_mut_ptr(), len) };
        Some(())
    }

    /// Copies `bytes` into the part at `off` (protocol of
    /// [`AnonMap::slice_mut`]). `None` if it does not fit.
    pub fn copy_in(&self, off: usize, bytes: &[u8]) -> Option<()> {
        self.slice_mut(off, bytes.len())?.copy_from_slice(bytes);
        Some(())
    }

    /// Copies the part at `off` into `out`. `None` if it does not lie inside.
    pub fn copy_out(&self, off: usize, out: &mut [u8]) -> Option<()> {
        out.copy_from_slice(self.slice(off, out.len())?);
        Some(())
    }

    /// Fills `len` bytes from `off` with a repeated word (protocol of
    /// [`AnonMap::slice_mut`]). `None` unless both are multiples of 8 and inside.
    pub fn fill(&self, off: usize, word: u64, len: usize) -> Option<()> {
        self.words_mut(off, len)?.fill(word);
        Some(())
    }

    /// The part as 64-bit words; `None` unless offset and length are multiples
    /// of 8 and inside. Same rule as [`AnonMap::slice`].
    #[must_use]
    pub fn words(&self, off: usize, len: usize) -> Option<&[u64]> {
        bytemuck::try_cast_slice(self.slice(off, len)?).ok()
    }

    /// The part as 64-bit words to write (protocol of [`AnonMap::slice_mut`]).
    #[must_use]
    pub fn words_mut(&self, off: usize, len: usize) -> Option<&mut [u64]> {
        bytemuck::try_cast_slice_mut(self.slice_mut(off, len)?).ok()
    }

    /// Makes a reserved part readable and writable.
    ///
    /// # Errors
    /// EINVAL outside, else as [`protect`].
    pub fn commit(&self, off: usize, len: usize) -> Result<(), Errno> {
        protect(self.pages(off, len)?, len, Prot::READ_WRITE)
    }

    /// Gives the memory of whole pages back; they read as zeros again. The
    /// caller owns the part as in [`AnonMap::slice_mut`].
    ///
    /// # Errors
    /// EINVAL unless the part is whole pages inside.
    pub fn discard(&self, off: usize, len: usize) -> Result<(), Errno> {
        discard(self.pages(off, len)?, len)
    }

    fn pages(&self, off: usize, len: usize) -> Result<usize, Errno> {
        match self.part(off, len) {
            Some(addr) if off.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE) => {
                Ok(addr)
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

impl Drop for AnonMap {
    fn drop(&mut self) {
        let _ = unmap(self.addr, self.len);
    }
}

fn trim(from: usize, to: usize) -> Result<(), Errno> {
    if from < to {
        unmap(from, to - from)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::count_resident;

    #[test]
    fn a_mapping_is_aligned_as_asked_and_zero() {
        let map = AnonMap::new(3 * PAGE_SIZE + 1, 2 << 20).unwrap();
        assert_eq!(map.addr() % (2 << 20), 0);
        assert_eq!(map.len(), 4 * PAGE_SIZE);
        assert!(map.slice(0, map.len()).unwrap().iter().all(|b| *b == 0));
    }

    #[test]
    fn parts_outside_are_refused() {
        let map = AnonMap::new(PAGE_SIZE, 1).unwrap();
        assert!(map.slice(1, PAGE_SIZE).is_none());
        assert!(map.slice_mut(usize::MAX, 2).is_none());
        assert!(map.copy_in(PAGE_SIZE - 1, &[1, 2]).is_none());
        assert!(map.fill(4, 1, 8).is_none());
        assert_eq!(map.discard(1, PAGE_SIZE - 1), Err(Errno::EINVAL));
        assert_eq!(AnonMap::new(0, 1).unwrap_err(), Errno::EINVAL);
        assert_eq!(AnonMap::new(1, 48 << 10).unwrap_err(), Errno::EINVAL);
    }

    #[test]
    fn what_is_copied_in_comes_out_until_it_is_discarded() {
        let map = AnonMap::new(2 * PAGE_SIZE, 1).unwrap();
        map.copy_in(PAGE_SIZE, b"hello").unwrap();
        map.fill(0, 0x0101_0101_0101_0101, 64).unwrap();
        let mut out = [0; 5];
        map.copy_out(PAGE_SIZE, &mut out).unwrap();
        assert_eq!(&out, b"hello");
        assert_eq!(map.words(0, 64).unwrap()[7], 0x0101_0101_0101_0101);
        assert_eq!(count_resident(map.addr(), map.len()), Ok(2));
        map.discard(PAGE_SIZE, PAGE_SIZE).unwrap();
        assert_eq!(count_resident(map.addr(), map.len()), Ok(1));
        assert_eq!(map.slice(PAGE_SIZE, 1).unwrap(), [0]);
    }

    #[test]
    fn a_reservation_is_usable_once_committed() {
        let map = AnonMap::reserve_none(64 << 20, PAGE_SIZE).unwrap();
        map.commit(PAGE_SIZE, PAGE_SIZE).unwrap();
        map.copy_in(PAGE_SIZE, &[7; PAGE_SIZE]).unwrap();
        assert_eq!(map.slice(2 * PAGE_SIZE - 1, 1).unwrap(), [7]);
    }
}
