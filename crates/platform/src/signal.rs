//! SIGBUS and SIGSEGV as page faults: raw `rt_sigaction` with a restorer of our
//! own, and the program's handler kept behind ours.

mod action;

pub use action::KernelSigaction;

use crate::errno::Errno;
use crate::sync::{SignalBlock, swap_signal_mask};
use crate::sys;
use action::{ActionCell, cell_of};
use core::ffi::c_void;
use core::sync::atomic::{AtomicUsize, Ordering};

const SA_RESTORER: u64 = 0x0400_0000;

/// A page fault that arrived as a signal.
#[derive(Clone, Copy, Debug)]
pub struct FaultSignal {
    /// SIGBUS or SIGSEGV.
    pub signal: i32,
    /// Why (`BUS_ADRERR`, `SEGV_ACCERR`...); 0 and below: sent by a process.
    pub code: i32,
    /// The address touched.
    pub addr: usize,
    /// Whether it was a write, where the machine says so.
    pub write: Option<bool>,
}

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The page is there: go on where the thread stopped.
    Resolved,
    /// Not a page of ours: the program's own handler gets it, or the process dies.
    NotOurs,
}

/// Resolves faults; runs inside the signal handler, with all signals blocked.
pub type FaultHandler = fn(&FaultSignal) -> Verdict;

static RESOLVER: AtomicUsize = AtomicUsize::new(0);

/// Ends the process by SIGABRT, for when going on would mean wrong bytes. The
/// reason has been said.
pub fn die() -> ! {
    sys::abort_now()
}

/// Routes SIGBUS or SIGSEGV to `resolve`; what was installed before gets what
/// `resolve` does not take. One resolver serves both signals: the last one given.
/// `on_stack`: run on the alternate stack where the thread has one (needed for
/// a program's own stack overflow handler; costs nothing otherwise).
///
/// # Errors
/// EINVAL for any other signal.
pub fn install_fault_handler(
    signal: i32,
    on_stack: bool,
    resolve: FaultHandler,
) -> Result<KernelSigaction, Errno> {
    let cell = cell_of(signal).ok_or(Errno::EINVAL)?;
    RESOLVER.store(resolve as *const () as usize, Ordering::Release);
    let mut flags = (libc::SA_SIGINFO | libc::SA_NODEFER) as u64;
    if on_stack {
        flags |= libc::SA_ONSTACK as u64;
    }
    let ours = KernelSigaction {
        handler: on_fault as *const () as usize,
        flags: flags | restorer_flag(),
        restorer: restorer(),
        mask: !0,
    };
    // No fault may arrive between the two: it would chain to nothing.
    let _block = SignalBlock::enter();
    let before = current(signal)?;
    if before.handler != ours.handler {
        cell.replace(&before);
    }
    // SAFETY: the handler is ours and follows the kernel's calling convention.
    unsafe { kernel_sigaction(signal, Some(&ours)) }?;
    Ok(before)
}

/// The program's action behind ours: what its own `sigaction` would tell it.
#[must_use]
pub fn chained(signal: i32) -> Option<KernelSigaction> {
    cell_of(signal).map(ActionCell::read)
}

/// Replaces the program's action behind ours; returns the former one.
/// Contract: a handler in it is a function of the program for that signal.
#[must_use = "the former action is what the program asked for"]
pub fn set_chained(signal: i32, action: &KernelSigaction) -> Option<KernelSigaction> {
    cell_of(signal).map(|cell| cell.replace(action))
}

/// Whether our handler is the installed one.
#[must_use]
pub fn is_ours(signal: i32) -> bool {
    current(signal).is_ok_and(|action| action.handler == on_fault as *const () as usize)
}

/// The action the kernel has for a signal.
///
/// # Errors
/// EINVAL for a number that is no signal.
pub fn current(signal: i32) -> Result<KernelSigaction, Errno> {
    // SAFETY: nothing is installed.
    unsafe { kernel_sigaction(signal, None) }
}

/// Raw `rt_sigaction`; returns the former action.
///
/// # Safety
/// A handler in `new` follows the kernel's calling convention and returns
/// through a restorer where the machine needs one.
///
/// # Errors
/// EINVAL for SIGKILL, SIGSTOP or a number that is no signal.
pub unsafe fn kernel_sigaction(
    signal: i32,
    new: Option<&KernelSigaction>,
) -> Result<KernelSigaction, Errno> {
    let mut old = KernelSigaction::default();
    let new = new.map_or(0, |action| core::ptr::from_ref(action) as usize);
    // SAFETY: both structures have the kernel's layout; the handler is the caller's.
    let raw = unsafe { sys::rt_sigaction(signal, new, &raw mut old as usize, sys::SIGSET_LEN) };
    Errno::check(raw).map(|_| old)
}

/// Sends a signal back to its default action and, where it was sent by a
/// process, once more: the process ends as if vswap had never been there.
pub fn die_of(signal: i32, code: i32) {
    let default = KernelSigaction::default();
    // SAFETY: the default action has no handler.
    let _ = unsafe { kernel_sigaction(signal, Some(&default)) };
    if code <= 0 {
        sys::tgkill(sys::getpid() as i32, sys::gettid() as i32, signal);
    }
}

extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO both pointers.
    let (code, fault) = unsafe { ((*info).si_code, fault_of(signal, info, context)) };
    let resolver = RESOLVER.load(Ordering::Acquire);
    if code > 0 && resolver != 0 {
        // SAFETY: only `install_fault_handler` writes the word, from a FaultHandler.
        let resolve: FaultHandler = unsafe { core::mem::transmute(resolver) };
        if resolve(&fault) == Verdict::Resolved {
            return;
        }
    }
    // SAFETY: the arguments are the kernel's.
    unsafe { chain(signal, info, context) };
}

/// # Safety
/// The pointers are those the kernel gave a SA_SIGINFO handler.
unsafe fn fault_of(
    signal: i32,
    info: *const libc::siginfo_t,
    context: *const c_void,
) -> FaultSignal {
    // SAFETY: the caller's.
    unsafe {
        FaultSignal {
            signal,
            code: (*info).si_code,
            addr: (*info).si_addr() as usize,
            write: was_write(context.cast()),
        }
    }
}

/// # Safety
/// `context` is the kernel's.
#[cfg(target_arch = "x86_64")]
unsafe fn was_write(context: *const libc::ucontext_t) -> Option<bool> {
    const PAGE_FAULT: i64 = 14;
    const WRITE: i64 = 2;
    // SAFETY: the caller's.
    let registers = unsafe { &(*context).uc_mcontext.gregs };
    let trap = *registers.get(libc::REG_TRAPNO as usize)?;
    let error = *registers.get(libc::REG_ERR as usize)?;
    (trap == PAGE_FAULT).then_some(error & WRITE != 0)
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn was_write(_: *const libc::ucontext_t) -> Option<bool> {
    None
}

/// Does with a signal what the program asked for, as the kernel would.
///
/// # Safety
/// The pointers are those the kernel gave our handler for this signal.
unsafe fn chain(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(cell) = cell_of(signal) else { return };
    let action = cell.read();
    // SAFETY: the kernel's siginfo and context; its signal set is 8 bytes.
    let (code, interrupted) = unsafe {
        let set = &raw const (*context.cast::<libc::ucontext_t>()).uc_sigmask;
        ((*info).si_code, set.cast::<u64>().read())
    };
    if !action.is_function() {
        // A fault cannot be ignored; a signal somebody sent can.
        if action.handler == libc::SIG_DFL || code > 0 {
            die_of(signal, code);
        }
        return;
    }
    if action.flags & libc::SA_RESETHAND as u32 as u64 != 0 {
        cell.replace(&KernelSigaction::default());
    }
    let own_bit = match action.flags & libc::SA_NODEFER as u64 {
        0 => 1 << (signal - 1),
        _ => 0,
    };
    swap_signal_mask(interrupted | action.mask | own_bit);
    // SAFETY: the handler is the program's, of the kind its flags say; the
    // pointers are the kernel's.
    unsafe {
        if action.flags & libc::SA_SIGINFO as u64 != 0 {
            let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) =
                core::mem::transmute(action.handler);
            handler(signal, info, context);
        } else {
            let handler: extern "C" fn(i32) = core::mem::transmute(action.handler);
            handler(signal);
        }
    }
    swap_signal_mask(!0);
}

/// `SA_RESTORER` where the kernel has no return path of its own.
#[must_use]
pub const fn restorer_flag() -> u64 {
    if cfg!(target_arch = "x86_64") {
        SA_RESTORER
    } else {
        0
    }
}

/// Address of the return path for handlers installed raw; 0 where not needed.
#[must_use]
pub fn restorer() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        restore as *const () as usize
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        0
    }
}

/// The very bytes unwinders and debuggers know as a signal frame.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn restore() {
    core::arch::naked_asm!("mov rax, 15", "syscall")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{self, AnonMap, Prot};
    use core::sync::atomic::Ordering::SeqCst;

    static PAGE: AtomicUsize = AtomicUsize::new(0);
    static WRITES: AtomicUsize = AtomicUsize::new(0);
    static CHAINED: AtomicUsize = AtomicUsize::new(0);
    static TAKE: AtomicUsize = AtomicUsize::new(1);

    fn make_usable() {
        let page = PAGE.load(SeqCst);
        let _ = map::protect(page, 4096, Prot::READ_WRITE);
    }

    fn resolve(fault: &FaultSignal) -> Verdict {
        if fault.addr & !4095 != PAGE.load(SeqCst) || TAKE.load(SeqCst) == 0 {
            return Verdict::NotOurs;
        }
        if fault.write == Some(true) {
            WRITES.fetch_add(1, SeqCst);
        }
        make_usable();
        Verdict::Resolved
    }

    extern "C" fn programs_own(signal: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
        let mask = swap_signal_mask(!0);
        swap_signal_mask(mask);
        let usr1 = 1 << (libc::SIGUSR1 - 1);
        if signal == libc::SIGSEGV && mask & usr1 == 0 {
            CHAINED.fetch_add(1, SeqCst);
        }
        make_usable();
    }

    #[test]
    fn a_fault_is_resolved_and_what_is_not_ours_goes_to_the_program() {
        let map = AnonMap::reserve_none(4096, 4096).unwrap();
        PAGE.store(map.addr(), SeqCst);
        install_fault_handler(libc::SIGSEGV, true, resolve).unwrap();
        assert!(is_ours(libc::SIGSEGV));
        map.slice_mut(0, 1).unwrap()[0] = 7;
        assert_eq!(map.slice(0, 1).unwrap()[0], 7);
        if cfg!(target_arch = "x86_64") {
            assert_eq!(WRITES.load(SeqCst), 1);
        }

        let own = KernelSigaction {
            handler: programs_own as *const () as usize,
            flags: (libc::SA_SIGINFO | libc::SA_RESETHAND) as u32 as u64,
            ..KernelSigaction::default()
        };
        let former = set_chained(libc::SIGSEGV, &own).unwrap();
        TAKE.store(0, SeqCst);
        map::protect(map.addr(), 4096, Prot::NONE).unwrap();
        assert_eq!(map.slice(0, 1).unwrap()[0], 7);
        assert_eq!(CHAINED.load(SeqCst), 1);
        // SA_RESETHAND took it away after the first time.
        assert_eq!(chained(libc::SIGSEGV), Some(KernelSigaction::default()));
        let _ = set_chained(libc::SIGSEGV, &former);
    }

    #[test]
    fn only_fault_signals_can_be_routed() {
        assert_eq!(
            install_fault_handler(libc::SIGUSR2, false, resolve),
            Err(Errno::EINVAL)
        );
        assert!(chained(libc::SIGINT).is_none());
    }
}
