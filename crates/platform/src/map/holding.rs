//! Whether anybody but their mapping holds pages: a device that may still write
//! to them (direct I/O under way, buffers registered with io_uring), a pipe, or
//! the kernel in the middle of something.
//!
//! Nothing says so outright. But a page that anybody holds cannot be given
//! another place in RAM, and mbind gives every page one that is not on the right
//! node. Told to prefer the local node, which names no node, it takes every page
//! for one that is not, on machines with one node too; and in strict mode it
//! says when one stayed. So to be told is to have the pages copied once.

use crate::errno::Errno;
use crate::sys;

const MPOL_DEFAULT: i32 = 0;
const MPOL_LOCAL: i32 = 4;
const MPOL_MF_STRICT: u32 = 1;
const MPOL_MF_MOVE: u32 = 1 << 1;

/// Gives the pages of the range new places in RAM, and so makes sure that nobody
/// else holds them. What is not there, in the kernel's swap, or shared since a
/// fork is passed over. Contract: the range is the caller's.
///
/// # Errors
/// EIO where a page is held (others may have moved); ENOSYS, EPERM where it
/// cannot be told; ENOMEM, EFAULT.
pub fn nobody_else_holds(addr: usize, len: usize) -> Result<(), Errno> {
    bind(addr, len, MPOL_LOCAL, MPOL_MF_MOVE | MPOL_MF_STRICT)
}

/// Makes a range that was asked about an ordinary one again, which can become
/// one mapping with its neighbours.
///
/// # Errors
/// As [`nobody_else_holds`], but EIO.
pub fn forget_asking(addr: usize, len: usize) -> Result<(), Errno> {
    bind(addr, len, MPOL_DEFAULT, 0)
}

fn bind(addr: usize, len: usize, mode: i32, flags: u32) -> Result<(), Errno> {
    // SAFETY: there is no mask to read, and contents stay as they are.
    super::done(unsafe { sys::mbind(addr, len, mode, 0, 0, flags) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::AnonMap;
    use vswap_units::PAGE_SIZE;

    fn pages() -> AnonMap {
        let map = AnonMap::new(4 * PAGE_SIZE, PAGE_SIZE).unwrap();
        crate::map::no_huge_pages(map.addr(), map.len()).unwrap();
        map.fill(0, 0x5a5a_5a5a_5a5a_5a5a, map.len()).unwrap();
        map
    }

    fn held(map: &AnonMap) -> Vec<bool> {
        let page = |slot| nobody_else_holds(map.addr() + slot * PAGE_SIZE, PAGE_SIZE);
        (0..4)
            .map(|slot| match page(slot) {
                Ok(()) => false,
                Err(Errno::EIO) => true,
                Err(error) => panic!("{error}"),
            })
            .collect()
    }

    #[test]
    fn a_page_that_a_pipe_holds_is_told_until_it_was_read() {
        let map = pages();
        assert_eq!(nobody_else_holds(map.addr(), map.len()), Ok(()));
        let mut ends = [0_i32; 2];
        // SAFETY: two descriptors are written to a local.
        let made = unsafe { sys::pipe2(ends.as_mut_ptr() as usize, 0) };
        assert_eq!(made, 0);
        let part = [map.addr() + 2 * PAGE_SIZE, PAGE_SIZE];
        // SAFETY: the page stays mapped and unwritten while the pipe has it.
        let given = unsafe { sys::vmsplice(ends[1], part.as_ptr() as usize, 1, 0) };
        assert_eq!(given, PAGE_SIZE as isize);
        assert_eq!(nobody_else_holds(map.addr(), map.len()), Err(Errno::EIO));
        assert_eq!(held(&map), [false, false, true, false]);
        let mut page = [0_u8; PAGE_SIZE];
        assert_eq!(sys::read_into(ends[0], &mut page), Ok(PAGE_SIZE));
        assert_eq!(page, [0x5a; PAGE_SIZE]);
        assert_eq!(held(&map), [false; 4]);
        assert_eq!(forget_asking(map.addr(), map.len()), Ok(()));
        ends.into_iter().for_each(crate::fd::close);
        assert_eq!(map.slice(0, map.len()).unwrap(), [0x5a; 4 * PAGE_SIZE]);
    }

    #[test]
    fn a_buffer_registered_with_io_uring_is_told() {
        const REGISTER_BUFFERS: u32 = 0;
        let (map, mut parameters) = (pages(), [0_u64; 15]);
        // SAFETY: `io_uring_params` has 120 bytes.
        let ring = unsafe { sys::io_uring_setup(1, parameters.as_mut_ptr() as usize) };
        if ring < 0 {
            eprintln!("skipped: no io_uring here");
            return;
        }
        let ring = i32::try_from(ring).unwrap();
        let part = [map.addr() + PAGE_SIZE, 2 * PAGE_SIZE];
        // SAFETY: one vector that names memory of ours.
        let registered = unsafe {
            sys::io_uring_register(
                ring.cast_unsigned(),
                REGISTER_BUFFERS,
                part.as_ptr() as usize,
                1,
            )
        };
        assert_eq!(registered, 0);
        assert_eq!(nobody_else_holds(map.addr(), map.len()), Err(Errno::EIO));
        assert_eq!(held(&map), [false, true, true, false]);
        crate::fd::close(ring);
        assert_eq!(map.slice(0, map.len()).unwrap(), [0x5a; 4 * PAGE_SIZE]);
    }
}
