//! The gate in front of pins: closed for a fork and for a check, so that no descriptor changes meanwhile.
//!
//! A pin is taken first and the gate is looked at second; the closer shuts the gate first and looks at the pins second. One of
//! the two sees the other. A thread that already holds a pin passes a closed gate: the closer is waiting for it.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use vswap_platform::sync::Event;
use vswap_platform::tls;

/// Which word of the thread's scratch this floor uses, for the number of pins the thread holds.
const PINS_HELD: usize = 2;
/// Nobody sleeps longer than this without looking again.
pub(crate) const PATIENCE_NS: u64 = 10_000_000;

pub(crate) struct Gate {
    closed: AtomicUsize,
    opened: Event,
}

impl Gate {
    pub(crate) const fn new() -> Self {
        Self {
            closed: AtomicUsize::new(0),
            opened: Event::new(),
        }
    }

    /// Shuts the gate; waits while somebody else has it shut.
    pub(crate) fn close(&self) {
        while self.closed.compare_exchange(0, 1, SeqCst, SeqCst).is_err() {
            self.wait();
        }
    }

    pub(crate) fn open(&self) {
        self.closed.store(0, SeqCst);
        self.opened.signal();
    }

    /// In a forked child nobody waits.
    pub(crate) fn open_in_child(&self) {
        self.closed.store(0, SeqCst);
        self.opened.after_fork_in_child();
    }

    /// Whether the calling thread, which just took a pin, may keep it.
    pub(crate) fn lets_pass(&self) -> bool {
        self.closed.load(SeqCst) == 0 || pins_held() != 0
    }

    /// Waits until the gate is open.
    pub(crate) fn wait(&self) {
        let seen = self.opened.seen();
        if self.closed.load(SeqCst) != 0 {
            self.opened.wait_past(seen, PATIENCE_NS);
        }
    }
}

fn counter() -> Option<&'static AtomicUsize> {
    tls::thread().scratch.get(PINS_HELD)
}

fn pins_held() -> usize {
    counter().map_or(0, |pins| pins.load(Relaxed))
}

/// Notes that this thread took a pin.
pub(crate) fn note_pin() {
    if let Some(pins) = counter() {
        pins.store(pins.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

/// Notes that this thread dropped pins.
pub(crate) fn forget_pins(dropped: usize) {
    if let Some(pins) = counter() {
        pins.store(pins.load(Relaxed).wrapping_sub(dropped), Relaxed);
    }
}
