//! Where bytes rest: one log of 256 KiB segments, in RAM and on devices.
//!
//! Pages are compressed and appended to open segments in RAM. A sealed segment
//! is written to a device whole; names of objects ([`Location`]) stay true, so
//! writeback touches nobody's descriptors. This floor has never heard of a swap
//! entry but as an opaque owner word of 41 bits.
//!
//! The way through: [`Store::append`] (`append.rs`) → `segment.rs` (table and
//! states) → `writeback.rs` → `device/` → [`Store::read`] (`read.rs`) →
//! [`Store::free`] (`free.rs`); `clean.rs` gathers what is left of half-dead
//! segments. Layout of an object: `object.rs`. Laws: `check.rs`.
//!
//! **Stable while**: an object is neither moved nor given back while its owner
//! keeps it (the floor above pins its entry around `append`, `read`, `free` and
//! inside [`Owners::relocate`]). Segment *states* change only under the table's
//! lock; where a segment rests may change under a reader, who then looks again.
//!
//! **Locks**, in the order they may nest: lane (rank 40), table (41), RAM slots
//! (42). None is held over device I/O or decoding; a reader of RAM holds one
//! count on the slot, and the slot is not reused before the count is gone.

mod accounting;
mod append;
mod check;
mod clean;
mod codec;
pub mod dedup;
pub mod device;
mod error;
mod fit;
mod fork;
mod free;
mod groups;
mod location;
mod moving;
mod object;
mod ram;
mod read;
mod readahead;
mod segment;
pub mod slots;
mod store;
mod swapoff;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod tiers;
mod word;
mod writeback;

pub use accounting::{StoreCounters, Usage};
pub use check::Report;
pub use clean::{Cleaned, Owners};
pub use codec::{CodecKind, Workspace};
pub use error::StoreError;
pub use groups::{GroupId, GroupUse, Groups, InUse, MAX_DEPTH, MAX_GROUPS, Resource};
pub use location::{Location, Stored};
pub use read::ReadItem;
pub use slots::{Slot, Slots, SlotsOff};
pub use store::{Store, StoreOptions};
pub use swapoff::{Progress, Step, Swapoff, SwapoffError};
pub use tiers::Tiers;

/// Bytes of a segment: the unit of places on devices and of RAM given to the log.
pub const SEGMENT_BYTES: usize = 256 * 1024;
/// Objects start at multiples of this: the smallest for which a granule number has 16 bits, since padding
/// is paid by every page (2 bytes on average; 16-byte granules would cost 8).
pub const GRANULE_BYTES: usize = 4;
/// Granules in a segment.
pub const SEGMENT_GRANULES: u32 = (SEGMENT_BYTES / GRANULE_BYTES) as u32;
/// Bits of an owner word.
pub const OWNER_BITS: u32 = 41;
