//! Raw system calls, one function each, returning what the kernel returns
//! (`-errno` on failure). No libc wrapper is used: the preload layer interposes
//! those, and its own pass-through calls land here.
//!
//! Functions that can break memory safety when misused are `unsafe`; the floors
//! above use the contracts in [`crate::map`] and its neighbours instead.

use crate::errno::Errno;
use core::mem::size_of;
use syscalls::{Sysno, raw::syscall6};

/// Any system call.
///
/// # Safety
/// The arguments satisfy that call's contract.
#[inline]
pub unsafe fn any(number: Sysno, args: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = args;
    // SAFETY: handed on to the caller.
    unsafe { syscall6(number as usize, a, b, c, d, e, f) as isize }
}

/// Any system call by number: for the preload layer's `syscall()`.
///
/// # Safety
/// The arguments satisfy that call's contract.
#[inline]
pub unsafe fn by_number(number: usize, args: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = args;
    // SAFETY: handed on to the caller.
    unsafe { syscall6(number, a, b, c, d, e, f) as isize }
}

macro_rules! pad {
    ($($arg:expr),*) => { pad!(@ [$($arg as usize,)*] ) };
    (@ []) => { [0; 6] };
    (@ [$a:expr,]) => { [$a, 0, 0, 0, 0, 0] };
    (@ [$a:expr, $b:expr,]) => { [$a, $b, 0, 0, 0, 0] };
    (@ [$a:expr, $b:expr, $c:expr,]) => { [$a, $b, $c, 0, 0, 0] };
    (@ [$a:expr, $b:expr, $c:expr, $d:expr,]) => { [$a, $b, $c, $d, 0, 0] };
    (@ [$a:expr, $b:expr, $c:expr, $d:expr, $e:expr,]) => { [$a, $b, $c, $d, $e, 0] };
    (@ [$a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr,]) => { [$a, $b, $c, $d, $e, $f] };
}

/// Calls that read or write memory, change mappings, or end the process.
macro_rules! unsafe_calls {
    ($( $name:ident ( $($arg:ident : $ty:ty),* ); )+) => { $(
        #[doc = concat!("Raw `", stringify!($name), "(2)`.")]
        ///
        /// # Safety
        /// As the manual page demands of the addresses and lengths given.
        #[inline]
        pub unsafe fn $name($($arg: $ty),*) -> isize {
            // SAFETY: handed on to the caller.
            unsafe { any(Sysno::$name, pad!($($arg),*)) }
        }
    )+ };
}

/// Calls that touch no memory of ours.
macro_rules! safe_calls {
    ($( $name:ident ( $($arg:ident : $ty:ty),* ); )+) => { $(
        #[doc = concat!("Raw `", stringify!($name), "(2)`.")]
        #[inline]
        pub fn $name($($arg: $ty),*) -> isize {
            // SAFETY: this call reads and writes no memory of the caller.
            unsafe { any(Sysno::$name, pad!($($arg),*)) }
        }
    )+ };
}

unsafe_calls! {
    mmap(addr: usize, len: usize, prot: i32, flags: i32, fd: i32, offset: i64);
    munmap(addr: usize, len: usize);
    mremap(old: usize, old_len: usize, new_len: usize, flags: i32, new: usize);
    madvise(addr: usize, len: usize, advice: i32);
    mprotect(addr: usize, len: usize, prot: i32);
    pkey_mprotect(addr: usize, len: usize, prot: i32, key: i32);
    mlock(addr: usize, len: usize);
    mlock2(addr: usize, len: usize, flags: i32);
    munlock(addr: usize, len: usize);
    msync(addr: usize, len: usize, flags: i32);
    mincore(addr: usize, len: usize, vec: *mut u8);
    mbind(addr: usize, len: usize, mode: i32, mask: usize, max: usize, flags: u32);
    remap_file_pages(addr: usize, len: usize, prot: i32, pgoff: usize, flags: i32);
    brk(addr: usize);
    process_madvise(pidfd: i32, iov: usize, count: usize, advice: i32, flags: u32);
    process_vm_readv(pid: i32, local: usize, local_count: usize, remote: usize, remote_count: usize, flags: usize);
    process_vm_writev(pid: i32, local: usize, local_count: usize, remote: usize, remote_count: usize, flags: usize);

    read(fd: i32, buf: usize, len: usize);
    write(fd: i32, buf: usize, len: usize);
    readv(fd: i32, iov: usize, count: i32);
    writev(fd: i32, iov: usize, count: i32);
    pread64(fd: i32, buf: usize, len: usize, offset: i64);
    pwrite64(fd: i32, buf: usize, len: usize, offset: i64);
    preadv(fd: i32, iov: usize, count: i32, offset_low: usize, offset_high: usize);
    pwritev(fd: i32, iov: usize, count: i32, offset_low: usize, offset_high: usize);
    preadv2(fd: i32, iov: usize, count: i32, offset_low: usize, offset_high: usize, flags: i32);
    pwritev2(fd: i32, iov: usize, count: i32, offset_low: usize, offset_high: usize, flags: i32);
    copy_file_range(in_fd: i32, in_offset: usize, out_fd: i32, out_offset: usize, len: usize, flags: u32);
    sendfile(out_fd: i32, in_fd: i32, offset: usize, count: usize);
    vmsplice(fd: i32, iov: usize, count: usize, flags: u32);
    getdents64(fd: i32, buf: usize, len: usize);
    getrandom(buf: usize, len: usize, flags: u32);
    ioctl(fd: i32, request: u64, arg: usize);
    fcntl(fd: i32, command: i32, arg: usize);

    recvfrom(fd: i32, buf: usize, len: usize, flags: i32, addr: usize, addr_len: usize);
    sendto(fd: i32, buf: usize, len: usize, flags: i32, addr: usize, addr_len: usize);
    recvmsg(fd: i32, message: usize, flags: i32);
    sendmsg(fd: i32, message: usize, flags: i32);
    recvmmsg(fd: i32, messages: usize, count: u32, flags: u32, timeout: usize);
    sendmmsg(fd: i32, messages: usize, count: u32, flags: u32);
    connect(fd: i32, addr: usize, len: u32);
    bind(fd: i32, addr: usize, len: u32);
    accept4(fd: i32, addr: usize, addr_len: usize, flags: i32);
    getsockopt(fd: i32, level: i32, name: i32, value: usize, len: usize);
    setsockopt(fd: i32, level: i32, name: i32, value: usize, len: u32);

    ppoll(fds: usize, count: usize, timeout: usize, mask: usize, mask_len: usize);
    pselect6(count: i32, read: usize, write: usize, except: usize, timeout: usize, mask: usize);
    epoll_ctl(epoll: i32, op: i32, fd: i32, event: usize);
    epoll_pwait(epoll: i32, events: usize, max: i32, timeout: i32, mask: usize, mask_len: usize);
    io_uring_setup(entries: u32, params: usize);
    io_uring_enter(fd: u32, submit: u32, wait: u32, flags: u32, arg: usize, arg_len: usize);
    io_uring_register(fd: u32, op: u32, arg: usize, count: u32);
    io_setup(count: u32, context: usize);
    io_submit(context: usize, count: i64, list: usize);
    io_getevents(context: usize, min: i64, max: i64, events: usize, timeout: usize);

    openat(dir: i32, path: usize, flags: i32, mode: u32);
    readlinkat(dir: i32, path: usize, buf: usize, len: usize);
    unlinkat(dir: i32, path: usize, flags: i32);
    faccessat(dir: i32, path: usize, mode: i32);
    statx(dir: i32, path: usize, flags: i32, mask: u32, out: usize);
    fstat(fd: i32, out: usize);
    fstatfs(fd: i32, out: usize);
    statfs(path: usize, out: usize);
    memfd_create(name: usize, flags: u32);
    pipe2(fds: usize, flags: i32);

    rt_sigaction(signal: i32, new: usize, old: usize, set_len: usize);
    rt_sigprocmask(how: i32, new: usize, old: usize, set_len: usize);
    rt_sigpending(set: usize, set_len: usize);
    rt_sigsuspend(set: usize, set_len: usize);
    rt_sigtimedwait(set: usize, info: usize, timeout: usize, set_len: usize);
    rt_sigqueueinfo(pid: i32, signal: i32, info: usize);
    rt_tgsigqueueinfo(pid: i32, tid: i32, signal: i32, info: usize);
    signalfd4(fd: i32, set: usize, set_len: usize, flags: i32);
    sigaltstack(new: usize, old: usize);

    futex(word: usize, op: i32, value: u32, timeout: usize, word2: usize, value3: u32);
    clock_gettime(clock: i32, out: usize);
    clock_nanosleep(clock: i32, flags: i32, request: usize, remain: usize);
    nanosleep(request: usize, remain: usize);
    getrlimit(resource: i32, out: usize);
    prlimit64(pid: i32, resource: i32, new: usize, old: usize);
    uname(out: usize);
    sysinfo(out: usize);
    prctl(option: i32, a: usize, b: usize, c: usize, d: usize);
    sched_setaffinity(tid: i32, len: usize, mask: usize);
    sched_getaffinity(tid: i32, len: usize, mask: usize);
    wait4(pid: i32, status: usize, options: i32, usage: usize);
    waitid(kind: i32, id: i32, info: usize, options: i32, usage: usize);
    execve(path: usize, argv: usize, envp: usize);
    execveat(dir: i32, path: usize, argv: usize, envp: usize, flags: i32);
    seccomp(op: u32, flags: u32, args: usize);
    shmat(id: i32, addr: usize, flags: i32);
    shmdt(addr: usize);
    close(fd: i32);
    close_range(first: u32, last: u32, flags: u32);
    dup3(old: i32, new: i32, flags: i32);
    exit_group(status: i32);
}

safe_calls! {
    dup(fd: i32);
    socket(domain: i32, kind: i32, protocol: i32);
    listen(fd: i32, backlog: i32);
    shutdown(fd: i32, how: i32);
    userfaultfd(flags: i32);
    eventfd2(initial: u32, flags: i32);
    pidfd_open(pid: i32, flags: u32);
    pidfd_getfd(pidfd: i32, fd: i32, flags: u32);
    ftruncate(fd: i32, len: i64);
    fallocate(fd: i32, mode: i32, offset: i64, len: i64);
    fadvise64(fd: i32, offset: i64, len: i64, advice: i32);
    sync_file_range(fd: i32, offset: i64, len: i64, flags: u32);
    fsync(fd: i32);
    fdatasync(fd: i32);
    lseek(fd: i32, offset: i64, whence: i32);
    unshare(flags: i32);
    getpid();
    getppid();
    gettid();
    geteuid();
    kill(pid: i32, signal: i32);
    tgkill(pid: i32, tid: i32, signal: i32);
    sched_yield();
    membarrier(command: i32, flags: u32, cpu: i32);
    mlockall(flags: i32);
    munlockall();
}

/// Raw `dup2`, on machines without that call as `dup3` (which refuses equal
/// descriptors, so that case is answered here).
///
/// # Safety
/// Nobody relies on the file that `new` named before.
pub unsafe fn dup2(old: i32, new: i32) -> isize {
    if old == new {
        // SAFETY: F_GETFD reads no memory; it tells whether `old` is open.
        let open = unsafe { fcntl(old, libc::F_GETFD, 0) };
        return if open < 0 { open } else { new as isize };
    }
    // SAFETY: handed on to the caller.
    unsafe { dup3(old, new, 0) }
}

/// Length of the kernel's signal set in bytes.
pub const SIGSET_LEN: usize = size_of::<u64>();

/// Writes all of `bytes`, through short writes and interruptions.
///
/// # Errors
/// The first error other than EINTR.
pub fn write_all(fd: i32, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        // SAFETY: the slice is readable for its length.
        let wrote = unsafe { write(fd, bytes.as_ptr() as usize, bytes.len()) };
        match Errno::check(wrote) {
            Ok(0) => return Err(Errno::EIO),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads into `buffer` once; retries only EINTR. 0 = end of file.
///
/// # Errors
/// What the kernel says.
pub fn read_into(fd: i32, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: the slice is writable for its length.
        let got = unsafe { read(fd, buffer.as_mut_ptr() as usize, buffer.len()) };
        match Errno::check(got) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Opens a path.
///
/// # Errors
/// What the kernel says.
pub fn open(path: &core::ffi::CStr, flags: i32, mode: u32) -> Result<i32, Errno> {
    // SAFETY: a CStr is readable up to its terminating zero.
    let fd = unsafe { openat(libc::AT_FDCWD, path.as_ptr() as usize, flags, mode) };
    Errno::check(fd).map(|fd| fd as i32)
}

/// Ends the process at once, without running anything of the program's.
pub fn exit_now(status: i32) -> ! {
    loop {
        // SAFETY: does not return.
        unsafe { exit_group(status) };
    }
}

/// Ends the process by SIGABRT, whatever the program did to that signal.
pub fn abort_now() -> ! {
    let default = [0_usize; 4];
    let set = !0_u64;
    let abort = 1_u64 << (libc::SIGABRT - 1);
    // SAFETY: `default` is the kernel's sigaction with SIG_DFL, no flags, no
    // restorer and an empty mask; the sets are 8 bytes.
    unsafe {
        rt_sigaction(libc::SIGABRT, default.as_ptr() as usize, 0, SIGSET_LEN);
        rt_sigprocmask(libc::SIG_SETMASK, &raw const set as usize, 0, SIGSET_LEN);
        tgkill(getpid() as i32, gettid() as i32, libc::SIGABRT);
        rt_sigprocmask(libc::SIG_UNBLOCK, &raw const abort as usize, 0, SIGSET_LEN);
    }
    exit_now(134)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_back_negative() {
        // SAFETY: closes nothing.
        assert_eq!(unsafe { close(-1) }, -(libc::EBADF as isize));
        assert_eq!(getpid() as u32, std::process::id());
        // SAFETY: equal descriptors change nothing.
        assert_eq!(unsafe { dup2(-1, -1) }, -(libc::EBADF as isize));
    }

    #[test]
    fn write_all_reports_a_bad_descriptor() {
        assert_eq!(write_all(-1, b"x"), Err(Errno::EBADF));
        assert_eq!(write_all(-1, b""), Ok(()));
    }
}
