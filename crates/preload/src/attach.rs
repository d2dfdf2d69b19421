//! Spaces of signal delivery in a program that was not started with this library in front.
//!
//! There the kernel cannot bring in what a system call is given, and SIGBUS must stay the engine's. Under `vswap run` the
//! program's calls lead here by the order in which names are searched. Where the library was merely imported they do
//! not, so the calls of all loaded libraries are led here when the first such space is made, and those of libraries
//! that are loaded later when the next memory is given out.
//!
//! **What a call may find**: its word holds the C library's function or ours, at any moment; both are right, and ours
//! does nothing more for memory that is no space's. Words that hold anything else (another library in front) are left.

use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vswap_capi::Hooks;
use vswap_process::{Delivery, Engine};

use crate::linkage::{self, Binding};
use crate::{bridge, io, net, signals, state, stdio, waiting};

/// Are there calls to lead here?
static NEEDED: AtomicBool = AtomicBool::new(false);
/// One thread at a time; another one need not wait for it.
static BUSY: AtomicBool = AtomicBool::new(false);
/// For how many libraries this was done, and how many there were at the last look. A library may be seen while the
/// loader still fills it, so each number is looked at twice.
static DONE: AtomicU64 = AtomicU64::new(0);
static SEEN: AtomicU64 = AtomicU64::new(0);

/// Tells the C interface whom to call.
pub fn register() {
    vswap_capi::set_hooks(Hooks {
        space_created,
        memory_given: lead_new_libraries,
    });
}

/// A forked child has no other thread that could be at it.
pub fn after_fork_in_child() {
    BUSY.store(false, Ordering::Release);
}

fn space_created(engine: &Engine) {
    if engine.delivery() != Delivery::Signal {
        return;
    }
    bridge::note_signal_range(engine.range());
    state::begin_signal_mode();
    if !is_in_front() {
        NEEDED.store(true, Ordering::Release);
        lead_new_libraries();
    }
}

/// Do the program's calls come here by themselves?
fn is_in_front() -> bool {
    // SAFETY: a C string.
    let first = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"read".as_ptr()) };
    first.addr() == (io::read as *const ()).addr()
}

/// Leads the calls of libraries here that were loaded since the last time.
fn lead_new_libraries() {
    if !NEEDED.load(Ordering::Acquire) {
        return;
    }
    let loaded = linkage::libraries_loaded();
    if loaded == DONE.load(Ordering::Acquire) || BUSY.swap(true, Ordering::AcqRel) {
        return;
    }
    lead_all();
    if SEEN.swap(loaded, Ordering::Relaxed) == loaded {
        DONE.store(loaded, Ordering::Release);
    }
    BUSY.store(false, Ordering::Release);
}

/// A call that matters.
struct Call {
    name: &'static CStr,
    /// The C library's function.
    theirs: usize,
    ours: usize,
    /// Does the linker find the C library's when it looks the name up?
    is_found: bool,
}

impl Call {
    fn of(name: &'static CStr, ours: usize) -> Self {
        // SAFETY: C strings; RTLD_NEXT is valid in a shared library.
        let [theirs, found] = [libc::RTLD_NEXT, libc::RTLD_DEFAULT]
            .map(|from| unsafe { libc::dlsym(from, name.as_ptr()) }.addr());
        Self {
            name,
            theirs,
            ours,
            is_found: found == theirs,
        }
    }

    fn is_meant_by(&self, binding: &Binding) -> bool {
        let bound = binding.target() == self.theirs;
        let to_be_bound = || binding.is_unbound() && self.is_found && binding.name() == self.name;
        self.theirs != 0 && (bound || to_be_bound())
    }
}

fn lead_all() {
    // Looked up before the libraries are walked: the loader is locked meanwhile.
    let calls = CALLS.map(|(name, ours)| Call::of(name, ours().addr()));
    linkage::each_binding(&mut |binding| {
        if let Some(call) = calls.iter().find(|call| call.is_meant_by(binding)) {
            binding.lead_to(call.ours);
        }
    });
}

macro_rules! calls {
    ($( $file:ident: $($name:ident)+; )+) => {
        /// The calls that matter, and this library's functions for them.
        const CALLS: [(&CStr, fn() -> *const ()); [$($(stringify!($name)),+),+].len()] = [
            $($((
                match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => c"",
                },
                || $file::$name as *const (),
            )),+),+
        ];
    };
}

calls! {
    io: read write pread pread64 pwrite pwrite64 readv writev preadv preadv64 pwritev pwritev64
        preadv2 preadv64v2 pwritev2 pwritev64v2 vmsplice getrandom getentropy arc4random_buf ioctl
        __read_chk __pread_chk __pread64_chk;
    stdio: fread fwrite fread_unlocked fwrite_unlocked fputs fputs_unlocked puts setvbuf setbuffer
        __fread_chk __fread_unlocked_chk;
    net: recv recvfrom recvmsg recvmmsg send sendto sendmsg sendmmsg __recv_chk __recvfrom_chk;
    waiting: poll ppoll select pselect epoll_wait epoll_pwait epoll_pwait2 __poll_chk;
    signals: sigaction signal sigprocmask pthread_sigmask sigsuspend sigaltstack
        pthread_attr_setstack pthread_attr_setsigmask_np;
}
