//! Locks and events on futexes: usable inside a fault, valid when all-zero,
//! never poisoned, and taken in rank order (checked in debug builds).

mod event;
mod mutex;
mod ranks;
mod signals;

pub use event::{Event, wait, wake};
pub use mutex::{Guard, RankedMutex, SignalGuard};
pub use ranks::InRank;
pub use signals::{SignalBlock, swap_signal_mask};
