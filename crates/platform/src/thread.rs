//! The engine's own threads: all signals blocked, a small stack in a mapping of
//! their own, a name, maybe one CPU, maybe a private descriptor table.

use crate::map::{self, AnonMap};
use crate::{errno::Errno, sync::swap_signal_mask, sys, tls};
use core::ffi::c_void;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;
use vswap_units::PAGE_SIZE;

mod count;
mod slice;

pub use count::find as find_count;
pub use slice::ask_for_short_slices;

/// The usable stack. Generous, because a library's static TLS lives on it too;
/// only touched pages cost memory.
const STACK: usize = 512 << 10;
/// Start page, guard page, stack.
const WHOLE: usize = 2 * PAGE_SIZE + STACK;

/// Signals 32 and 33 belong to the C library (setuid in all threads, cancel).
const ALL_BUT_LIBCS: u64 = !(1 << 31 | 1 << 32);

/// What a new thread needs to begin; lives in the first page of its mapping.
#[repr(C)]
struct Start {
    body: fn(usize),
    arg: usize,
    /// CPU to stay on, plus one; 0 = any.
    cpu: usize,
    name: [u8; 16],
    tid: AtomicUsize,
}

/// A running engine thread. Dropping this leaves it running and its stack
/// mapped; use [`Thread::join`] where threads come and go.
#[derive(Debug)]
pub struct Thread {
    handle: libc::pthread_t,
    memory: ManuallyDrop<AnonMap>,
}

/// Starts `body(arg)` on a thread named `name` (cut to 15 bytes), pinned to
/// `cpu` where given (a CPU that is not allowed is ignored).
///
/// # Errors
/// ENOMEM or EAGAIN where the process may have no more memory or threads.
pub fn spawn(name: &str, cpu: Option<usize>, body: fn(usize), arg: usize) -> Result<Thread, Errno> {
    let memory = AnonMap::new(WHOLE, PAGE_SIZE)?;
    map::protect(memory.addr() + PAGE_SIZE, PAGE_SIZE, map::Prot::NONE)?;
    let start = memory.addr() as *mut Start;
    // SAFETY: the first page is ours, writable, aligned, and larger than Start.
    unsafe {
        start.write(Start {
            body,
            arg,
            cpu: cpu.map_or(0, |cpu| cpu + 1),
            name: thread_name(name),
            tid: AtomicUsize::new(0),
        });
    }
    // The new thread inherits the mask: no program's handler ever runs on it.
    let former = swap_signal_mask(ALL_BUT_LIBCS);
    let created = create(memory.addr() + 2 * PAGE_SIZE, start);
    swap_signal_mask(former);
    Ok(Thread {
        handle: created?,
        memory: ManuallyDrop::new(memory),
    })
}

impl Thread {
    /// Its kernel thread id, once it has started.
    #[must_use]
    pub fn tid(&self) -> Option<usize> {
        // SAFETY: the start page was written by `spawn` and lives as long as
        // `memory`; only its atomic changes.
        let start = unsafe { &*(self.memory.addr() as *const Start) };
        Some(start.tid.load(Relaxed)).filter(|tid| *tid != 0)
    }

    /// Waits for the thread's end and gives its stack back.
    ///
    /// # Errors
    /// EDEADLK from the thread itself; the stack stays mapped.
    pub fn join(self) -> Result<(), Errno> {
        // SAFETY: the handle is of a thread nobody joined before: `self` is consumed.
        code(unsafe { libc::pthread_join(self.handle, core::ptr::null_mut()) })?;
        drop(ManuallyDrop::into_inner(self.memory));
        Ok(())
    }

    /// In a forked child, where the thread does not exist: gives the copy of
    /// its stack back.
    pub fn gone_after_fork(self) {
        drop(ManuallyDrop::into_inner(self.memory));
    }
}

/// [`spawn`] for a body that shares something with its creator.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_with<T: Send + Sync + 'static>(
    name: &str,
    cpu: Option<usize>,
    body: fn(Arc<T>),
    shared: Arc<T>,
) -> Result<Thread, Errno> {
    let job = Box::into_raw(Box::new((body, shared)));
    spawn(name, cpu, run_job::<T>, job as usize).inspect_err(|_| {
        // SAFETY: made above; no thread was started that could take it.
        drop(unsafe { Box::from_raw(job) });
    })
}

fn run_job<T>(job: usize) {
    // SAFETY: `spawn_with` made the box for exactly this thread, with this type.
    let job = unsafe { Box::from_raw(job as *mut (fn(Arc<T>), Arc<T>)) };
    let (body, shared) = *job;
    body(shared);
}

/// Lets another thread run.
pub fn yield_now() {
    // SAFETY: touches nothing.
    unsafe { sys::any(syscalls::Sysno::sched_yield, [0; 6]) };
}

fn create(stack: usize, start: *mut Start) -> Result<libc::pthread_t, Errno> {
    // SAFETY: `attr` is initialised before use and destroyed after; the stack
    // is ours, mapped and large enough; `start` outlives the thread.
    unsafe {
        let mut attr: libc::pthread_attr_t = core::mem::zeroed();
        let mut handle: libc::pthread_t = core::mem::zeroed();
        let mut error = libc::pthread_attr_init(&raw mut attr);
        if error == 0 {
            error = libc::pthread_attr_setstack(&raw mut attr, stack as *mut c_void, STACK);
        }
        let created = code(error).and_then(|()| {
            count::leaving_out(|| {
                let (handle, attr) = (&raw mut handle, &raw const attr);
                code(libc::pthread_create(handle, attr, enter, start.cast()))
            })
        });
        libc::pthread_attr_destroy(&raw mut attr);
        created.map(|()| handle)
    }
}

/// What the functions of threads return.
fn code(error: i32) -> Result<(), Errno> {
    match error {
        0 => Ok(()),
        error => Err(Errno(error)),
    }
}

extern "C" fn enter(start: *mut c_void) -> *mut c_void {
    // SAFETY: `spawn` wrote a Start there, and it stays until after this thread.
    let start = unsafe { &*start.cast::<Start>() };
    start.tid.store(current_tid(), Relaxed);
    // It may start threads too, and pthread_create allocates.
    tls::thread().engine.store(1, Relaxed);
    // SAFETY: the name is 16 bytes with a zero at the end.
    unsafe { sys::prctl(libc::PR_SET_NAME, start.name.as_ptr() as usize, 0, 0, 0) };
    if let Some(cpu) = start.cpu.checked_sub(1) {
        let _ = pin_to(cpu);
    }
    (start.body)(start.arg);
    count::ends();
    core::ptr::null_mut()
}

fn thread_name(name: &str) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    out
}

/// The calling thread's kernel id; asks once per thread.
#[must_use]
pub fn current_tid() -> usize {
    let slot = &tls::thread().tid;
    match slot.load(Relaxed) {
        0 => {
            let tid = sys::gettid() as usize;
            slot.store(tid, Relaxed);
            tid
        }
        tid => tid,
    }
}

/// Names the calling thread (cut to 15 bytes).
pub fn set_name(name: &str) {
    let name = thread_name(name);
    // SAFETY: the name is 16 bytes with a zero at the end.
    unsafe { sys::prctl(libc::PR_SET_NAME, name.as_ptr() as usize, 0, 0, 0) };
}

/// A set of CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuSet {
    words: [u64; 16],
}

impl CpuSet {
    /// Whether `cpu` is in it.
    #[must_use]
    pub fn contains(&self, cpu: usize) -> bool {
        let word = self.words.get(cpu / 64);
        word.is_some_and(|word| word >> (cpu % 64) & 1 != 0)
    }

    /// How many CPUs it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Its CPUs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        let set = *self;
        (0..set.words.len() * 64).filter(move |cpu| set.contains(*cpu))
    }
}

/// The CPUs the calling thread may run on.
///
/// # Errors
/// EINVAL on machines with more than 1024 CPUs.
pub fn cpus_allowed() -> Result<CpuSet, Errno> {
    let mut words = [0_u64; 16];
    // SAFETY: the buffer is as long as said.
    let got =
        unsafe { sys::sched_getaffinity(0, size_of_val(&words), words.as_mut_ptr() as usize) };
    Errno::check(got).map(|_| CpuSet { words })
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// EINVAL where that CPU does not exist or is not allowed.
pub fn pin_to(cpu: usize) -> Result<(), Errno> {
    let mut words = [0_u64; 16];
    *words.get_mut(cpu / 64).ok_or(Errno::EINVAL)? = 1 << (cpu % 64);
    // SAFETY: the buffer is as long as said.
    let raw = unsafe { sys::sched_setaffinity(0, size_of_val(&words), words.as_ptr() as usize) };
    Errno::check(raw)?;
    tls::thread().cpu.store(cpu + 1, Relaxed);
    Ok(())
}

/// The CPU the thread runs on now: stale at once.
#[must_use]
pub fn current_cpu() -> Option<usize> {
    // SAFETY: reads no memory of ours; answered by the vDSO.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// Gives the calling thread a copy of the descriptor table of its own: what
/// the program closes from now on stays open here.
///
/// # Errors
/// ENOMEM.
pub fn unshare_files() -> Result<(), Errno> {
    Errno::check(sys::unshare(libc::CLONE_FILES)).map(|_| ())
}

/// Closes every descriptor but `keep` in the calling thread's table. Contract:
/// that table is private ([`unshare_files`]), so nobody else loses a file.
///
/// # Errors
/// EINVAL where the kernel refuses; some descriptors may be closed by then.
pub fn close_other_fds(keep: &[i32]) -> Result<(), Errno> {
    let mut first = 0_u32;
    loop {
        let kept = keep.iter().filter_map(|fd| u32::try_from(*fd).ok());
        let next = kept.filter(|fd| *fd >= first).min();
        let end = next.unwrap_or(u32::MAX);
        if end > first {
            close_span(first, next.map_or(u32::MAX, |fd| fd - 1))?;
        }
        if next.is_none() {
            return Ok(());
        }
        first = end.saturating_add(1);
    }
}

/// Closes `first..=last`; one by one on kernels before 5.9.
fn close_span(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the table is private by contract.
    match Errno::check(unsafe { sys::close_range(first, last, 0) }) {
        Err(Errno::ENOSYS) => {}
        result => return result.map(|_| ()),
    }
    for fd in first..=last.min(open_limit()) {
        // SAFETY: the table is private by contract.
        unsafe { sys::close(fd as i32) };
    }
    Ok(())
}

fn open_limit() -> u32 {
    let mut limit = [0_u64; 2];
    // SAFETY: rlimit is two 64-bit words for this call.
    let raw = unsafe {
        sys::prlimit64(
            0,
            libc::RLIMIT_NOFILE as i32,
            0,
            limit.as_mut_ptr() as usize,
        )
    };
    let [soft, _] = limit;
    if raw < 0 {
        65_536
    } else {
        u32::try_from(soft).unwrap_or(u32::MAX).min(1 << 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Event;

    static TOLD: Event = Event::new();
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    static MASK: AtomicUsize = AtomicUsize::new(0);

    fn body(arg: usize) {
        SEEN.store(arg, Relaxed);
        let mask = swap_signal_mask(ALL_BUT_LIBCS);
        MASK.store(mask as usize, Relaxed);
        TOLD.signal();
    }

    #[test]
    fn a_thread_runs_with_all_signals_blocked_and_gives_its_stack_back() {
        let mut before = 0;
        let mut former = 0_u64;
        for round in 0..50 {
            let seen = TOLD.seen();
            let thread = spawn("vswap-test-thread-name", Some(0), body, 41 + round).unwrap();
            assert!(TOLD.wait_past(seen, 10_000_000_000));
            assert!(thread.tid().is_some());
            thread.join().unwrap();
            former = MASK.load(Relaxed) as u64;
            assert_eq!(SEEN.load(Relaxed), 41 + round);
            before += 1;
        }
        assert_eq!(before, 50);
        // SIGKILL and SIGSTOP cannot be blocked.
        let unblockable = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);
        assert_eq!(former | unblockable, ALL_BUT_LIBCS);
    }

    static READABLE: AtomicUsize = AtomicUsize::new(0);

    fn keeper(fd: usize) {
        let keep = fd as i32;
        let opened = unshare_files()
            .and_then(|()| close_other_fds(&[keep, 2]))
            .and_then(|()| {
                // SAFETY: F_GETFD touches no memory.
                Errno::check(unsafe { sys::fcntl(keep, libc::F_GETFD, 0) })
            });
        // SAFETY: as above.
        let other = unsafe { sys::fcntl(0, libc::F_GETFD, 0) };
        if opened.is_ok() && other == Errno::EBADF.negative() {
            READABLE.store(1, Relaxed);
        }
    }

    #[test]
    fn a_private_table_keeps_what_it_was_told_and_only_that() {
        let fd = sys::open(c"/dev/null", libc::O_RDONLY | libc::O_CLOEXEC, 0).unwrap();
        spawn("vswap-keeper", None, keeper, fd as usize)
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(READABLE.load(Relaxed), 1);
        // The test's own table is untouched.
        // SAFETY: F_GETFD touches no memory; the descriptor is ours to close.
        unsafe {
            assert!(sys::fcntl(fd, libc::F_GETFD, 0) >= 0);
            sys::close(fd);
        }
    }

    #[test]
    fn the_allowed_cpus_contain_the_current_one() {
        let allowed = cpus_allowed().unwrap();
        assert!(allowed.count() >= 1 && allowed.iter().count() == allowed.count());
        assert!(allowed.contains(current_cpu().unwrap()));
        assert_eq!(pin_to(100_000), Err(Errno::EINVAL));
        assert_eq!(current_tid() as isize, sys::gettid());
    }
}
