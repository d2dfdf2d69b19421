//! What the running kernel and this process's privileges allow.
//!
//! Each fact is found by trying, never from the version number: distributions
//! carry features back, and sandboxes take them away.

use core::fmt;

use vswap_units::PAGE_SIZE;

use crate::errno::Errno;
use crate::map::{self, AnonMap};
use crate::uffd::{self, OpenError, UffdMode};
use crate::{fd, pagemap, proc, sys};

/// Major and minor number of the kernel, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 6 in 6.18.
    pub major: u32,
    /// 18 in 6.18.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// As uname says it.
    pub version: Version,
    /// Features of a userfaultfd that also serves system calls (thread mode).
    pub uffd_kernel_mode: Result<u64, OpenError>,
    /// Features of one that serves user mode only (signal mode).
    pub uffd_user_mode: Result<u64, OpenError>,
    /// Pages can be moved without a copy (Linux 6.8).
    pub has_move: bool,
    /// A lost page can be made an error for good (Linux 6.6).
    pub has_poison: bool,
    /// Faults can be delivered as SIGBUS.
    pub has_sigbus: bool,
    /// Pages can be taken away from under a mapping (Linux 5.7), and it can be
    /// told whether anybody still writes to them: what takes the place of MOVE.
    pub can_take_aside: bool,
    /// PAGEMAP_SCAN (Linux 6.7).
    pub has_pagemap_scan: bool,
    /// MADV_POPULATE_WRITE (Linux 5.14).
    pub has_populate_write: bool,
    /// A descriptor the program closed can be had back (Linux 6.9).
    pub has_thread_pidfd: bool,
    /// /proc is mounted and shows this process.
    pub has_proc: bool,
    /// vm.overcommit_memory: 0 heuristic, 1 always, 2 strict.
    pub overcommit: Option<u8>,
    /// The base page size; vswap needs 4096.
    pub page_size: usize,
}

impl Kernel {
    /// Tries everything; some milliseconds, nothing is left behind.
    pub fn probe() -> Kernel {
        let uffd_kernel_mode = uffd::available_features(UffdMode::Kernel);
        let uffd_user_mode = uffd::available_features(UffdMode::UserOnly);
        let features = uffd_kernel_mode.or(uffd_user_mode).unwrap_or(0);
        Kernel {
            version: version(),
            uffd_kernel_mode,
            uffd_user_mode,
            has_move: features & uffd::FEATURE_MOVE != 0,
            has_poison: features & uffd::FEATURE_POISON != 0,
            has_sigbus: features & uffd::FEATURE_SIGBUS != 0,
            can_take_aside: taking_aside_works().is_ok(),
            has_pagemap_scan: pagemap::has_scan(),
            has_populate_write: populate_write_works(),
            has_thread_pidfd: thread_pidfd_works(),
            has_proc: proc::statm().is_ok(),
            overcommit: overcommit(),
            page_size: page_size(),
        }
    }

    /// Whether vswap can manage memory here in any way.
    pub fn is_usable(&self) -> bool {
        self.page_size == PAGE_SIZE
            && (self.uffd_kernel_mode.is_ok() || self.uffd_user_mode.is_ok())
            && (self.has_move || self.can_take_aside)
    }
}

fn version() -> Version {
    let mut names = [0u8; size_of::<libc::utsname>()];
    // SAFETY: the kernel fills at most this structure.
    let done = unsafe { sys::uname(names.as_mut_ptr() as usize) };
    let release = names
        .get(core::mem::offset_of!(libc::utsname, release)..)
        .filter(|_| done == 0)
        .unwrap_or_default();
    let text = release.split(|&b| b == 0).next().unwrap_or_default();
    parse_version(core::str::from_utf8(text).unwrap_or_default())
}

fn parse_version(text: &str) -> Version {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    Version {
        major: numbers.next().unwrap_or(0),
        minor: numbers.next().unwrap_or(0),
    }
}

fn populate_write_works() -> bool {
    AnonMap::new(PAGE_SIZE, PAGE_SIZE)
        .and_then(|page| map::populate_write(page.addr(), page.len()))
        .is_ok()
}

/// Tries what takes the place of MOVE on kernels without it.
///
/// # Errors
/// The kernel's, for the step it refuses.
pub fn taking_aside_works() -> Result<(), Errno> {
    let page = || AnonMap::new(PAGE_SIZE, PAGE_SIZE);
    let (from, to) = (page()?, page()?);
    map::populate_write(from.addr(), PAGE_SIZE)?;
    map::remap_away(from.addr(), PAGE_SIZE, to.addr())?;
    match map::nobody_else_holds(to.addr(), PAGE_SIZE) {
        // Held by the kernel for a moment; that it can be told is all we ask.
        Err(Errno::EIO) => Ok(()),
        told => told,
    }
}

fn thread_pidfd_works() -> bool {
    let Ok(probe) = fd::open(c"/dev/null", libc::O_RDONLY, 0) else {
        return false;
    };
    let copy = i32::try_from(sys::gettid())
        .map_err(|_| Errno::ESRCH)
        .and_then(|tid| fd::fd_of_thread(tid, probe));
    fd::close(probe);
    copy.map(fd::close).is_ok()
}

fn overcommit() -> Option<u8> {
    let mut text = [0u8; 8];
    proc::read_small(c"/proc/sys/vm/overcommit_memory", &mut text).ok()?;
    text.first()
        .filter(|b| b.is_ascii_digit())
        .map(|b| b - b'0')
}

/// From the auxiliary vector, as the kernel gave it to this process.
fn page_size() -> usize {
    const AT_PAGESZ: usize = 6;
    let mut words = [[0usize; 2]; 32];
    let bytes = bytemuck::bytes_of_mut(&mut words);
    if proc::read_small(c"/proc/self/auxv", bytes).is_err() {
        return PAGE_SIZE;
    }
    let found = words.iter().find(|[key, _]| *key == AT_PAGESZ);
    found.map_or(PAGE_SIZE, |[_, value]| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_spellings_are_read() {
        let read = |text| {
            let v = parse_version(text);
            (v.major, v.minor)
        };
        assert_eq!(read("6.18.44-fc-v595"), (6, 18));
        assert_eq!(read("5.15.0-91-generic"), (5, 15));
        assert_eq!(read("6.9-rc1"), (6, 9));
        assert_eq!(read("nonsense"), (0, 0));
    }

    #[test]
    fn the_probe_agrees_with_itself() {
        let kernel = Kernel::probe();
        assert!(kernel.version.major >= 4, "{}", kernel.version);
        assert_eq!(kernel.page_size, PAGE_SIZE);
        assert!(kernel.has_proc);
        assert!(kernel.can_take_aside, "{:?}", taking_aside_works());
        assert_eq!(
            kernel.has_move,
            kernel
                .uffd_kernel_mode
                .or(kernel.uffd_user_mode)
                .unwrap_or(0)
                & uffd::FEATURE_MOVE
                != 0
        );
        eprintln!("{kernel:?}");
    }
}
