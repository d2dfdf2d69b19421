//! The clients an engine speaks to at once, and the socket they come to.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use vswap_platform::sync::RankedMutex;
use vswap_platform::thread::Thread;
use vswap_platform::unix;

use super::turns::Turns;

/// Clients at once; one more is told to come again.
pub const MOST: usize = 4;

/// Held for a moment, under no other lock.
const THREADS_RANK: u8 = 7;
const NONE: i32 = -1;

/// Who is being spoken to. Belongs to the engine; the descriptors behind it to
/// its private table.
pub struct Slots {
    listener: AtomicI32,
    /// Which of this process's engines it is: the last part of the name.
    number: AtomicU32,
    taken: [AtomicBool; MOST],
    threads: RankedMutex<[Option<Thread>; MOST], THREADS_RANK>,
    /// Of checks, which hold the program still.
    pub(super) checks: Turns,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            listener: AtomicI32::new(NONE),
            number: AtomicU32::new(0),
            taken: [const { AtomicBool::new(false) }; MOST],
            threads: RankedMutex::new([const { None }; MOST]),
            checks: Turns::default(),
        }
    }
}

impl Slots {
    /// The socket is open: its descriptor, and the engine's number in its name.
    pub(crate) fn opened(&self, listener: i32, number: u32) {
        self.number.store(number, Ordering::Relaxed);
        self.listener.store(listener, Ordering::Release);
    }

    /// The socket's descriptor, if there is one.
    pub(crate) fn listener(&self) -> Option<i32> {
        Some(self.listener.load(Ordering::Acquire)).filter(|fd| *fd != NONE)
    }

    /// Which of this process's engines it is.
    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// The socket is about to be closed.
    pub(crate) fn closed(&self) {
        self.listener.store(NONE, Ordering::Release);
    }

    /// Wakes the thread that waits for clients; from a thread of the engine.
    pub(crate) fn wake(&self) {
        if let Some(fd) = self.listener() {
            unix::shut(fd);
        }
    }

    /// A free slot; its last client's thread is waited for, which has ended.
    pub(crate) fn claim(&self) -> Option<usize> {
        let slot = self
            .taken
            .iter()
            .position(|taken| !taken.swap(true, Ordering::AcqRel))?;
        self.join(slot);
        Some(slot)
    }

    /// The slot is served by this thread.
    pub(crate) fn keep(&self, slot: usize, thread: Thread) {
        if let Some(place) = self.threads.lock().get_mut(slot) {
            *place = Some(thread);
        }
    }

    /// By the client's thread, as the last it does.
    pub(crate) fn release(&self, slot: usize) {
        if let Some(taken) = self.taken.get(slot) {
            taken.store(false, Ordering::Release);
        }
    }

    /// Waits for every client's thread.
    pub(crate) fn join_all(&self) {
        (0..MOST).for_each(|slot| self.join(slot));
    }

    fn join(&self, slot: usize) {
        let thread = self.threads.lock().get_mut(slot).and_then(Option::take);
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// Nobody comes or goes while the program forks.
    pub(crate) fn lock_for_fork(&self) {
        self.threads.lock_for_fork();
    }

    /// In parent and child.
    pub(crate) fn unlock_after_fork(&self) {
        self.threads.unlock_after_fork();
    }

    /// In the child, where neither socket nor clients are.
    pub(crate) fn reset_in_child(&self) {
        self.closed();
        let gone = std::mem::take(&mut *self.threads.lock_blocking_signals());
        gone.into_iter().flatten().for_each(Thread::gone_after_fork);
        for taken in &self.taken {
            taken.store(false, Ordering::Relaxed);
        }
        self.checks.reset_in_child();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_given_to_one_client_at_a_time() {
        let slots = Slots::default();
        let claimed: Vec<_> = (0..MOST).map(|_| slots.claim()).collect();
        assert_eq!(claimed, (0..MOST).map(Some).collect::<Vec<_>>());
        assert_eq!(slots.claim(), None);
        slots.release(2);
        assert_eq!(slots.claim(), Some(2));
        slots.reset_in_child();
        assert_eq!(slots.claim(), Some(0));
        assert_eq!(slots.listener(), None);
    }
}
