//! Decisions about mappings, as pure functions.

use libc::{
    MAP_32BIT, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_GROWSDOWN, MAP_HUGETLB,
    MAP_LOCKED, MAP_PRIVATE, MAP_STACK, MAP_TYPE, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE,
};

const PAGE: usize = vswap_units::PAGE_SIZE;

/// The size of a huge page.
const HUGE: usize = 2 << 20;

/// The unit of page locks and fault-around: mappings begin on one.
const BLOCK: usize = 64 << 10;

/// Reservations of address space above this stay outside: the program means to
/// map parts of it later, not to fill it.
const RESERVATION_MAX: usize = 1 << 30;

/// Mappings with a hint below this are wanted there, not anywhere.
const LOW_HINT: usize = 1 << 32;

const UNMANAGED_FLAGS: i32 = MAP_FIXED
    | MAP_FIXED_NOREPLACE
    | MAP_STACK
    | MAP_GROWSDOWN
    | MAP_HUGETLB
    | MAP_32BIT
    | MAP_LOCKED;

/// Whether a mapping is private, anonymous and without demands on its place.
pub fn is_plain(flags: i32) -> bool {
    flags & MAP_TYPE == MAP_PRIVATE && flags & MAP_ANONYMOUS != 0 && flags & UNMANAGED_FLAGS == 0
}

/// Whether a new mapping goes to the engine.
pub fn is_managed(hint: usize, len: usize, prot: i32, flags: i32) -> bool {
    is_plain(flags)
        && prot & !(PROT_READ | PROT_WRITE) == 0
        && prot & PROT_EXEC == 0
        && (prot != PROT_NONE || len <= RESERVATION_MAX)
        && (hint == 0 || hint >= LOW_HINT)
}

/// Whether a mapping at a fixed place is fresh zeroed private memory, which the
/// engine can provide where the place is its own.
pub fn is_fresh_over(prot: i32, flags: i32) -> bool {
    const OTHER: i32 = UNMANAGED_FLAGS & !MAP_FIXED;
    flags & MAP_TYPE == MAP_PRIVATE
        && flags & MAP_ANONYMOUS != 0
        && flags & OTHER == 0
        && prot & !(PROT_READ | PROT_WRITE) == 0
}

/// Where a new mapping should begin: at a huge page if it may hold one.
pub fn alignment(len: usize) -> usize {
    if len >= HUGE { HUGE } else { BLOCK }
}

/// `len` rounded up to pages; `None` where the kernel would say EINVAL or
/// ENOMEM because the range leaves the address space.
pub fn page_range(addr: usize, len: usize) -> Option<usize> {
    let len = len.checked_next_multiple_of(PAGE)?;
    addr.checked_add(len)?;
    (addr.is_multiple_of(PAGE) && len > 0).then_some(len)
}

/// A range cut at the borders of the managed range: before it, inside it,
/// after it. Parts may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Unmanaged part before.
    pub before: (usize, usize),
    /// Managed part.
    pub inside: (usize, usize),
    /// Unmanaged part after.
    pub after: (usize, usize),
}

/// Cuts `[addr, addr + len)` at `[low, high)`. Parts are (address, length).
pub fn split(addr: usize, len: usize, low: usize, high: usize) -> Split {
    let end = addr.saturating_add(len);
    let cut = |from: usize, to: usize| {
        let from = from.max(addr);
        let to = to.min(end);
        (from, to.saturating_sub(from))
    };
    if low >= high {
        return Split {
            before: (addr, len),
            inside: (end, 0),
            after: (end, 0),
        };
    }
    Split {
        before: cut(0, low),
        inside: cut(low, high),
        after: cut(high, usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RW: i32 = PROT_READ | PROT_WRITE;
    const ANON: i32 = MAP_PRIVATE | MAP_ANONYMOUS;

    #[test]
    fn ordinary_private_memory_is_managed() {
        assert!(is_managed(0, BLOCK, RW, ANON));
        assert!(is_managed(0, BLOCK, PROT_NONE, ANON));
        assert!(is_managed(0x7f00_0000_0000, BLOCK, RW, ANON));
        assert!(is_managed(0, BLOCK, RW, ANON | libc::MAP_NORESERVE));
    }

    #[test]
    fn memory_with_demands_of_its_own_is_not_managed() {
        for flag in [MAP_FIXED, MAP_STACK, MAP_GROWSDOWN, MAP_HUGETLB, MAP_LOCKED] {
            assert!(!is_managed(0, BLOCK, RW, ANON | flag));
        }
        assert!(!is_managed(0, BLOCK, RW | PROT_EXEC, ANON));
        assert!(!is_managed(0, BLOCK, RW, MAP_PRIVATE));
        assert!(!is_managed(0, BLOCK, RW, libc::MAP_SHARED | MAP_ANONYMOUS));
        assert!(!is_managed(0x10000, BLOCK, RW, ANON));
        assert!(!is_managed(0, 1 << 40, PROT_NONE, ANON));
    }

    #[test]
    fn a_range_is_cut_at_both_borders() {
        let parts = split(100, 100, 120, 150);
        assert_eq!(parts.before, (100, 20));
        assert_eq!(parts.inside, (120, 30));
        assert_eq!(parts.after, (150, 50));
    }

    #[test]
    fn a_range_beside_the_managed_one_is_not_cut() {
        assert_eq!(split(10, 20, 100, 200).before, (10, 20));
        assert_eq!(split(10, 20, 100, 200).inside.1, 0);
        assert_eq!(split(300, 20, 100, 200).after, (300, 20));
        assert_eq!(split(300, 20, 100, 200).before.1, 0);
        assert_eq!(split(110, 20, 100, 200).inside, (110, 20));
        assert_eq!(split(5, 5, 0, 0).before, (5, 5));
    }

    #[test]
    fn lengths_are_rounded_to_pages_and_bad_ranges_refused() {
        assert_eq!(page_range(4096, 1), Some(4096));
        assert_eq!(page_range(4097, 1), None);
        assert_eq!(page_range(4096, 0), None);
        assert_eq!(page_range(4096, usize::MAX), None);
    }
}
