//! The threads that serve faults in thread delivery, and which of them listen.
//!
//! **The argument.** One handler is pinned to each CPU, because only the one on
//! the faulting thread's CPU is woken cheaply. But the kernel wakes everybody
//! who listens to a userfaultfd, and to wake a CPU that sleeps costs the
//! faulting thread an interrupt to it: 3 of 14 µs on the reference machine. So
//! a handler that listened while others served nearly everything *stands by*
//! for a moment: it sleeps where faults do not wake it. It is called at once
//! when a listener is about to wait (for a device, for room), and comes back by
//! itself after [`REST_NS`], to find out whether the faulting threads have
//! moved to its CPU. The last listener never stands by.
//!
//! **If this is wrong** (threads that move from CPU to CPU), their faults are
//! served across CPUs, three times as slowly, for at most [`REST_NS`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use vswap_platform::log;
use vswap_platform::sync::Event;
use vswap_platform::uffd::Userfaultfd;
use vswap_units::PAGE_SIZE;

use crate::engine::Engine;
use crate::fault::Outcome;
use crate::worker::Worker;

/// How long a handler listens at a time: while faults come, and while none do.
const LISTEN_MS: i32 = 4;
const LISTEN_IDLE_MS: i32 = 100;
/// How long one stands by.
const REST_NS: u64 = 40_000_000;
/// So many faults tell something; who served less than this part of them is not needed.
const TELLING: u64 = 64;
const LEAST_PART: u64 = 16;

/// Who listens, and what all have served.
#[derive(Default)]
pub(crate) struct Handlers {
    served: AtomicU64,
    listening: AtomicU32,
    called: Event,
}

impl Handlers {
    /// A listener is about to wait: those who stand by come back.
    pub(crate) fn call(&self) {
        self.called.signal();
    }

    /// In a forked child: no handler exists yet.
    pub(crate) fn reset_in_child(&self) {
        self.listening.store(0, Ordering::Relaxed);
        self.called.after_fork_in_child();
    }

    fn begin(&self) {
        self.listening.fetch_add(1, Ordering::AcqRel);
    }

    /// Stands by, unless nobody else would listen.
    fn stand_by(&self) {
        let seen = self.called.seen();
        let less = |listening: u32| listening.checked_sub(1).filter(|&left| left > 0);
        if self
            .listening
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
            .is_ok()
        {
            self.called.wait_past(seen, REST_NS);
            self.begin();
        }
    }
}

/// What one handler has seen since it last judged itself.
#[derive(Default)]
struct Ledger {
    own: u64,
    all_before: u64,
}

impl Ledger {
    /// Has this handler served too few of the faults there were? `None`: too few to tell.
    fn is_superfluous(&mut self, all: u64) -> Option<bool> {
        let served = all.wrapping_sub(self.all_before);
        if served < TELLING {
            return None;
        }
        let superfluous = self.own < served / LEAST_PART;
        (self.own, self.all_before) = (0, all);
        Some(superfluous)
    }
}

/// A handler thread.
pub(crate) fn fault_main(engine: Arc<Engine>) {
    let index = engine.next_handler();
    let uffd = engine.uffd.lock().clone();
    if let (Some(uffd), Some(mut worker)) = (uffd, engine.workers.take(index)) {
        engine.handlers.begin();
        engine.serve_faults(&uffd, &mut worker);
    }
}

impl Engine {
    fn serve_faults(&self, uffd: &Userfaultfd, worker: &mut Worker) {
        let mut ledger = Ledger::default();
        let mut patience = LISTEN_IDLE_MS;
        while !self.is_stopping() {
            match uffd.wait_fault(patience) {
                Ok(Some(fault)) => {
                    self.wait_until_armed();
                    if self.resolve(worker, fault.addr) == Outcome::NotOurs {
                        let _ = uffd.wake(fault.addr & !(PAGE_SIZE - 1), PAGE_SIZE);
                    }
                    ledger.own += 1;
                    self.handlers.served.fetch_add(1, Ordering::Relaxed);
                }
                Ok(None) => {}
                Err(error) => {
                    log::say(&["the fault handler lost its userfaultfd: ", error.name()]);
                    vswap_platform::signal::die();
                }
            }
            let all = self.handlers.served.load(Ordering::Relaxed);
            patience = if all == ledger.all_before {
                LISTEN_IDLE_MS
            } else {
                LISTEN_MS
            };
            if ledger.is_superfluous(all) == Some(true) {
                self.handlers.stand_by();
                ledger.all_before = self.handlers.served.load(Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_that_others_made_superfluous_says_so_and_one_that_serves_does_not() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.is_superfluous(TELLING - 1), None);
        assert_eq!(ledger.is_superfluous(TELLING), Some(true));
        ledger.own = TELLING;
        assert_eq!(ledger.is_superfluous(2 * TELLING), Some(false));
        assert_eq!(ledger.is_superfluous(3 * TELLING), Some(true));
    }

    #[test]
    fn the_last_listener_does_not_stand_by_and_one_that_does_comes_when_called() {
        let handlers = Arc::new(Handlers::default());
        handlers.begin();
        handlers.stand_by(); // returns at once
        assert_eq!(handlers.listening.load(Ordering::SeqCst), 1);
        handlers.begin();
        let other = {
            let handlers = Arc::clone(&handlers);
            std::thread::spawn(move || handlers.stand_by())
        };
        while handlers.listening.load(Ordering::SeqCst) == 2 {
            std::thread::yield_now();
        }
        handlers.call();
        other.join().unwrap();
        assert_eq!(handlers.listening.load(Ordering::SeqCst), 2);
    }
}
