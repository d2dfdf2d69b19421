//! Sizes, counters and lock ranks: the words every other floor speaks.

pub mod counters;
mod engine_counters;
pub mod histogram;
mod parse;
pub mod rank;
mod size;

pub use counters::{Counter, CounterInfo, CounterKind};
pub use engine_counters::Counters;
pub use histogram::LatencyHistogram;
pub use parse::ParseSizeError;
pub use rank::Rank;
pub use size::{Bytes, Pages};

/// Bytes in one page. vswap manages 4 KiB pages only.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Pages in one *block*: 16 aligned pages, the unit of page locks and fault-around.
pub const BLOCK_PAGES: usize = 16;
/// Bytes in one block (64 KiB).
pub const BLOCK_SIZE: usize = BLOCK_PAGES * PAGE_SIZE;
