//! System calls on file descriptors, raw and typed, for the modules of this floor.
//!
//! The C library's versions are interposed by the preload layer and would make
//! the engine wait for itself.

use core::ffi::CStr;

use syscalls::Sysno;

use crate::errno::Errno;
use crate::sys;

/// One raw system call; EINTR is passed on.
///
/// # Safety
/// The arguments must be what the kernel expects of this call.
unsafe fn call(number: Sysno, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    Errno::check(unsafe { sys::any(number, args) })
}

fn fd_of(value: usize) -> Result<i32, Errno> {
    i32::try_from(value).map_err(|_| Errno::EBADF)
}

/// `openat(AT_FDCWD, ...)`; O_CLOEXEC is always added.
pub(crate) fn open(path: &CStr, flags: i32, mode: u32) -> Result<i32, Errno> {
    let flags = (flags | libc::O_CLOEXEC) as usize;
    let at = libc::AT_FDCWD as usize;
    // SAFETY: `path` ends with a zero; the rest are plain numbers.
    let opened = unsafe {
        call(
            Sysno::openat,
            [at, path.as_ptr() as usize, flags, mode as usize, 0, 0],
        )
    };
    opened.and_then(fd_of)
}

/// Removes a name.
pub(crate) fn unlink(path: &CStr) -> Result<(), Errno> {
    let at = libc::AT_FDCWD as usize;
    // SAFETY: `path` ends with a zero.
    unsafe { call(Sysno::unlinkat, [at, path.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Closes; the result of close(2) tells nothing that could be acted upon.
pub(crate) fn close(fd: i32) {
    // SAFETY: a number; the owner of the descriptor gives it up by contract.
    let _ = unsafe { call(Sysno::close, [fd as usize, 0, 0, 0, 0, 0]) };
}

/// # Safety
/// `request` must be one whose argument `arg` is: a value, or the address of the
/// structure whose size the request number carries.
pub(crate) unsafe fn ioctl(fd: i32, request: usize, arg: usize) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    unsafe { call(Sysno::ioctl, [fd as usize, request, arg, 0, 0, 0]) }
}

/// Reads into a buffer; EINTR is passed on.
pub(crate) fn read(fd: i32, out: &mut [u8]) -> Result<usize, Errno> {
    let (addr, len) = (out.as_mut_ptr() as usize, out.len());
    // SAFETY: the buffer is ours for the call.
    unsafe { call(Sysno::read, [fd as usize, addr, len, 0, 0, 0]) }
}

/// One `pread64`.
pub(crate) fn pread(fd: i32, out: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let (addr, len) = (out.as_mut_ptr() as usize, out.len());
    // SAFETY: the buffer is ours for the call.
    unsafe {
        call(
            Sysno::pread64,
            [fd as usize, addr, len, offset as usize, 0, 0],
        )
    }
}

/// One `pwrite64`.
pub(crate) fn pwrite(fd: i32, data: &[u8], offset: u64) -> Result<usize, Errno> {
    let (addr, len) = (data.as_ptr() as usize, data.len());
    // SAFETY: the buffer is readable for the call.
    unsafe {
        call(
            Sysno::pwrite64,
            [fd as usize, addr, len, offset as usize, 0, 0],
        )
    }
}

/// Waits until `fd` has something to read; false on timeout and on a signal.
pub(crate) fn poll_in(fd: i32, timeout_ms: i32) -> Result<bool, Errno> {
    poll_for(fd, libc::POLLIN, timeout_ms)
}

/// Waits until `fd` takes something more; false on timeout and on a signal.
pub(crate) fn poll_out(fd: i32, timeout_ms: i32) -> Result<bool, Errno> {
    poll_for(fd, libc::POLLOUT, timeout_ms)
}

fn poll_for(fd: i32, events: i16, timeout_ms: i32) -> Result<bool, Errno> {
    let mut entry = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    let timeout = (timeout_ms >= 0).then(|| libc::timespec {
        tv_sec: i64::from(timeout_ms / 1000),
        tv_nsec: i64::from(timeout_ms % 1000) * 1_000_000,
    });
    let timeout = timeout
        .as_ref()
        .map_or(0, |t| core::ptr::from_ref(t) as usize);
    let entry_addr = (&raw mut entry) as usize;
    // SAFETY: one pollfd and an optional timespec, both alive; no signal mask.
    match unsafe { call(Sysno::ppoll, [entry_addr, 1, timeout, 0, 0, 0]) } {
        Ok(0) => Ok(false),
        Ok(_) if entry.revents & libc::POLLNVAL != 0 => Err(Errno::EBADF),
        Ok(_) => Ok(entry.revents & events != 0),
        Err(Errno::EINTR) => Ok(false),
        Err(e) => Err(e),
    }
}

/// `userfaultfd(2)`.
pub(crate) fn userfaultfd(flags: usize) -> Result<i32, Errno> {
    // SAFETY: a number.
    unsafe { call(Sysno::userfaultfd, [flags, 0, 0, 0, 0, 0]) }.and_then(fd_of)
}

/// A copy of descriptor `fd` as thread `tid` of this process sees it, whose
/// descriptor table may be a private one (Linux 6.9).
pub(crate) fn fd_of_thread(tid: i32, fd: i32) -> Result<i32, Errno> {
    const PIDFD_THREAD: usize = libc::O_EXCL as usize;
    fd_of_task(tid, PIDFD_THREAD, fd)
}

/// A copy of the program's descriptor `fd`, that is, of its first thread's, for a
/// thread with a private table (Linux 5.6, where seccomp allows it). Nobody is asked
/// for permission to look into his own process.
pub(crate) fn fd_of_program(fd: i32) -> Result<i32, Errno> {
    // SAFETY: takes nothing.
    let pid = Errno::check(unsafe { sys::any(Sysno::getpid, [0; 6]) })?;
    fd_of_task(fd_of(pid)?, 0, fd)
}

fn fd_of_task(task: i32, flags: usize, fd: i32) -> Result<i32, Errno> {
    // SAFETY: numbers.
    let pidfd =
        unsafe { call(Sysno::pidfd_open, [task as usize, flags, 0, 0, 0, 0]) }.and_then(fd_of)?;
    // SAFETY: numbers.
    let copy = unsafe {
        call(
            Sysno::pidfd_getfd,
            [pidfd as usize, fd as usize, 0, 0, 0, 0],
        )
    };
    close(pidfd);
    copy.and_then(fd_of)
}

/// `ftruncate`.
pub(crate) fn set_len(fd: i32, len: u64) -> Result<(), Errno> {
    // SAFETY: numbers.
    unsafe { call(Sysno::ftruncate, [fd as usize, len as usize, 0, 0, 0, 0]) }.map(drop)
}

/// `fstat`: what we use of it.
pub(crate) fn stat(fd: i32) -> Result<libc::stat, Errno> {
    // SAFETY: the structure is plain numbers; zero is a value of it.
    let mut out: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel fills exactly this structure.
    unsafe {
        call(
            Sysno::fstat,
            [fd as usize, (&raw mut out) as usize, 0, 0, 0, 0],
        )
    }?;
    Ok(out)
}

/// Whether descriptor `fd` of the calling thread's table is what `path` leads to.
pub(crate) fn is_at(fd: i32, path: &CStr) -> bool {
    stat(fd).is_ok_and(|here| {
        stat_at(path).is_ok_and(|there| (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino))
    })
}

/// `stat` of a path; what cannot be opened, such as a socket, can be looked at.
fn stat_at(path: &CStr) -> Result<libc::stat, Errno> {
    // SAFETY: the structure is plain numbers; zero is a value of it.
    let mut out: libc::stat = unsafe { core::mem::zeroed() };
    let at = libc::AT_FDCWD as usize;
    let (path, into) = (path.as_ptr() as usize, (&raw mut out) as usize);
    // SAFETY: `path` ends with a zero; the kernel fills exactly this structure.
    unsafe { call(Sysno::newfstatat, [at, path, into, 0, 0, 0]) }?;
    Ok(out)
}

/// `fstatfs`.
pub(crate) fn statfs(fd: i32) -> Result<libc::statfs, Errno> {
    // SAFETY: the structure is plain numbers; zero is a value of it.
    let mut out: libc::statfs = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel fills exactly this structure.
    unsafe {
        call(
            Sysno::fstatfs,
            [fd as usize, (&raw mut out) as usize, 0, 0, 0, 0],
        )
    }?;
    Ok(out)
}

/// `fcntl` with a plain number as argument.
pub(crate) fn fcntl(fd: i32, command: i32, arg: usize) -> Result<usize, Errno> {
    // SAFETY: only used with commands that take a number.
    unsafe { call(Sysno::fcntl, [fd as usize, command as usize, arg, 0, 0, 0]) }
}

/// Gives a descriptor of the engine's a high number: the low ones are the
/// program's, which counts on getting the lowest free one, and on placing its
/// own by number (`exec 3<file` in a shell). Keeps the number where it cannot.
pub(crate) fn lift(fd: i32) -> i32 {
    const HIGH: usize = 1000;
    let mut limit = [0_u64; 2];
    let get = libc::RLIMIT_NOFILE as usize;
    // SAFETY: the kernel fills exactly two words.
    let known = unsafe {
        call(
            Sysno::prlimit64,
            [0, get, 0, (&raw mut limit) as usize, 0, 0],
        )
    };
    let [soft, _] = limit;
    let soft = usize::try_from(soft).unwrap_or(usize::MAX);
    if known.is_err() || fd as usize >= HIGH {
        return fd;
    }
    let floor = HIGH.min(soft - soft / 4);
    match fcntl(fd, libc::F_DUPFD_CLOEXEC, floor).and_then(fd_of) {
        Ok(lifted) => {
            close(fd);
            lifted
        }
        Err(_) => fd,
    }
}

/// Takes the whole-file lock that dies with the open file, without waiting: for this open file alone (`LOCK_EX`) or
/// beside others (`LOCK_SH`). EAGAIN: another one stands against it.
pub(crate) fn try_flock(fd: i32, how: i32) -> Result<(), Errno> {
    let how = (how | libc::LOCK_NB) as usize;
    // SAFETY: numbers.
    unsafe { call(Sysno::flock, [fd as usize, how, 0, 0, 0, 0]) }.map(drop)
}

/// Gives the blocks of a range back; the length of the file stays.
pub(crate) fn punch(fd: i32, offset: u64, len: u64) -> Result<(), Errno> {
    let mode = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as usize;
    // SAFETY: numbers.
    unsafe {
        call(
            Sysno::fallocate,
            [fd as usize, mode, offset as usize, len as usize, 0, 0],
        )
    }
    .map(drop)
}

/// Writes a range out of the page cache and waits for it.
pub(crate) fn sync_range(fd: i32, offset: u64, len: u64) -> Result<(), Errno> {
    let how = (libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER) as usize;
    // SAFETY: numbers.
    unsafe {
        call(
            Sysno::sync_file_range,
            [fd as usize, offset as usize, len as usize, how, 0, 0],
        )
    }
    .map(drop)
}

/// Drops a range from the page cache, as far as it is clean. Only advice.
pub(crate) fn drop_cache(fd: i32, offset: u64, len: u64) {
    let how = libc::POSIX_FADV_DONTNEED as usize;
    // SAFETY: numbers.
    let _ = unsafe {
        call(
            Sysno::fadvise64,
            [fd as usize, offset as usize, len as usize, how, 0, 0],
        )
    };
}

/// `memfd_create`.
pub(crate) fn memfd(name: &CStr, flags: u32) -> Result<i32, Errno> {
    let name = name.as_ptr() as usize;
    // SAFETY: `name` ends with a zero.
    unsafe { call(Sysno::memfd_create, [name, flags as usize, 0, 0, 0, 0]) }.and_then(fd_of)
}

/// Maps the first `len` bytes of `fd` shared, wherever the kernel likes.
pub(crate) fn map_shared(fd: i32, len: usize, writable: bool) -> Result<usize, Errno> {
    let mut protection = libc::PROT_READ;
    if writable {
        protection |= libc::PROT_WRITE;
    }
    let flags = libc::MAP_SHARED as usize;
    // SAFETY: a new mapping at a free place touches nothing that exists.
    unsafe {
        call(
            Sysno::mmap,
            [0, len, protection as usize, flags, fd as usize, 0],
        )
    }
}

/// # Safety
/// Nobody may use the range any more.
pub(crate) unsafe fn unmap(addr: usize, len: usize) {
    // SAFETY: the caller's promise.
    let _ = unsafe { call(Sysno::munmap, [addr, len, 0, 0, 0, 0]) };
}

/// A path with its closing zero, on the stack: no malloc, and no path that is
/// longer than the kernel takes.
pub(crate) struct CPath {
    bytes: [u8; 512],
}

impl CPath {
    /// Joins the parts; ENAMETOOLONG over 511 bytes, EINVAL with a zero inside.
    pub(crate) fn new(parts: &[&[u8]]) -> Result<CPath, Errno> {
        let mut bytes = [0u8; 512];
        let mut at = 0usize;
        for part in parts {
            if part.contains(&0) {
                return Err(Errno::EINVAL);
            }
            let end = at.checked_add(part.len()).filter(|&e| e < bytes.len());
            let end = end.ok_or(Errno::ENAMETOOLONG)?;
            bytes
                .get_mut(at..end)
                .ok_or(Errno::ENAMETOOLONG)?
                .copy_from_slice(part);
            at = end;
        }
        Ok(CPath { bytes })
    }

    /// The path as the kernel wants it.
    pub(crate) fn as_c_str(&self) -> &CStr {
        // `new` leaves at least one zero, so the default is never taken.
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

/// Decimal digits of a number, for paths under /proc.
pub(crate) struct Digits {
    bytes: [u8; 20],
    start: usize,
}

impl Digits {
    pub(crate) fn new(mut number: u64) -> Digits {
        let mut bytes = [b'0'; 20];
        let mut start = bytes.len();
        for slot in bytes.iter_mut().rev() {
            *slot = b'0' + (number % 10) as u8;
            number /= 10;
            start -= 1;
            if number == 0 {
                break;
            }
        }
        Digits { bytes, start }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}
