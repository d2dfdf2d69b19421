//! The virtual swap layer: every swapped page has an *entry*, and where its bytes rest can change without its owner noticing.
//!
//! The way through: [`SwapLayer::allocate`] (`allocator`) → [`SwapLayer::cache`] (`pin`) → [`Pin::swap_out`] (`swap`) →
//! [`Pin::swap_in`] or [`SwapLayer::swap_in_block`] (`block`) → [`SwapLayer::free`] (`free`). The bits of a descriptor are in
//! `descriptor`, what may happen to it in `transition`, and nothing else changes one. Duplicates: `dedup`, and what they share:
//! `shared`. Laws: `check`.
//!
//! Four things keep this fast: a pin is one bit of the descriptor and one exchange; each worker allocates from a cluster of its
//! own; frees leave a cluster in batches; and what is counted is counted per worker.
//!
//! No system calls here, and no memory of the allocator's: tables come from `vswap_platform::lazy`.

mod allocator;
mod block;
mod check;
mod cluster;
mod count;
mod dedup;
mod descriptor;
mod entry;
mod fork;
mod free;
mod gate;
mod gauges;
mod group;
mod hint_map;
mod layer;
mod on_device;
mod owners;
mod parting;
mod pin;
mod same;
mod shared;
mod slots;
mod swap;
mod swap_run;
mod table;
mod tally;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod transition;
mod worker;

pub use count::DeadEntry;
pub use dedup::{Dedup, DedupOptions};
pub use descriptor::Backing;
pub use entry::{CLUSTER_ENTRIES, EntryId, EntryRange};
pub use free::Freed;
pub use gauges::{Gauges, TableParts};
pub use group::{Charge, StillInUse};
pub use layer::{LayerOptions, SwapLayer};
pub use on_device::OnDevice;
pub use parting::Parted;
pub use pin::Pin;
pub use same::repeated_word;
pub use shared::SharedId;
pub use slots::Emptying;
pub use swap::{SwapInError, SwapOut};
pub use swap_run::RunOut;
pub use vswap_store::GroupId;
