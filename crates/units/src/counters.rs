//! Counters that a fault handler may touch and another process may read: plain
//! relaxed atomics in one `repr(C)` struct, described by a constant table.

use bytemuck::Zeroable;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One number, changed by any thread. All-zero is a valid counter.
#[derive(Debug, Default, Zeroable)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds and returns the new value (for a peak beside it).
    pub fn add(&self, n: u64) -> u64 {
        self.0.fetch_add(n, Relaxed).wrapping_add(n)
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Subtracts, stopping at zero: a gauge that is off by one must not read
    /// as 16 EiB. Returns the new value.
    pub fn sub(&self, n: u64) -> u64 {
        let mut old = self.0.load(Relaxed);
        loop {
            let new = old.saturating_sub(n);
            match self.0.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => return new,
                Err(seen) => old = seen,
            }
        }
    }

    /// Replaces the value.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Raises the value to at least `n`.
    pub fn max(&self, n: u64) {
        // The common case (no new peak) must not write the cache line.
        if self.0.load(Relaxed) < n {
            self.0.fetch_max(n, Relaxed);
        }
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How the values of a counter are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum CounterKind {
    /// Only grows; differences have a meaning.
    Counter = 0,
    /// How much there is now.
    Gauge = 1,
    /// The highest a gauge has been.
    Peak = 2,
}

impl CounterKind {
    /// The word used in the schema other processes read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Peak => "peak",
        }
    }
}

/// What one counter is called and what it counts.
#[derive(Clone, Copy, Debug)]
pub struct CounterInfo {
    /// Its name, as in reports and the C interface.
    pub name: &'static str,
    /// How to read its values.
    pub kind: CounterKind,
    /// One line of help.
    pub help: &'static str,
}

/// Declares a `repr(C)` struct of [`Counter`]s with its table.
///
/// Each line is `kind name "help";` with kind one of `counter`, `gauge`, `peak`.
#[macro_export]
macro_rules! counters {
    (
        $(#[$meta:meta])*
        $vis:vis struct $Name:ident;
        $( $kind:ident $field:ident $help:literal; )+
    ) => {
        $(#[$meta])*
        #[derive(Debug, Default, ::bytemuck::Zeroable)]
        #[repr(C)]
        $vis struct $Name {
            $( #[doc = $help] pub $field: $crate::Counter, )+
        }

        impl $Name {
            /// One row per counter, in memory order: the value of row `i` is the `i`-th u64.
            pub const TABLE: &'static [$crate::CounterInfo] = &[
                $( $crate::CounterInfo {
                    name: stringify!($field),
                    kind: $crate::counters!(@kind $kind),
                    help: $help,
                }, )+
            ];

            /// How many counters there are.
            pub const COUNT: usize = Self::TABLE.len();

            /// All counters at zero.
            #[must_use]
            pub const fn new() -> Self {
                Self { $( $field: $crate::Counter::new(), )+ }
            }

            /// The counter of row `index`.
            #[must_use]
            pub fn get(&self, index: usize) -> Option<&$crate::Counter> {
                [ $( &self.$field, )+ ].get(index).copied()
            }

            /// Every row with its counter, in table order.
            pub fn iter(&self) -> impl Iterator<Item = (&'static $crate::CounterInfo, &$crate::Counter)> {
                Self::TABLE.iter().zip([ $( &self.$field, )+ ])
            }
        }
    };
    (@kind counter) => { $crate::CounterKind::Counter };
    (@kind gauge) => { $crate::CounterKind::Gauge };
    (@kind peak) => { $crate::CounterKind::Peak };
}

#[cfg(test)]
mod tests {
    use super::*;

    counters! {
        /// Three kinds.
        struct Few;
        gauge held "now";
        peak held_peak "most";
        counter events "so far";
    }

    #[test]
    fn the_table_is_in_memory_order() {
        let few = Few::new();
        few.held.set(1);
        few.held_peak.set(2);
        few.events.set(3);
        let names: Vec<_> = few
            .iter()
            .map(|(info, value)| (info.name, info.kind, value.get()))
            .collect();
        assert_eq!(
            names,
            [
                ("held", CounterKind::Gauge, 1),
                ("held_peak", CounterKind::Peak, 2),
                ("events", CounterKind::Counter, 3)
            ]
        );
        assert_eq!(few.get(2).map(Counter::get), Some(3));
        assert!(few.get(3).is_none());
        assert_eq!(size_of::<Few>(), Few::COUNT * 8);
    }

    #[test]
    fn a_gauge_stops_at_zero_and_a_peak_only_rises() {
        let gauge = Counter::new();
        assert_eq!(gauge.add(5), 5);
        assert_eq!(gauge.sub(9), 0);
        gauge.max(7);
        gauge.max(3);
        assert_eq!(gauge.get(), 7);
    }

    #[test]
    fn all_zero_is_a_valid_set_of_counters() {
        let few: Few = Zeroable::zeroed();
        assert!(few.iter().all(|(_, value)| value.get() == 0));
    }
}
