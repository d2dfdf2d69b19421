//! What holds the program still has its turns, and between two the program has as long for itself.
//!
//! Without them clients that ask again and again, or several at once, would hold it still for good: who waits at a gate is
//! woken when it opens, and by then the next check has closed it.

use std::sync::atomic::{AtomicU64, Ordering};

use vswap_platform::clock;

/// Somebody has the turn.
const TAKEN: u64 = u64::MAX;

/// When the next may begin; zeroed: at once.
#[derive(Default)]
pub struct Turns {
    next_ns: AtomicU64,
}

/// A turn, until it is dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    began_ns: u64,
}

impl Turns {
    /// The turn, if nobody has it and the program has had its time since the last.
    pub fn take(&self) -> Option<Turn<'_>> {
        let began_ns = clock::now_ns();
        let next_ns = self.next_ns.load(Ordering::Relaxed);
        if began_ns < next_ns {
            return None;
        }
        self.next_ns
            .compare_exchange(next_ns, TAKEN, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        Some(Turn {
            turns: self,
            began_ns,
        })
    }

    /// In a forked child, where whoever had the turn is not.
    pub fn reset_in_child(&self) {
        self.next_ns.store(0, Ordering::Relaxed);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let ended_ns = clock::now_ns();
        let took_ns = ended_ns.saturating_sub(self.began_ns);
        let next_ns = ended_ns.saturating_add(took_ns).min(TAKEN - 1);
        self.turns.next_ns.store(next_ns, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spin(until_ns: u64) {
        while clock::now_ns() < until_ns {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn one_has_the_turn_and_the_next_begins_after_as_long_as_it_took() {
        let turns = Turns::default();
        let first = turns.take();
        assert!(first.is_some());
        assert!(turns.take().is_none());
        let began_ns = clock::now_ns();
        spin(began_ns + 2_000_000);
        drop(first);
        let ended_ns = clock::now_ns();
        while turns.take().is_none() {
            std::hint::spin_loop();
        }
        assert!(clock::now_ns() - ended_ns >= 1_900_000);
    }

    #[test]
    fn a_child_does_not_wait_for_a_turn_of_its_parent() {
        let turns = Turns::default();
        let first = turns.take();
        assert!(turns.take().is_none());
        turns.reset_in_child();
        assert!(turns.take().is_some());
        drop(first);
    }
}
