//! The kernel's signal action, and the program's one kept behind ours.

use crate::sync::SignalBlock;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The kernel's `struct sigaction` (not the C library's).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct KernelSigaction {
    /// Address of the handler, or 0 (default) or 1 (ignore).
    pub handler: usize,
    /// `SA_*`.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: usize,
    /// Signals blocked while it runs.
    pub mask: u64,
}

impl KernelSigaction {
    /// Whether the handler is a function of the program.
    #[must_use]
    pub const fn is_function(&self) -> bool {
        self.handler > libc::SIG_IGN
    }
}

/// An action that handlers read while another thread replaces it: a seqlock.
pub(super) struct ActionCell {
    /// Odd while somebody writes.
    sequence: AtomicU32,
    words: [AtomicU64; 4],
}

static BUS: ActionCell = ActionCell::new();
static SEGV: ActionCell = ActionCell::new();

pub(super) const fn cell_of(signal: i32) -> Option<&'static ActionCell> {
    match signal {
        libc::SIGBUS => Some(&BUS),
        libc::SIGSEGV => Some(&SEGV),
        _ => None,
    }
}

impl ActionCell {
    const fn new() -> Self {
        Self {
            sequence: AtomicU32::new(0),
            words: [const { AtomicU64::new(0) }; 4],
        }
    }

    pub(super) fn read(&self) -> KernelSigaction {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            let action = self.load();
            core::sync::atomic::fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before {
                return action;
            }
            core::hint::spin_loop();
        }
    }

    fn load(&self) -> KernelSigaction {
        let [handler, flags, restorer, mask] = &self.words;
        KernelSigaction {
            handler: handler.load(Ordering::Relaxed) as usize,
            flags: flags.load(Ordering::Relaxed),
            restorer: restorer.load(Ordering::Relaxed) as usize,
            mask: mask.load(Ordering::Relaxed),
        }
    }

    /// Signals stay blocked: a handler on this thread would wait for itself.
    pub(super) fn replace(&self, action: &KernelSigaction) -> KernelSigaction {
        let _block = SignalBlock::enter();
        let mut even = self.sequence.load(Ordering::Relaxed) & !1;
        while let Err(seen) = self.sequence.compare_exchange_weak(
            even,
            even + 1,
            Ordering::Acquire,
            Ordering::Relaxed,
        ) {
            even = seen & !1;
            core::hint::spin_loop();
        }
        core::sync::atomic::fence(Ordering::Release);
        let former = self.load();
        let [handler, flags, restorer, mask] = &self.words;
        handler.store(action.handler as u64, Ordering::Relaxed);
        flags.store(action.flags, Ordering::Relaxed);
        restorer.store(action.restorer as u64, Ordering::Relaxed);
        mask.store(action.mask, Ordering::Relaxed);
        self.sequence.store(even.wrapping_add(2), Ordering::Release);
        former
    }
}
