//! Memory that other processes may look into: the counters, the control page,
//! the table of a process tree. A sealed memfd each, so that nobody can make it
//! shorter under a reader, and nobody but its maker write what is ours to say.

use core::ffi::CStr;
use core::mem::{align_of, size_of};
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use bytemuck::Zeroable;
use vswap_units::PAGE_SIZE;

use crate::errno::Errno;
use crate::fd;

const SEAL_SEAL: usize = 0x1;
const SEAL_SHRINK: usize = 0x2;
const SEAL_GROW: usize = 0x4;
const SEAL_WRITE: usize = 0x8;
const SEAL_FUTURE_WRITE: usize = 0x10;
const NOEXEC_SEAL: u32 = 0x8;

/// What others may do with the memory once they have the descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Map it for reading.
    ReadOnly,
    /// Map it for reading and writing.
    Writable,
}

/// A shared mapping of a memfd. Nothing in it may be taken at its word where
/// others can write: every part of it is handed out as atomics or copied.
#[derive(Debug)]
pub struct SharedMem {
    fd: AtomicI32,
    addr: usize,
    len: usize,
    writable: bool,
    sharing: Sharing,
    borrowed: bool,
}

impl SharedMem {
    /// `len` bytes (rounded up to pages) of zeros, mapped for writing here.
    /// `/proc/PID/fd` shows it to others as `memfd:name`.
    pub fn create(name: &CStr, len: usize, sharing: Sharing) -> Result<SharedMem, Errno> {
        let len = len
            .checked_next_multiple_of(PAGE_SIZE)
            .ok_or(Errno::EINVAL)?;
        let (fd, addr) = make(name, len, sharing)?;
        Ok(SharedMem {
            fd: AtomicI32::new(fd),
            addr,
            len,
            writable: true,
            sharing,
            borrowed: false,
        })
    }

    /// Maps a memfd made by somebody else: for writing if its seals allow that.
    /// Takes the descriptor over (when this succeeds). EINVAL when it is not a
    /// memfd; it gets the seal against shrinking if it has none, EPERM if that
    /// is refused.
    pub fn attach(fd: i32) -> Result<SharedMem, Errno> {
        if fd::fcntl(fd, libc::F_GET_SEALS, 0)? & SEAL_SHRINK == 0 {
            fd::fcntl(fd, libc::F_ADD_SEALS, SEAL_SHRINK)?;
        }
        let mut shared = Self::attach_borrowed(fd)?;
        shared.borrowed = false;
        Ok(shared)
    }

    /// As [`attach`](Self::attach), for a descriptor that was inherited and may
    /// be anybody's: it is neither sealed nor closed.
    pub fn attach_borrowed(fd: i32) -> Result<SharedMem, Errno> {
        let seals = fd::fcntl(fd, libc::F_GET_SEALS, 0)?;
        let len = usize::try_from(fd::stat(fd)?.st_size).map_err(|_| Errno::EINVAL)?;
        let len = len & !(PAGE_SIZE - 1);
        let sealed = seals & (SEAL_WRITE | SEAL_FUTURE_WRITE) != 0;
        // A descriptor opened for reading only (through /proc) maps so as well.
        let mode = fd::fcntl(fd, libc::F_GETFL, 0)? & libc::O_ACCMODE as usize;
        let writable = !sealed && mode != libc::O_RDONLY as usize;
        let addr = fd::map_shared(fd, len, writable)?;
        Ok(SharedMem {
            fd: AtomicI32::new(fd),
            addr,
            len,
            writable,
            sharing: if sealed {
                Sharing::ReadOnly
            } else {
                Sharing::Writable
            },
            borrowed: true,
        })
    }

    /// In a forked child: puts a new memfd of the same size *at the same
    /// address*, so that references into it stay good, and lets go of the
    /// parent's. With `copy` it starts with the parent's bytes, else with zeros.
    /// The child must have no other thread that uses it meanwhile. EPERM for
    /// memory that others made.
    pub fn renew(&self, name: &CStr, copy: bool) -> Result<(), Errno> {
        if self.borrowed || !self.writable {
            return Err(Errno::EPERM);
        }
        let (fd, fresh) = make(name, self.len, self.sharing)?;
        if copy {
            // SAFETY: two mappings of `len` bytes, the new one unknown to anybody;
            // u64 copies of memory others may write are what `words` gives too.
            unsafe {
                core::ptr::copy_nonoverlapping(self.addr as *const u8, fresh as *mut u8, self.len);
            }
        }
        // Moved rather than mapped again: once sealed, no new writable mapping can be made.
        if let Err(e) = crate::map::remap_fixed(fresh, self.len, self.addr) {
            // SAFETY: made above, known to nobody.
            unsafe { fd::unmap(fresh, self.len) };
            fd::close(fd);
            return Err(e);
        }
        fd::close(self.fd.swap(fd, Ordering::AcqRel));
        Ok(())
    }

    /// Closes the descriptor; the mapping stays, here and in forked children.
    /// For memory that nobody is to find by its descriptor.
    pub fn close_descriptor(&self) {
        let fd = self.fd.swap(-1, Ordering::AcqRel);
        if fd >= 0 && !self.borrowed {
            fd::close(fd);
        }
    }

    /// The descriptor. Closing it elsewhere leaves the mapping whole.
    pub fn raw_fd(&self) -> i32 {
        self.fd.load(Ordering::Acquire)
    }

    /// Where it is mapped.
    pub fn addr(&self) -> usize {
        self.addr
    }

    /// Bytes mapped.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it may be written from here.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// A structure of atomics at `offset`; `None` outside, misaligned, or where
    /// only reading is allowed. `T` must be made of atomics alone: other
    /// processes see it, and some of them may write it.
    pub fn as_counters<T: Zeroable + Sync + 'static>(&self, offset: usize) -> Option<&T> {
        let addr = self.part(offset, size_of::<T>(), align_of::<T>())?;
        // SAFETY: inside the mapping and aligned; it began as zeros, which T
        // takes, and T's atomics take whatever another process writes.
        self.writable.then(|| unsafe { &*(addr as *const T) })
    }

    /// `count` 64-bit words at `offset`, writable only if `is_writable`: a store
    /// to a read-only mapping is a fault.
    pub fn words(&self, offset: usize, count: usize) -> Option<&[AtomicU64]> {
        let len = count.checked_mul(size_of::<u64>())?;
        let addr = self.part(offset, len, align_of::<u64>())?;
        // SAFETY: inside the mapping, aligned, any bits are a u64.
        Some(unsafe { core::slice::from_raw_parts(addr as *const AtomicU64, count) })
    }

    /// `count` 32-bit words at `offset`, as [`words`](Self::words).
    pub fn halves(&self, offset: usize, count: usize) -> Option<&[AtomicU32]> {
        let len = count.checked_mul(size_of::<u32>())?;
        let addr = self.part(offset, len, align_of::<u32>())?;
        // SAFETY: inside the mapping, aligned, any bits are a u32.
        Some(unsafe { core::slice::from_raw_parts(addr as *const AtomicU32, count) })
    }

    /// Copies bytes out; `None` outside.
    pub fn read_bytes(&self, offset: usize, out: &mut [u8]) -> Option<()> {
        let addr = self.part(offset, out.len(), 1)?;
        // SAFETY: inside the mapping; `out` is not in it, being borrowed mutably.
        unsafe { core::ptr::copy_nonoverlapping(addr as *const u8, out.as_mut_ptr(), out.len()) };
        Some(())
    }

    /// Copies bytes in; `None` outside or where only reading is allowed.
    pub fn write_bytes(&self, offset: usize, data: &[u8]) -> Option<()> {
        let addr = self.part(offset, data.len(), 1).filter(|_| self.writable)?;
        // SAFETY: inside the mapping, which is writable.
        unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), addr as *mut u8, data.len()) };
        Some(())
    }

    fn part(&self, offset: usize, len: usize, align: usize) -> Option<usize> {
        let end = offset.checked_add(len)?;
        let addr = self.addr.checked_add(offset)?;
        (end <= self.len && addr.is_multiple_of(align)).then_some(addr)
    }
}

impl Drop for SharedMem {
    fn drop(&mut self) {
        // SAFETY: every reference into it borrows from self.
        unsafe { fd::unmap(self.addr, self.len) };
        if !self.borrowed && self.raw_fd() >= 0 {
            fd::close(self.raw_fd());
        }
    }
}

/// A new memfd of `len` bytes, mapped and then sealed.
fn make(name: &CStr, len: usize, sharing: Sharing) -> Result<(i32, usize), Errno> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag that says "never a program".
    let fd = match fd::memfd(name, flags | NOEXEC_SEAL) {
        Err(Errno::EINVAL) => fd::memfd(name, flags)?,
        other => other?,
    };
    let fd = fd::lift(fd);
    let mapped = fill(fd, len, sharing);
    if mapped.is_err() {
        fd::close(fd);
    }
    Ok((fd, mapped?))
}

fn fill(fd: i32, len: usize, sharing: Sharing) -> Result<usize, Errno> {
    fd::set_len(fd, len as u64)?;
    let addr = fd::map_shared(fd, len, true)?;
    let seals = match sharing {
        Sharing::ReadOnly => SEAL_SHRINK | SEAL_GROW | SEAL_FUTURE_WRITE | SEAL_SEAL,
        Sharing::Writable => SEAL_SHRINK | SEAL_GROW | SEAL_SEAL,
    };
    fd::fcntl(fd, libc::F_ADD_SEALS, seals).inspect_err(|_| {
        // SAFETY: made above, known to nobody.
        unsafe { fd::unmap(addr, len) };
    })?;
    Ok(addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal_test(sharing: Sharing) -> SharedMem {
        let shared = SharedMem::create(c"vswap-test", 10_000, sharing).unwrap();
        assert_eq!(shared.len(), 12288);
        shared
    }

    #[test]
    fn nobody_can_write_or_resize_what_is_read_only() {
        let shared = seal_test(Sharing::ReadOnly);
        shared.write_bytes(100, b"counters").unwrap();
        let fd = shared.raw_fd();
        assert_eq!(fd::pwrite(fd, b"x", 0), Err(Errno::EPERM));
        assert_eq!(fd::set_len(fd, 4096), Err(Errno::EPERM));
        assert_eq!(fd::set_len(fd, 1 << 20), Err(Errno::EPERM));
        let writable = fd::map_shared(fd, 4096, true);
        assert_eq!(writable, Err(Errno::EPERM));
        assert_eq!(
            fd::fcntl(fd, libc::F_ADD_SEALS, SEAL_WRITE),
            Err(Errno::EPERM)
        );
        let mut back = [0u8; 8];
        fd::pread(fd, &mut back, 100).unwrap();
        assert_eq!(&back, b"counters");
    }

    #[test]
    fn a_reader_sees_the_writers_words_live_and_cannot_store() {
        let ours = seal_test(Sharing::ReadOnly);
        let path = fd::CPath::new(&[
            b"/proc/self/fd/",
            fd::Digits::new(ours.raw_fd() as u64).as_bytes(),
        ])
        .unwrap();
        let opened = fd::open(path.as_c_str(), libc::O_RDONLY, 0).unwrap();
        let theirs = SharedMem::attach(opened).unwrap();
        assert!(!theirs.is_writable());
        assert!(theirs.write_bytes(0, b"x").is_none());
        for i in 0..512usize {
            ours.words(4096, 512).unwrap()[i].store(i as u64 * 7, Ordering::Relaxed);
        }
        for i in 0..512usize {
            let word = &theirs.words(4096, 512).unwrap()[i];
            assert_eq!(word.load(Ordering::Relaxed), i as u64 * 7);
        }
    }

    #[test]
    fn the_writable_kind_is_written_from_both_sides_but_never_resized() {
        let ours = seal_test(Sharing::Writable);
        let theirs =
            SharedMem::attach(fd::fcntl(ours.raw_fd(), libc::F_DUPFD_CLOEXEC, 0).unwrap() as i32);
        let theirs = theirs.unwrap();
        assert!(theirs.is_writable());
        theirs.words(0, 1).unwrap()[0].store(42, Ordering::Relaxed);
        assert_eq!(
            ours.as_counters::<AtomicU64>(0)
                .unwrap()
                .load(Ordering::Relaxed),
            42
        );
        assert_eq!(fd::set_len(ours.raw_fd(), 0), Err(Errno::EPERM));
    }

    #[test]
    fn parts_outside_or_misaligned_are_refused() {
        let shared = seal_test(Sharing::Writable);
        assert!(shared.words(12288, 1).is_none());
        assert!(shared.words(12288 - 8, 1).is_some());
        assert!(shared.words(4, 1).is_none());
        assert!(shared.words(0, usize::MAX).is_none());
        assert!(shared.as_counters::<AtomicU64>(usize::MAX - 3).is_none());
        assert!(shared.read_bytes(12280, &mut [0; 9]).is_none());
    }

    #[test]
    fn a_child_gets_its_own_at_the_same_address() {
        let shared = seal_test(Sharing::ReadOnly);
        let word = &shared.words(0, 1).unwrap()[0];
        word.store(5, Ordering::Relaxed);
        let parents = fd::fcntl(shared.raw_fd(), libc::F_DUPFD_CLOEXEC, 0).unwrap() as i32;
        shared.renew(c"vswap-test", true).unwrap();
        assert_eq!(word.load(Ordering::Relaxed), 5);
        word.store(6, Ordering::Relaxed);
        let mut old = [0u8; 8];
        fd::pread(parents, &mut old, 0).unwrap();
        assert_eq!(u64::from_ne_bytes(old), 5);
        let mut new = [0u8; 8];
        fd::pread(shared.raw_fd(), &mut new, 0).unwrap();
        assert_eq!(u64::from_ne_bytes(new), 6);
        shared.renew(c"vswap-test", false).unwrap();
        assert_eq!(word.load(Ordering::Relaxed), 0);
        fd::close(parents);
    }

    #[test]
    fn a_borrowed_descriptor_is_neither_sealed_nor_closed() {
        let fd = fd::memfd(c"vswap-tree", libc::MFD_CLOEXEC).unwrap();
        fd::set_len(fd, 8192).unwrap();
        assert_eq!(SharedMem::attach(fd).err(), Some(Errno::EPERM));
        let shared = SharedMem::attach_borrowed(fd).unwrap();
        shared.words(4096, 1).unwrap()[0].store(3, Ordering::Relaxed);
        assert_eq!(shared.renew(c"vswap-tree", true), Err(Errno::EPERM));
        drop(shared);
        let mut back = [0u8; 8];
        assert_eq!(fd::pread(fd, &mut back, 4096), Ok(8));
        assert_eq!(u64::from_ne_bytes(back), 3);
        fd::close(fd);
    }

    #[test]
    fn a_descriptor_that_is_no_memfd_is_refused() {
        let fd = fd::open(c"/dev/null", libc::O_RDWR, 0).unwrap();
        assert_eq!(SharedMem::attach(fd).err(), Some(Errno::EINVAL));
        fd::close(fd);
    }
}
