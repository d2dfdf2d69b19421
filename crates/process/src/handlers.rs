//! The threads that serve faults in thread delivery, and which of them listen.
//!
//! **The argument.** One handler is pinned to each CPU, because only the one on
//! the faulting thread's CPU is woken cheaply. But the kernel wakes everybody
//! who listens to a userfaultfd, and to wake a CPU that sleeps costs the
//! faulting thread an interrupt to it: 3 of 14 µs on the reference machine.
//! Worse, where another engine thread keeps that CPU awake (`ahead`), its handler
//! is quick enough to take half of the faults, to which it is a stranger. So
//! a handler that listened while others served nearly everything, or that served
//! threads of other CPUs only (`nearness`) beside others that serve, *stands by*
//! for a moment: it sleeps where faults do not wake it. It is called at once
//! when a listener is about to wait (for a device, for room) or sees a thread
//! on its CPU, and comes back by itself after [`REST_NS`]. The last listener
//! never stands by.
//!
//! **If this is wrong** (threads that move from CPU to CPU), their faults are
//! served across CPUs, three times as slowly, for at most [`REST_NS`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use vswap_platform::sync::Event;
use vswap_platform::uffd::{Fault, Userfaultfd};
use vswap_platform::{log, proc, thread};
use vswap_units::PAGE_SIZE;

use crate::engine::Engine;
use crate::fault::Outcome;
use crate::nearness::Nearness;
use crate::worker::Worker;

/// Handler threads at most; more faulting CPUs than that share them.
pub(crate) const MAX_HANDLERS: usize = 32;
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
    places: [Place; MAX_HANDLERS],
}

/// Where one handler stands by.
#[derive(Default)]
pub(crate) struct Place {
    /// Its CPU plus one; 0: no handler has this place.
    cpu: AtomicU32,
    called: Event,
}

impl Handlers {
    /// A listener is about to wait: those who stand by come back.
    pub(crate) fn call(&self) {
        self.taken().for_each(|place| place.called.signal());
    }

    /// A thread faults on this CPU: its handler comes back.
    fn call_the_one_on(&self, cpu: usize) {
        let is_there = |place: &&Place| place.is_on(cpu);
        if let Some(place) = self.taken().find(is_there) {
            place.called.signal();
        }
    }

    /// The places of handlers: the first ones.
    fn taken(&self) -> impl Iterator<Item = &Place> {
        let is_taken = |place: &&Place| place.cpu.load(Ordering::Acquire) != 0;
        self.places.iter().take_while(is_taken)
    }

    /// In a forked child: no handler exists yet.
    pub(crate) fn reset_in_child(&self) {
        self.listening.store(0, Ordering::Relaxed);
        for place in &self.places {
            place.cpu.store(0, Ordering::Relaxed);
            place.called.after_fork_in_child();
        }
    }

    /// A new handler on `cpu` listens. `None`: there are too many.
    fn begin(&self, cpu: usize) -> Option<&Place> {
        let cpu = cpu as u32 + 1;
        let take = |place: &&Place| {
            let free = place
                .cpu
                .compare_exchange(0, cpu, Ordering::AcqRel, Ordering::Acquire);
            free.is_ok()
        };
        let place = self.places.iter().find(take)?;
        self.listening.fetch_add(1, Ordering::AcqRel);
        Some(place)
    }

    /// Stands by, unless nobody else would listen. Was it called back?
    fn stand_by(&self, place: &Place) -> bool {
        let seen = place.called.seen();
        let less = |listening: u32| listening.checked_sub(1).filter(|&left| left > 0);
        let others_listen = self
            .listening
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        if others_listen.is_err() {
            return false;
        }
        let called = place.called.wait_past(seen, REST_NS);
        self.listening.fetch_add(1, Ordering::AcqRel);
        called
    }
}

impl Place {
    fn is_on(&self, cpu: usize) -> bool {
        self.cpu.load(Ordering::Relaxed) == cpu as u32 + 1
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
        self.begin(all);
        Some(superfluous)
    }

    /// Have others served as well? Those who wait for a device have not.
    fn has_company(&self, all: u64) -> bool {
        all.wrapping_sub(self.all_before) > self.own
    }

    fn begin(&mut self, all: u64) {
        (self.own, self.all_before) = (0, all);
    }
}

/// A handler thread.
pub(crate) fn fault_main(engine: Arc<Engine>) {
    let index = engine.next_handler();
    let uffd = engine.uffd.lock().clone();
    let place = engine.handlers.begin(thread::current_cpu().unwrap_or(0));
    if let (Some(uffd), Some(place), Some(mut worker)) = (uffd, place, engine.workers.take(index)) {
        engine.serve_faults(&uffd, place, &mut worker);
    }
}

impl Engine {
    fn serve_faults(&self, uffd: &Userfaultfd, place: &Place, worker: &mut Worker) {
        let (mut ledger, mut nearness) = (Ledger::default(), Nearness::default());
        let mut patience = LISTEN_IDLE_MS;
        while !self.is_stopping() {
            match uffd.wait_fault(patience) {
                Ok(Some(fault)) => {
                    self.look_where_it_is_from(&fault, place, &mut nearness);
                    self.serve(uffd, worker, &fault);
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
            let is_stranger = nearness.is_far() && ledger.has_company(all);
            if ledger.is_superfluous(all) == Some(true) || is_stranger {
                self.handlers.stand_by(place);
                ledger.begin(self.handlers.served.load(Ordering::Relaxed));
                nearness = Nearness::default();
            }
        }
    }

    fn serve(&self, uffd: &Userfaultfd, worker: &mut Worker, fault: &Fault) {
        self.wait_until_armed();
        if self.resolve(worker, fault.addr) == Outcome::NotOurs {
            let _ = uffd.wake(fault.addr & !(PAGE_SIZE - 1), PAGE_SIZE);
        }
    }

    /// Looks, now and then, on which CPU a fault happened; another one's handler is called.
    fn look_where_it_is_from(&self, fault: &Fault, place: &Place, nearness: &mut Nearness) {
        if nearness.is_look_due()
            && let Some(cpu) = proc::cpu_of_thread(fault.thread)
        {
            nearness.note(place.is_on(cpu));
            if !place.is_on(cpu) {
                self.handlers.call_the_one_on(cpu);
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
    fn a_handler_has_company_only_while_others_serve() {
        let mut ledger = Ledger::default();
        ledger.begin(100);
        ledger.own = 5;
        assert!(!ledger.has_company(105));
        assert!(ledger.has_company(106));
    }

    #[test]
    fn the_last_listener_does_not_stand_by_and_one_that_does_comes_when_called() {
        let calls: [fn(&Handlers); 2] = [Handlers::call, |handlers| handlers.call_the_one_on(7)];
        for call in calls {
            let handlers = Arc::new(Handlers::default());
            assert!(!handlers.stand_by(handlers.begin(3).unwrap()));
            assert_eq!(handlers.listening.load(Ordering::SeqCst), 1);
            assert!(handlers.begin(7).is_some());
            let other = {
                let handlers = Arc::clone(&handlers);
                std::thread::spawn(move || handlers.stand_by(&handlers.places[1]))
            };
            while handlers.listening.load(Ordering::SeqCst) == 2 {
                std::thread::yield_now();
            }
            call(&handlers);
            assert!(other.join().unwrap(), "came back by itself");
            assert_eq!(handlers.listening.load(Ordering::SeqCst), 2);
        }
    }

    #[test]
    fn there_are_no_more_handlers_than_places() {
        let handlers = Handlers::default();
        assert!((0..MAX_HANDLERS).all(|cpu| handlers.begin(cpu).is_some()));
        assert!(handlers.begin(0).is_none());
        assert_eq!(handlers.taken().count(), MAX_HANDLERS);
    }
}
