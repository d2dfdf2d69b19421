//! Userfaultfd: missing pages are told to us, and we put pages in place or move
//! them out without a copy.
//!
//! Userfaultfd *events* (fork, remap, remove) are never asked for: with them,
//! every change of a mapping would make COPY and MOVE fail with EAGAIN while it
//! lasts.
//!
//! Every operation on a run reports how far it came ([`Progress`]) *and* why it
//! stopped. The count comes first: a run that stopped at its eleventh page has
//! moved ten, and asking for those again would find them absent, which must
//! never be read as "never written".

mod abi;
mod error;
mod untold;

use abi::*;
pub use abi::{FEATURE_MOVE, FEATURE_POISON, FEATURE_SIGBUS, FEATURE_THREAD_ID};
pub use error::OpenError;

use core::sync::atomic::{AtomicU8, Ordering};

use crate::errno::Errno;
use crate::fd;

/// How often a run that makes no progress because the kernel asks to try again
/// is tried again before the caller gets the EAGAIN.
const MAX_IDLE_RETRIES: u32 = 100;

/// Which faults are ours to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UffdMode {
    /// Also faults the kernel takes on the program's behalf (inside `read(2)`).
    Kernel,
    /// Only faults taken in user mode; needs no privilege (Linux 5.11).
    UserOnly,
}

/// How far an operation on a run came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done, from the start of the run.
    pub done: usize,
    /// Why it stopped there, if it stopped before the end.
    pub error: Option<Errno>,
}

/// One page fault that waits for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The page's address.
    pub addr: usize,
    /// It was a write.
    pub write: bool,
    /// The faulting thread's number; 0 where the kernel does not say.
    pub thread: u32,
}

/// One userfaultfd. Dropping it closes the descriptor, which unregisters its
/// ranges: absent pages then read as zeros, so the engine's is never dropped.
#[derive(Debug)]
pub struct Userfaultfd {
    fd: i32,
    features: u64,
}

impl Userfaultfd {
    /// Opens one with every feature we know that this kernel has; with `sigbus`
    /// faults are delivered as SIGBUS to the faulting thread.
    ///
    /// `VSWAP_TEST_NO_MOVE=1` hides MOVE, to run the old kernels' path.
    pub fn open(mode: UffdMode, sigbus: bool) -> Result<Userfaultfd, OpenError> {
        let available = available_features(mode)?;
        let wanted = features_to_ask(available, sigbus, move_is_hidden())?;
        let mut uffd = open_bare(mode)?;
        uffd.handshake(wanted).map_err(OpenError::Other)?;
        uffd.features = wanted;
        Ok(uffd)
    }

    /// A copy of `self` out of the private descriptor table of thread `tid` of
    /// this process, for when the program has closed ours (Linux 6.9).
    pub fn recover(&self, tid: i32) -> Result<Userfaultfd, Errno> {
        let fd = fd::fd_of_thread(tid, self.fd)?;
        Ok(Userfaultfd {
            fd,
            features: self.features,
        })
    }

    /// The features in force.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Whether pages can be moved without a copy.
    pub fn has_move(&self) -> bool {
        self.features & FEATURE_MOVE != 0
    }

    /// Whether pages can be poisoned.
    pub fn has_poison(&self) -> bool {
        self.features & FEATURE_POISON != 0
    }

    /// The descriptor, to keep it open and to poll it.
    pub fn raw_fd(&self) -> i32 {
        self.fd
    }

    /// Missing pages of the range fault to us from now on. Pages that are there
    /// stay as they are.
    pub fn register(&self, addr: usize, len: usize) -> Result<(), Errno> {
        self.register_for(MODE_MISSING, addr, len)
    }

    fn register_for(&self, mode: u64, addr: usize, len: usize) -> Result<(), Errno> {
        let mut arg = Register {
            range: range(addr, len),
            mode,
            ioctls: 0,
        };
        self.ioctl(IOC_REGISTER, &mut arg)
    }

    /// Pages may be moved into the range from now on. Its missing pages stay the
    /// kernel's: it is registered for write protection, and nothing in it is
    /// ever protected, because a range must be registered for something.
    pub fn register_as_target(&self, addr: usize, len: usize) -> Result<(), Errno> {
        self.register_for(MODE_WP, addr, len)
    }

    /// Missing pages of the range are the kernel's again (and read as zeros).
    pub fn unregister(&self, addr: usize, len: usize) -> Result<(), Errno> {
        self.ioctl(IOC_UNREGISTER, &mut range(addr, len))
    }

    /// Puts copies of `len` bytes at `src` into the missing pages at `dst` and
    /// wakes who waits for them. EEXIST: the page at `dst + done` is there.
    pub fn copy(&self, dst: usize, src: usize, len: usize) -> Progress {
        self.transfer(IOC_COPY, dst, src, len, 0)
    }

    /// As [`copy`](Self::copy), and wakes nobody.
    pub fn copy_no_wake(&self, dst: usize, src: usize, len: usize) -> Progress {
        self.transfer(IOC_COPY, dst, src, len, DONT_WAKE)
    }

    /// Moves the pages at `src` to the missing pages at `dst`, without a copy
    /// and atomically against writers; the pages at `src` are missing after it.
    ///
    /// Where it stops: ENOENT: no page at `src + done` (with `allow_holes` a hole
    /// counts as moved). EEXIST: a page is at `dst + done`. EBUSY: that page is
    /// shared (fork, KSM) or pinned. EINVAL: protections differ, the end of a
    /// mapping, locked memory. EAGAIN: the kernel had no luck for long.
    ///
    /// The caller owns both ends, and what it asks to fill is missing: so `done` is
    /// right also where the kernel's own count is not (`untold`).
    pub fn move_pages(&self, dst: usize, src: usize, len: usize, allow_holes: bool) -> Progress {
        let mode = if allow_holes { MOVE_ALLOW_SRC_HOLES } else { 0 };
        let mut done = 0;
        while done < len {
            let (to, from, rest) = (dst + done, src + done, len - done);
            let told = self.transfer(IOC_MOVE, to, from, rest, mode);
            let untold = match told.error {
                Some(Errno::EEXIST) => {
                    self.moved_untold(to + told.done, from + told.done, rest - told.done)
                }
                _ => 0,
            };
            done += told.done + untold;
            if told.error.is_some() && untold == 0 {
                return Progress {
                    done,
                    error: told.error,
                };
            }
        }
        Progress { done, error: None }
    }

    /// Looks into an EEXIST of MOVE; nobody was woken for the pages it did not count.
    fn moved_untold(&self, dst: usize, src: usize, len: usize) -> usize {
        let untold = untold::moved(dst, src, len);
        if untold > 0 {
            let _ = self.wake(dst, untold);
        }
        untold
    }

    /// Maps the shared zero page into missing pages and wakes.
    pub fn zeropage(&self, addr: usize, len: usize) -> Progress {
        self.fill(IOC_ZEROPAGE, addr, len)
    }

    /// Makes missing pages raise SIGBUS when touched, for good, and wakes.
    /// EOPNOTSUPP on kernels without it.
    pub fn poison(&self, addr: usize, len: usize) -> Progress {
        if !self.has_poison() {
            return Progress {
                done: 0,
                error: Some(Errno::EOPNOTSUPP),
            };
        }
        self.fill(IOC_POISON, addr, len)
    }

    /// Wakes the threads that wait for a page of the range; they fault again if
    /// it is not there.
    pub fn wake(&self, addr: usize, len: usize) -> Result<(), Errno> {
        self.ioctl(IOC_WAKE, &mut range(addr, len))
    }

    /// Waits for a fault, at most `timeout_ms` (below zero: for ever). `None`
    /// also when another thread took the fault, or a signal came.
    pub fn wait_fault(&self, timeout_ms: i32) -> Result<Option<Fault>, Errno> {
        // Reading first saves a system call whenever a fault is waiting.
        if let Some(fault) = self.read_fault()? {
            return Ok(Some(fault));
        }
        if !fd::poll_in(self.fd, timeout_ms)? {
            return Ok(None);
        }
        self.read_fault()
    }

    fn read_fault(&self) -> Result<Option<Fault>, Errno> {
        let mut message = [0u8; MESSAGE_BYTES];
        let got = fd::read(self.fd, &mut message);
        match got {
            Ok(_) => Ok(parse_fault(&message)),
            Err(e) if e == Errno::EAGAIN || e == Errno::EINTR => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn handshake(&self, features: u64) -> Result<u64, Errno> {
        let mut api = Api {
            api: UFFD_API,
            features,
            ioctls: 0,
        };
        self.ioctl(IOC_API, &mut api)?;
        Ok(api.features)
    }

    fn transfer(&self, request: usize, dst: usize, src: usize, len: usize, mode: u64) -> Progress {
        run_to_end(len, |done| {
            let mut arg = Transfer {
                dst: (dst + done) as u64,
                src: (src + done) as u64,
                len: (len - done) as u64,
                mode,
                done: 0,
            };
            let result = self.ioctl(request, &mut arg);
            (arg.done, result)
        })
    }

    fn fill(&self, request: usize, addr: usize, len: usize) -> Progress {
        run_to_end(len, |done| {
            let mut arg = Fill {
                range: range(addr + done, len - done),
                mode: 0,
                done: 0,
            };
            let result = self.ioctl(request, &mut arg);
            (arg.done, result)
        })
    }

    fn ioctl<T>(&self, request: usize, arg: &mut T) -> Result<(), Errno> {
        // SAFETY: each caller pairs the request with the structure whose size is
        // part of the request number; the addresses inside name page tables to
        // change, which is this module's contract with its callers.
        unsafe { fd::ioctl(self.fd, request, core::ptr::from_mut(arg) as usize) }.map(|_| ())
    }
}

impl Drop for Userfaultfd {
    fn drop(&mut self) {
        fd::close(self.fd);
    }
}

/// Looked up once: a forked child gets here as well, before anybody serves its faults, and the environment may be swapped
/// out then. Asked of the C library, not of std, whose lock a thread may hold that the child does not have.
fn move_is_hidden() -> bool {
    const UNKNOWN: u8 = 0;
    const SHOWN: u8 = 1;
    const HIDDEN: u8 = 2;
    static MOVE: AtomicU8 = AtomicU8::new(UNKNOWN);
    match MOVE.load(Ordering::Relaxed) {
        UNKNOWN => {
            let hidden = environment_hides_move();
            MOVE.store(if hidden { HIDDEN } else { SHOWN }, Ordering::Relaxed);
            hidden
        }
        known => known == HIDDEN,
    }
}

fn environment_hides_move() -> bool {
    // SAFETY: a C string in, a C string of the environment or null out.
    unsafe {
        let value = libc::getenv(c"VSWAP_TEST_NO_MOVE".as_ptr());
        !value.is_null() && core::ffi::CStr::from_ptr(value) == c"1"
    }
}

/// What to ask for: all we use that there is, and SIGBUS only when wanted.
fn features_to_ask(available: u64, sigbus: bool, hide_move: bool) -> Result<u64, OpenError> {
    let mut wanted = FEATURE_POISON | FEATURE_THREAD_ID;
    if !hide_move {
        wanted |= FEATURE_MOVE;
    }
    if sigbus {
        if available & FEATURE_SIGBUS == 0 {
            return Err(OpenError::NoSigbus);
        }
        wanted |= FEATURE_SIGBUS;
    }
    Ok(wanted & available)
}

/// The features this kernel offers, asked of a throw-away descriptor (the
/// handshake that enables features is the same call and works once).
pub fn available_features(mode: UffdMode) -> Result<u64, OpenError> {
    open_bare(mode)?.handshake(0).map_err(OpenError::Other)
}

/// A page fault out of a message: the event at 0, flags at 8, the address at 16,
/// the thread at 24 (0 where that was not asked for).
fn parse_fault(message: &[u8; MESSAGE_BYTES]) -> Option<Fault> {
    let word = |at: usize| {
        let bytes = message.get(at..at + 8)?;
        bytes.try_into().ok().map(u64::from_ne_bytes)
    };
    if message.first() != Some(&EVENT_PAGEFAULT) {
        return None;
    }
    let (flags, address) = (word(8)?, word(16)?);
    Some(Fault {
        addr: address as usize & !(vswap_units::PAGE_SIZE - 1),
        write: flags & FLAG_WRITE != 0,
        thread: word(24)? as u32,
    })
}

fn open_bare(mode: UffdMode) -> Result<Userfaultfd, OpenError> {
    let mut flags = (libc::O_CLOEXEC | libc::O_NONBLOCK) as usize;
    if mode == UffdMode::UserOnly {
        flags |= USER_MODE_ONLY;
    }
    let fd = match fd::userfaultfd(flags) {
        Ok(fd) => fd,
        Err(e) => open_device(flags).map_err(|_| OpenError::from(e))?,
    };
    Ok(Userfaultfd {
        fd: fd::lift(fd),
        features: 0,
    })
}

/// The way in that file permissions govern instead of capabilities (Linux 6.1).
fn open_device(flags: usize) -> Result<i32, Errno> {
    let device = fd::open(c"/dev/userfaultfd", libc::O_RDWR | libc::O_CLOEXEC, 0)?;
    // SAFETY: this request takes flags by value.
    let made = unsafe { fd::ioctl(device, IOC_NEW, flags) };
    fd::close(device);
    made.and_then(|fd| i32::try_from(fd).map_err(|_| Errno::EBADF))
}

fn range(addr: usize, len: usize) -> Range {
    Range {
        start: addr as u64,
        len: len as u64,
    }
}

/// Calls `step(done)` until the run is done or stuck. The count a step reports
/// is believed before its errno: after a part, the kernel says EAGAIN whatever
/// the reason, and only the next step, from there, learns the reason.
fn run_to_end(len: usize, mut step: impl FnMut(usize) -> (i64, Result<(), Errno>)) -> Progress {
    let mut done = 0;
    let mut idle = 0;
    while done < len {
        let (count, result) = step(done);
        let advanced = usize::try_from(count).unwrap_or(0);
        done += advanced.min(len - done);
        match result {
            Err(errno) if advanced == 0 => {
                idle += 1;
                if errno != Errno::EAGAIN || idle > MAX_IDLE_RETRIES {
                    return Progress {
                        done,
                        error: Some(errno),
                    };
                }
            }
            // The kernel never does this; a loop without end would be worse.
            Ok(()) if advanced == 0 => {
                return Progress {
                    done,
                    error: Some(Errno::EIO),
                };
            }
            _ => idle = 0,
        }
    }
    Progress { done, error: None }
}

#[cfg(test)]
mod tests;
