//! Mappings: memory of the engine's own ([`AnonMap`]), and operations on raw
//! ranges of the program's address space.
//!
//! The functions on raw ranges are safe to call by their types only because
//! an address is a number; each states who must own the range.

mod anon;
mod holding;
mod protection;

pub use anon::AnonMap;
pub use holding::{forget_asking, nobody_else_holds};
pub use protection::protection;

use crate::{errno::Errno, sys};
use vswap_units::PAGE_SIZE;

/// What may be done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Prot(i32);

impl Prot {
    /// Nothing.
    pub const NONE: Self = Self(libc::PROT_NONE);
    /// Reading.
    pub const READ: Self = Self(libc::PROT_READ);
    /// Reading and writing.
    pub const READ_WRITE: Self = Self(libc::PROT_READ | libc::PROT_WRITE);

    /// From the bits of mmap(2), for ranges whose protection the program chose.
    #[must_use]
    pub const fn from_bits(bits: i32) -> Self {
        Self(bits)
    }

    /// As the bits of mmap(2).
    #[must_use]
    pub const fn bits(self) -> i32 {
        self.0
    }

    /// Whether pages may be read.
    #[must_use]
    pub const fn readable(self) -> bool {
        self.0 & libc::PROT_READ != 0
    }

    /// Whether pages may be written.
    #[must_use]
    pub const fn writable(self) -> bool {
        self.0 & libc::PROT_WRITE != 0
    }
}

/// `len` rounded up to whole pages; `None` past the address space.
#[must_use]
pub const fn page_up(len: usize) -> Option<usize> {
    match len.checked_add(PAGE_SIZE - 1) {
        Some(sum) => Some(sum & !(PAGE_SIZE - 1)),
        None => None,
    }
}

fn done(raw: isize) -> Result<(), Errno> {
    Errno::check(raw).map(|_| ())
}

const ANON: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

/// Maps fresh zero pages wherever the kernel likes. The result is the caller's.
///
/// # Errors
/// ENOMEM, EINVAL.
pub fn map_anywhere(len: usize, prot: Prot) -> Result<usize, Errno> {
    // SAFETY: a new mapping at a free address touches nothing that exists.
    Errno::check(unsafe { sys::mmap(0, len, prot.bits(), ANON, -1, 0) })
}

/// Replaces the range by fresh zero pages. Contract: the caller owns the range.
///
/// # Errors
/// ENOMEM, EINVAL; the old pages may be gone then.
pub fn map_fixed_anon(addr: usize, len: usize, prot: Prot) -> Result<(), Errno> {
    // SAFETY: the range is the caller's by contract.
    let raw = unsafe { sys::mmap(addr, len, prot.bits(), ANON | libc::MAP_FIXED, -1, 0) };
    done(raw)
}

/// Removes the range. Contract: the caller owns it and nobody uses it any more.
///
/// # Errors
/// EINVAL; ENOMEM where splitting a mapping passes the limit of mappings.
pub fn unmap(addr: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: the range is the caller's by contract.
    done(unsafe { sys::munmap(addr, len) })
}

/// Changes what may be done with the range. Contract: the caller owns it, and
/// no Rust reference into it becomes invalid.
///
/// # Errors
/// ENOMEM (limit of mappings, or a hole), EACCES, EINVAL.
pub fn protect(addr: usize, len: usize, prot: Prot) -> Result<(), Errno> {
    // SAFETY: the range is the caller's by contract.
    done(unsafe { sys::mprotect(addr, len, prot.bits()) })
}

/// Drops the pages of the range; they read as zeros at the next touch (or
/// fault, where registered). Contract: the contents are the caller's to lose.
///
/// # Errors
/// EINVAL for locked pages or odd addresses, ENOMEM for a hole.
pub fn discard(addr: usize, len: usize) -> Result<(), Errno> {
    advise(addr, len, libc::MADV_DONTNEED)
}

/// Writes zeros to a range of the program's, by ordinary stores: pages that are
/// out fault in first. Contract: nobody else uses the range, and the caller
/// holds no lock a fault could need.
pub fn write_zeros(addr: usize, len: usize) {
    // SAFETY: the range is the caller's by contract, and mapped for writing.
    unsafe { core::ptr::write_bytes(addr as *mut u8, 0, len) };
}

/// Copies between two ranges of the program's, by ordinary loads and stores.
/// Contract: both are mapped and distinct, and the caller holds no lock a fault
/// could need.
pub fn copy_range(to: usize, from: usize, len: usize) {
    // SAFETY: mapped and distinct by contract.
    unsafe { core::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, len) };
}

/// Keeps huge pages out of the range.
///
/// # Errors
/// EINVAL on kernels built without huge pages, where there is nothing to do.
pub fn no_huge_pages(addr: usize, len: usize) -> Result<(), Errno> {
    advise(addr, len, libc::MADV_NOHUGEPAGE)
}

/// Leaves the range out of core dumps.
///
/// # Errors
/// EINVAL, ENOMEM.
pub fn no_core_dump(addr: usize, len: usize) -> Result<(), Errno> {
    advise(addr, len, libc::MADV_DONTDUMP)
}

/// Makes the pages present and writable as a write fault would, so copies
/// shared after a fork become private. Never from a fault handler: it faults.
///
/// # Errors
/// EINVAL before Linux 5.14, ENOMEM, EFAULT, EHWPOISON.
pub fn populate_write(addr: usize, len: usize) -> Result<(), Errno> {
    loop {
        match advise(addr, len, libc::MADV_POPULATE_WRITE) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            result => return result,
        }
    }
}

/// Brings in what the kernel's own swap has of the range, without a fault. Holes
/// become zeros. Kernels before 5.14 wait for the first touch.
///
/// # Errors
/// ENOMEM, EFAULT, EHWPOISON.
pub fn populate_read(addr: usize, len: usize) -> Result<(), Errno> {
    loop {
        match advise(addr, len, libc::MADV_POPULATE_READ) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(Errno::EINVAL) => return Ok(()),
            result => return result,
        }
    }
}

/// Any madvise that is the caller's to give. Contract: as the advice demands.
///
/// # Errors
/// What the kernel says.
pub fn advise(addr: usize, len: usize, advice: i32) -> Result<(), Errno> {
    // SAFETY: the range is the caller's by contract.
    done(unsafe { sys::madvise(addr, len, advice) })
}

/// Moves the mapping at `old` to exactly `new_addr`, replacing what is there.
/// Contract: both ranges are the caller's.
///
/// # Errors
/// ENOMEM, EINVAL, EFAULT.
pub fn remap_fixed(old: usize, old_len: usize, new_addr: usize) -> Result<(), Errno> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both ranges are the caller's by contract.
    done(unsafe { sys::mremap(old, old_len, old_len, flags, new_addr) })
}

/// Takes the pages of a mapping away to `to`, whose own go; the mapping stays
/// where it is, empty, and who touches it faults. In one step: no write is lost.
/// Contract: both ranges are the caller's, and `addr` is not locked (it would
/// not be afterwards, see [`reclaimable`]).
///
/// # Errors
/// EFAULT where a registered range is not one mapping (any, before Linux 6.17),
/// ENOMEM; nothing is changed then.
pub fn remap_away(addr: usize, len: usize, to: usize) -> Result<(), Errno> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    // SAFETY: both ranges are the caller's by contract.
    done(unsafe { sys::mremap(addr, len, len, flags, to) })
}

/// Whether the kernel may take the pages of the range out of memory: it may not
/// where they are locked. Changes nothing but their age.
///
/// # Errors
/// EINVAL for locked pages, ENOMEM for a hole.
pub fn reclaimable(addr: usize, len: usize) -> Result<(), Errno> {
    advise(addr, len, libc::MADV_COLD)
}

/// Grows or shrinks a mapping of the caller's, moving it if need be.
///
/// # Errors
/// ENOMEM, EINVAL, EFAULT; the mapping is unchanged then.
pub fn remap(old: usize, old_len: usize, new_len: usize) -> Result<usize, Errno> {
    // SAFETY: the range is the caller's by contract.
    Errno::check(unsafe { sys::mremap(old, old_len, new_len, libc::MREMAP_MAYMOVE, 0) })
}

/// For each page of the range, bit 0 of one byte of `out`: in memory or not.
/// Reads nothing of the range itself.
///
/// # Errors
/// EINVAL where `out` is too short, ENOMEM for a hole.
pub fn resident(addr: usize, len: usize, out: &mut [u8]) -> Result<(), Errno> {
    if out.len() < len.div_ceil(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: `out` has a byte for every page, as checked.
    done(unsafe { sys::mincore(addr, len, out.as_mut_ptr()) })
}

/// How many pages of the range are in memory. Signal-safe.
///
/// # Errors
/// ENOMEM for a hole.
pub fn count_resident(addr: usize, len: usize) -> Result<usize, Errno> {
    const STEP: usize = 1024 * PAGE_SIZE;
    let mut states = [0_u8; 1024];
    let mut count = 0;
    for off in (0..len).step_by(STEP) {
        let step = STEP.min(len - off);
        resident(addr + off, step, &mut states)?;
        let seen = states.iter().take(step.div_ceil(PAGE_SIZE));
        count += seen.filter(|state| **state & 1 != 0).count();
    }
    Ok(count)
}

/// Keeps the pages of the range in memory until [`unlock`]ed.
///
/// # Errors
/// ENOMEM or EPERM past RLIMIT_MEMLOCK.
pub fn lock(addr: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: locking changes no contents.
    done(unsafe { sys::mlock(addr, len) })
}

/// Ends [`lock`].
///
/// # Errors
/// ENOMEM for a hole.
pub fn unlock(addr: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: unlocking changes no contents.
    done(unsafe { sys::munlock(addr, len) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_moves_with_its_contents() {
        let from = map_anywhere(PAGE_SIZE, Prot::READ_WRITE).unwrap();
        populate_write(from, PAGE_SIZE).unwrap();
        let target = AnonMap::reserve_none(PAGE_SIZE, 1).unwrap();
        remap_fixed(from, PAGE_SIZE, target.addr()).unwrap();
        assert_eq!(target.slice(0, 1).unwrap(), [0]);
        assert_eq!(protect(from, PAGE_SIZE, Prot::READ), Err(Errno::ENOMEM));
    }

    #[test]
    fn pages_are_taken_away_from_any_protection_and_the_mapping_stays() {
        for prot in [Prot::READ_WRITE, Prot::READ, Prot::NONE] {
            let from = AnonMap::new(3 * PAGE_SIZE, PAGE_SIZE).unwrap();
            let to = AnonMap::reserve_none(3 * PAGE_SIZE, PAGE_SIZE).unwrap();
            from.fill(0, 0x5a5a_5a5a, 3 * PAGE_SIZE).unwrap();
            let middle = from.addr() + PAGE_SIZE;
            protect(middle, PAGE_SIZE, prot).unwrap();
            assert_eq!(reclaimable(middle, PAGE_SIZE), Ok(()));
            remap_away(middle, PAGE_SIZE, to.addr() + PAGE_SIZE).unwrap();
            assert_eq!(protection(middle), Ok(prot));
            assert_eq!(count_resident(from.addr(), 3 * PAGE_SIZE), Ok(2));
            protect(to.addr() + PAGE_SIZE, PAGE_SIZE, Prot::READ).unwrap();
            assert_eq!(to.slice(PAGE_SIZE, 2).unwrap(), [0x5a, 0x5a]);
        }
    }

    #[test]
    fn locked_pages_are_told_from_others() {
        let map = AnonMap::new(2 * PAGE_SIZE, PAGE_SIZE).unwrap();
        map.fill(0, 7, 2 * PAGE_SIZE).unwrap();
        assert_eq!(reclaimable(map.addr(), 2 * PAGE_SIZE), Ok(()));
        lock(map.addr(), PAGE_SIZE).unwrap();
        let locked = reclaimable(map.addr(), 2 * PAGE_SIZE);
        assert_eq!(locked, Err(Errno::EINVAL));
    }
}
