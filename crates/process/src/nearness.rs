//! Whether the faults that a handler serves come from its own CPU.
//!
//! The kernel says which thread faulted, and `/proc` on which CPU that thread
//! is. To ask costs as much as a fault, so a handler asks for the first few
//! faults after it began to listen, and then now and then.
//!
//! **If this is wrong** (threads that have just moved), a handler listens or
//! stands by (`handlers`) some faults longer than is good for speed.

/// Of a handler that has listened for a while, every so many faults are looked at.
const SETTLED_EVERY: u64 = 64;
/// So many looks tell something, and so many are remembered.
const TELLING: u32 = 3;
const REMEMBERED: u32 = 8;
/// A handler is near as long as this part of the faults come from its CPU.
const LEAST_PART: u32 = 8;

/// What one handler has seen since it last began to listen.
#[derive(Default)]
pub(crate) struct Nearness {
    faults: u64,
    looks: u32,
    from_here: u32,
}

impl Nearness {
    /// Counts a fault; is it one to look at?
    pub(crate) fn is_look_due(&mut self) -> bool {
        self.faults += 1;
        let settled = self.faults >= SETTLED_EVERY;
        match settled {
            true => self.faults.is_multiple_of(SETTLED_EVERY),
            false => self.faults.is_power_of_two(),
        }
    }

    /// One more look: was the fault from the handler's own CPU?
    pub(crate) fn note(&mut self, from_here: bool) {
        if self.looks == REMEMBERED {
            self.looks /= 2;
            self.from_here /= 2;
        }
        self.looks += 1;
        self.from_here += u32::from(from_here);
    }

    /// Do (nearly) all faults come from other CPUs?
    pub(crate) fn is_far(&self) -> bool {
        self.looks >= TELLING && self.from_here * LEAST_PART < self.looks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_frequent_at_first_and_rare_later() {
        let mut nearness = Nearness::default();
        let due: Vec<u64> = (1..=256).filter(|_| nearness.is_look_due()).collect();
        assert_eq!(due, [1, 2, 4, 8, 16, 32, 64, 128, 192, 256]);
    }

    #[test]
    fn a_handler_is_far_when_the_faults_come_from_elsewhere_and_soon_after_they_moved_there() {
        let mut nearness = Nearness::default();
        (0..2).for_each(|_| nearness.note(false));
        assert!(!nearness.is_far(), "too few to tell");
        nearness.note(false);
        assert!(nearness.is_far());
        (0..100).for_each(|_| nearness.note(true));
        assert!(!nearness.is_far());
        let moved = (1..100).find(|_| {
            nearness.note(false);
            nearness.is_far()
        });
        assert!(moved.is_some_and(|looks| looks < 20), "{moved:?}");
    }

    #[test]
    fn a_handler_that_serves_its_own_cpu_half_of_the_time_stays_near() {
        let mut nearness = Nearness::default();
        for number in 0..100 {
            nearness.note(number % 2 == 0);
            assert!(!nearness.is_far());
        }
    }
}
