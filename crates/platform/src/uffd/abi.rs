//! The kernel's numbers and structures for userfaultfd, declared in full
//! because distributions' headers lack MOVE and POISON.

/// MOVE takes pages out of a range without copying (Linux 6.8).
pub const FEATURE_MOVE: u64 = 1 << 16;
/// POISON makes a page raise SIGBUS for good (Linux 6.6).
pub const FEATURE_POISON: u64 = 1 << 14;
/// A fault raises SIGBUS in the faulting thread (Linux 4.14).
pub const FEATURE_SIGBUS: u64 = 1 << 7;
/// A message says which thread faulted (Linux 4.14).
pub const FEATURE_THREAD_ID: u64 = 1 << 8;

pub(super) const UFFD_API: u64 = 0xaa;
pub(super) const USER_MODE_ONLY: usize = 1;
pub(super) const MODE_MISSING: u64 = 1 << 0;
pub(super) const MODE_WP: u64 = 1 << 1;
pub(super) const DONT_WAKE: u64 = 1 << 0;
pub(super) const MOVE_ALLOW_SRC_HOLES: u64 = 1 << 1;
pub(super) const EVENT_PAGEFAULT: u8 = 0x12;
pub(super) const FLAG_WRITE: u64 = 1 << 0;

const fn request(direction: u64, number: u64, size: usize) -> usize {
    ((direction << 30) | ((size as u64) << 16) | (0xaa << 8) | number) as usize
}
const READ: u64 = 2;
const READ_WRITE: u64 = 3;
pub(super) const IOC_NEW: usize = request(0, 0x00, 0);
pub(super) const IOC_REGISTER: usize = request(READ_WRITE, 0x00, size_of::<Register>());
pub(super) const IOC_UNREGISTER: usize = request(READ, 0x01, size_of::<Range>());
pub(super) const IOC_WAKE: usize = request(READ, 0x02, size_of::<Range>());
pub(super) const IOC_COPY: usize = request(READ_WRITE, 0x03, size_of::<Transfer>());
pub(super) const IOC_ZEROPAGE: usize = request(READ_WRITE, 0x04, size_of::<Fill>());
pub(super) const IOC_MOVE: usize = request(READ_WRITE, 0x05, size_of::<Transfer>());
pub(super) const IOC_POISON: usize = request(READ_WRITE, 0x08, size_of::<Fill>());
pub(super) const IOC_API: usize = request(READ_WRITE, 0x3f, size_of::<Api>());

#[repr(C)]
pub(super) struct Api {
    pub(super) api: u64,
    pub(super) features: u64,
    pub(super) ioctls: u64,
}

#[repr(C)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) len: u64,
}

#[repr(C)]
pub(super) struct Register {
    pub(super) range: Range,
    pub(super) mode: u64,
    pub(super) ioctls: u64,
}

/// `struct uffdio_copy` and `struct uffdio_move` have the same shape.
#[repr(C)]
pub(super) struct Transfer {
    pub(super) dst: u64,
    pub(super) src: u64,
    pub(super) len: u64,
    pub(super) mode: u64,
    pub(super) done: i64,
}

/// `struct uffdio_zeropage` and `struct uffdio_poison` have the same shape.
#[repr(C)]
pub(super) struct Fill {
    pub(super) range: Range,
    pub(super) mode: u64,
    pub(super) done: i64,
}

/// The size of `struct uffd_msg`; `parse_fault` knows what is where in it.
pub(super) const MESSAGE_BYTES: usize = 32;
