//! Waiting for something to happen, and the futex calls under it.

use crate::{errno::Errno, sys};
use bytemuck::Zeroable;
use core::sync::atomic::{AtomicU32, Ordering};

/// Something that happened, counted: `wait` sleeps until it is told.
/// All-zero is an event that has not happened.
#[derive(Debug, Default, Zeroable)]
#[repr(C)]
pub struct Event {
    /// How often it was signalled, modulo 2^32.
    count: AtomicU32,
    sleepers: AtomicU32,
}

impl Event {
    /// An event that has not happened.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
        }
    }

    /// The count now. Read it, look for work, then [`Event::wait_past`] it:
    /// a signal in between is not lost.
    #[must_use]
    pub fn seen(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// Counts one happening and wakes everybody who waits. Signal-safe.
    pub fn signal(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) != 0 {
            wake(&self.count, i32::MAX as u32);
        }
    }

    /// Waits until the count differs from `seen`, at most `timeout_ns`
    /// (`u64::MAX` = for ever). True if it was signalled.
    pub fn wait_past(&self, seen: u32, timeout_ns: u64) -> bool {
        let deadline = match timeout_ns {
            u64::MAX => None,
            ns => Some(crate::clock::now_ns().saturating_add(ns)),
        };
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let signalled = loop {
            if self.count.load(Ordering::SeqCst) != seen {
                break true;
            }
            let left = deadline.map(|end| end.saturating_sub(crate::clock::now_ns()));
            if left == Some(0) {
                break false;
            }
            let _ = wait(&self.count, seen, left);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        signalled
    }

    /// Waits for the next signal from now on, at most `timeout_ns`. True if
    /// there was one. Prefer `seen` + `wait_past` where work could slip in between.
    pub fn wait(&self, timeout_ns: u64) -> bool {
        self.wait_past(self.seen(), timeout_ns)
    }

    /// In a forked child: nobody sleeps here any more.
    pub fn after_fork_in_child(&self) {
        self.sleepers.store(0, Ordering::SeqCst);
    }
}

/// Sleeps while `word` is `value`, at most `timeout_ns`.
///
/// # Errors
/// EAGAIN (another value), ETIMEDOUT, EINTR.
pub fn wait(word: &AtomicU32, value: u32, timeout_ns: Option<u64>) -> Result<(), Errno> {
    let time = timeout_ns.map(|ns| libc::timespec {
        tv_sec: (ns / 1_000_000_000) as _,
        tv_nsec: (ns % 1_000_000_000) as _,
    });
    let timeout = time.as_ref().map_or(0, |t| core::ptr::from_ref(t) as usize);
    let op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word and the timespec are valid for the call.
    let result = unsafe { sys::futex(word.as_ptr() as usize, op, value, timeout, 0, 0) };
    Errno::check(result).map(|_| ())
}

/// Wakes up to `count` sleepers of `word`.
pub fn wake(word: &AtomicU32, count: u32) {
    let op = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: waking reads no memory but the word's address.
    unsafe { sys::futex(word.as_ptr() as usize, op, count, 0, 0, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn an_event_wakes_its_waiters_and_loses_no_signal() {
        let event = Arc::new(Event::new());
        let seen = event.seen();
        assert!(!event.wait_past(seen, 2_000_000));
        event.signal();
        assert!(event.wait_past(seen, 0));
        let waiter = {
            let event = Arc::clone(&event);
            std::thread::spawn(move || event.wait(10_000_000_000))
        };
        while event.sleepers.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(5));
        event.signal();
        assert!(waiter.join().unwrap());
    }
}
