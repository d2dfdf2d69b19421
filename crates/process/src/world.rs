//! The gate that holds the engine still while the program forks.
//!
//! Every outermost engine operation that touches page states holds a
//! [`Passage`]; fork closes the gate and waits until nobody is inside, so the
//! child's copy of every table is consistent and no lock in it is held.
//! Operations do not nest: a nested entry could wait for a fork that waits for
//! the outer one. For the same reason nobody inside waits for a lock whose
//! holder may be waiting to enter: the gate has a rank among the locks.

use std::sync::atomic::{AtomicU32, Ordering};

use vswap_platform::sync::{self, InRank};
use vswap_units::rank;

const CLOSED: u32 = 1 << 31;

/// Counts the operations inside; the top bit is "closed".
#[derive(Default)]
pub struct World {
    word: AtomicU32,
}

/// Leave to be inside; given back on drop.
pub struct Passage<'a> {
    world: &'a World,
    _rank: InRank,
}

impl World {
    /// Enters; waits while a fork is under way. In debug builds, aborts with a
    /// line when this thread is inside already or holds a lock of a later rank.
    pub fn enter(&self) -> Passage<'_> {
        let rank = InRank::enter(rank::WORLD);
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            if seen & CLOSED != 0 {
                let _ = sync::wait(&self.word, seen, None);
                seen = self.word.load(Ordering::Relaxed);
                continue;
            }
            match self.word.compare_exchange_weak(
                seen,
                seen + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    return Passage {
                        world: self,
                        _rank: rank,
                    };
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Closes the gate and waits until nobody is inside.
    pub fn close(&self) {
        let mut seen = self.word.fetch_or(CLOSED, Ordering::AcqRel) | CLOSED;
        while seen != CLOSED {
            let _ = sync::wait(&self.word, seen, None);
            seen = self.word.load(Ordering::Acquire);
        }
    }

    /// Opens the gate again, in the parent and in the child.
    pub fn open(&self) {
        self.word.store(0, Ordering::Release);
        sync::wake(&self.word, i32::MAX as u32);
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        let before = self.world.word.fetch_sub(1, Ordering::Release);
        if before == CLOSED + 1 {
            sync::wake(&self.world.word, i32::MAX as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_closed_gate_keeps_everybody_out_until_it_opens() {
        let world = Arc::new(World::default());
        drop(world.enter());
        world.close();
        let entered = Arc::new(AtomicBool::new(false));
        let other = {
            let (world, entered) = (Arc::clone(&world), Arc::clone(&entered));
            std::thread::spawn(move || {
                let _inside = world.enter();
                entered.store(true, Ordering::SeqCst);
            })
        };
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!entered.load(Ordering::SeqCst));
        world.open();
        other.join().unwrap();
        assert!(entered.load(Ordering::SeqCst));
    }
}
