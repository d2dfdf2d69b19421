//! The mutex with a place in the lock order.

use super::{SignalBlock, ranks, wait, wake};
use crate::clock::now_ns;
use bytemuck::Zeroable;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};
use vswap_units::Rank;

const UNLOCKED: u32 = 0;
const LOCKED: u32 = 1;
/// Locked, and somebody may be asleep on the word.
const CONTENDED: u32 = 2;
/// Held across a fork: by nobody's guard, until `unlock_after_fork`.
const HELD_FOR_FORK: u32 = 3;

const SPINS: u32 = 100;
const SPINS_PER_LOOK_AT_THE_CLOCK: u32 = 16;

/// A mutex with a place in the lock order. All-zero bytes are an unlocked
/// mutex, so arrays of them may live in fresh mappings.
#[repr(C)]
pub struct RankedMutex<T, const RANK: Rank> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the lock admits one thread at a time to the value.
unsafe impl<T: Send, const RANK: Rank> Sync for RankedMutex<T, RANK> {}

// SAFETY: zero is UNLOCKED, and the value is valid when zero by its own bound.
unsafe impl<T: Zeroable, const RANK: Rank> Zeroable for RankedMutex<T, RANK> {}

/// Access to the value of a locked mutex; unlocks when dropped.
#[must_use = "the lock is released when the guard is dropped"]
pub struct Guard<'a, T, const RANK: Rank> {
    mutex: &'a RankedMutex<T, RANK>,
    /// Whether this guard set its rank's bit (debug builds).
    marked: bool,
    /// The rank is noted on this thread, so the guard stays on it.
    not_send: PhantomData<*const ()>,
}

impl<T, const RANK: Rank> RankedMutex<T, RANK> {
    /// An unlocked mutex.
    pub const fn new(value: T) -> Self {
        const { assert!(RANK < vswap_units::rank::LIMIT) };
        Self {
            word: AtomicU32::new(UNLOCKED),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits for the lock. In debug builds, aborts with a line when this
    /// thread already holds a lock of the same or a higher rank.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T, RANK> {
        let marked = ranks::enter(RANK, true);
        if self
            .word
            .compare_exchange(UNLOCKED, LOCKED, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            self.lock_slow();
        }
        self.guard(marked)
    }

    /// [`RankedMutex::lock`], looking for up to `spin_ns` whether the lock is free
    /// before going to sleep: for a lock that is held about as long as a wake-up
    /// from another CPU takes, by somebody who does not sleep.
    pub fn lock_spinning(&self, spin_ns: u64) -> Guard<'_, T, RANK> {
        let marked = ranks::enter(RANK, true);
        if !self.take(LOCKED) && !self.take_within(spin_ns) {
            self.lock_slow();
        }
        self.guard(marked)
    }

    /// Takes the lock if it is free. Waits for nobody, so any order is allowed.
    #[inline]
    #[must_use]
    pub fn try_lock(&self) -> Option<Guard<'_, T, RANK>> {
        self.word
            .compare_exchange(UNLOCKED, LOCKED, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        Some(self.guard(ranks::enter(RANK, false)))
    }

    /// [`RankedMutex::lock`] with every signal blocked from before the lock is
    /// taken until after it is released.
    #[inline]
    pub fn lock_blocking_signals(&self) -> SignalGuard<'_, T, RANK> {
        let signals = SignalBlock::enter();
        SignalGuard {
            guard: self.lock(),
            _signals: signals,
        }
    }

    /// The value, without locking: the caller has the only reference.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Whether somebody holds the lock. A hint: stale at once.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) != UNLOCKED
    }

    /// Takes the lock for the time of a fork, without a guard. Ranks are not
    /// checked: the fork code takes many locks of one rank, in its own order.
    pub fn lock_for_fork(&self) {
        if !self.take(HELD_FOR_FORK) {
            self.lock_slow();
            // Locked (maybe contended) and no guard exists: keep it for the fork.
            self.word.store(HELD_FOR_FORK, Ordering::Relaxed);
        }
    }

    /// Releases what [`RankedMutex::lock_for_fork`] took, in parent and child.
    /// Does nothing to a lock that is not held for a fork.
    pub fn unlock_after_fork(&self) {
        let held = self.word.compare_exchange(
            HELD_FOR_FORK,
            UNLOCKED,
            Ordering::Release,
            Ordering::Relaxed,
        );
        if held.is_ok() {
            wake(&self.word, i32::MAX as u32);
        }
    }

    /// In a forked child, where whoever held the lock does not exist and was not
    /// inside (it only owned what the lock guards for its lifetime).
    pub fn reset_in_child(&self) {
        self.word.store(UNLOCKED, Ordering::Release);
    }

    fn guard(&self, marked: bool) -> Guard<'_, T, RANK> {
        Guard {
            mutex: self,
            marked,
            not_send: PhantomData,
        }
    }

    #[cold]
    fn lock_slow(&self) {
        for _ in 0..SPINS {
            if self.word.load(Ordering::Relaxed) == UNLOCKED && self.take(LOCKED) {
                return;
            }
            core::hint::spin_loop();
        }
        loop {
            match self.word.load(Ordering::Relaxed) {
                // Others may sleep: take it as contended, so that our unlock wakes one.
                UNLOCKED if self.take(CONTENDED) => return,
                UNLOCKED => {}
                LOCKED => {
                    let _ = self.word.compare_exchange(
                        LOCKED,
                        CONTENDED,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                }
                state => {
                    let _ = wait(&self.word, state, None);
                }
            }
        }
    }

    #[cold]
    fn take_within(&self, spin_ns: u64) -> bool {
        let began = now_ns();
        while now_ns().saturating_sub(began) < spin_ns {
            for _ in 0..SPINS_PER_LOOK_AT_THE_CLOCK {
                if self.word.load(Ordering::Relaxed) == UNLOCKED && self.take(LOCKED) {
                    return true;
                }
                core::hint::spin_loop();
            }
        }
        false
    }

    fn take(&self, state: u32) -> bool {
        self.word
            .compare_exchange(UNLOCKED, state, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[inline]
    fn unlock(&self) {
        if self.word.swap(UNLOCKED, Ordering::Release) == CONTENDED {
            wake(&self.word, 1);
        }
    }
}

impl<T, const RANK: Rank> Drop for Guard<'_, T, RANK> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.unlock();
        ranks::leave(RANK, self.marked);
    }
}

impl<T, const RANK: Rank> Deref for Guard<'_, T, RANK> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is the proof that the lock is held.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T, const RANK: Rank> DerefMut for Guard<'_, T, RANK> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the proof that the lock is held, by us alone.
        unsafe { &mut *self.mutex.value.get() }
    }
}

/// A [`Guard`] that also keeps all signals blocked.
#[must_use = "the lock is released when the guard is dropped"]
pub struct SignalGuard<'a, T, const RANK: Rank> {
    // Field order is drop order: unlock first, then let signals in.
    guard: Guard<'a, T, RANK>,
    _signals: SignalBlock,
}

impl<T, const RANK: Rank> Deref for SignalGuard<'_, T, RANK> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T, const RANK: Rank> DerefMut for SignalGuard<'_, T, RANK> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;
    use std::sync::Arc;
    use std::time::Duration;
    use vswap_units::rank;

    #[test]
    fn a_lock_that_stays_taken_is_slept_on_after_the_spinning_is_over() {
        let mutex: Arc<RankedMutex<u64, { rank::PAGE }>> = Arc::new(RankedMutex::new(0));
        for spin_ns in [0, 1_000, 60_000_000_000] {
            let held = mutex.lock();
            let other = Arc::clone(&mutex);
            let waiting = std::thread::spawn(move || *other.lock_spinning(spin_ns) += 1);
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            drop(held);
            waiting.join().unwrap();
        }
        assert_eq!(*mutex.lock(), 3);
    }

    #[test]
    fn threads_take_turns_on_a_zeroed_mutex() {
        let mutex: RankedMutex<u64, { rank::PAGE }> = Zeroable::zeroed();
        let mutex = Arc::new(mutex);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let mutex = Arc::clone(&mutex);
                std::thread::spawn(move || (0..20_000).for_each(|_| *mutex.lock() += 1))
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(*mutex.lock(), 80_000);
        assert!(!mutex.is_locked());
    }

    #[test]
    fn sleepers_on_a_long_held_lock_all_wake() {
        let mutex = Arc::new(RankedMutex::<u32, { rank::PAGE }>::new(0));
        let guard = mutex.lock();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let mutex = Arc::clone(&mutex);
                std::thread::spawn(move || *mutex.lock() += 1)
            })
            .collect();
        std::thread::sleep(Duration::from_millis(30));
        assert!(mutex.try_lock().is_none());
        drop(guard);
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(*mutex.lock(), 3);
    }

    /// A child that dies by SIGABRT shows what an abort in the test would hide.
    #[cfg(debug_assertions)]
    #[test]
    fn taking_locks_out_of_order_aborts() {
        let status = in_child(|| {
            let (page, group) = (
                RankedMutex::<(), { rank::PAGE }>::new(()),
                RankedMutex::<(), { rank::GROUP }>::new(()),
            );
            let _page = page.lock();
            let _group = group.lock();
        });
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT);
    }

    #[test]
    fn rank_order_and_try_lock_are_allowed() {
        let status = in_child(|| {
            let (page, twin, group) = (
                RankedMutex::<(), { rank::PAGE }>::new(()),
                RankedMutex::<(), { rank::PAGE }>::new(()),
                RankedMutex::<(), { rank::GROUP }>::new(()),
            );
            let outer = group.lock();
            let inner = page.lock();
            let beside = twin.try_lock();
            drop((outer, inner, beside));
            drop(group.lock());
        });
        assert_eq!(status, 0);
    }

    fn in_child(body: fn()) -> i32 {
        let mut status = 0;
        // SAFETY: the child only uses locks of its own and leaves at once.
        unsafe {
            let pid = libc::fork();
            if pid == 0 {
                body();
                sys::exit_now(0);
            }
            sys::wait4(pid, &raw mut status as usize, 0, 0);
        }
        status
    }

    #[test]
    fn a_lock_held_for_a_fork_is_free_in_parent_and_child() {
        static LOCK: RankedMutex<u32, { rank::REGION }> = RankedMutex::new(5);
        LOCK.lock_for_fork();
        assert!(LOCK.try_lock().is_none());
        let status = in_child(|| {
            LOCK.unlock_after_fork();
            *LOCK.lock() += 1;
        });
        assert_eq!(status, 0);
        LOCK.unlock_after_fork();
        LOCK.unlock_after_fork();
        assert_eq!(*LOCK.lock(), 5);
    }
}
