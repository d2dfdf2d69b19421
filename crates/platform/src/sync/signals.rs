//! Blocking signals by the raw call, which reaches 32 and 33 too.

use crate::sys;
use core::marker::PhantomData;

/// Every signal of this thread blocked, 32 and 33 too; the former mask comes
/// back when dropped.
#[must_use = "signals are unblocked when this is dropped"]
pub struct SignalBlock {
    former: u64,
    not_send: PhantomData<*const ()>,
}

impl SignalBlock {
    /// Blocks all signals of the calling thread.
    #[inline]
    pub fn enter() -> Self {
        Self {
            former: swap_signal_mask(!0),
            not_send: PhantomData,
        }
    }

    /// The mask that will be restored.
    #[must_use]
    pub const fn former(&self) -> u64 {
        self.former
    }
}

impl Drop for SignalBlock {
    fn drop(&mut self) {
        swap_signal_mask(self.former);
    }
}

/// Sets this thread's signal mask and returns the former one.
pub fn swap_signal_mask(mask: u64) -> u64 {
    let mut former = 0_u64;
    // SAFETY: both sets are 8 bytes, as the length says.
    unsafe {
        sys::rt_sigprocmask(
            libc::SIG_SETMASK,
            &raw const mask as usize,
            &raw mut former as usize,
            sys::SIGSET_LEN,
        )
    };
    former
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::RankedMutex;
    use vswap_units::rank;

    #[test]
    fn signals_are_blocked_while_such_a_lock_is_held() {
        let mutex = RankedMutex::<u32, { rank::PAGE }>::new(1);
        let before = swap_signal_mask(0);
        let guard = mutex.lock_blocking_signals();
        let inside = SignalBlock::enter().former();
        assert_eq!(*guard, 1);
        drop(guard);
        let after = swap_signal_mask(before);
        let unblockable = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);
        assert_eq!(inside | unblockable, !0);
        assert_eq!(after, 0);
    }
}
