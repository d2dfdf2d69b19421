//! Devices: attached places for segments.
//!
//! A device has equal places of [`crate::SEGMENT_BYTES`]. A place is taken only
//! when a segment is written, in one sequential write; what is read back is just
//! the blocks around one object, or around neighbours.

mod attached;
mod file;
mod identity;
mod info;
pub(crate) mod latched;
mod list;
mod null;
mod places;
mod standing;
mod table;

use vswap_platform::errno::Errno;

pub use file::FileDevice;
pub use info::{DeviceInfo, DeviceKind, DeviceOptions, DeviceState};
pub use null::NullDevice;
pub use table::Detached;

pub(crate) use attached::{Attached, Written};
pub(crate) use list::Devices;
pub(crate) use places::PlaceTable;
pub(crate) use standing::Standing;
pub(crate) use table::{Attachable, DeviceTable, Pinned};

/// What a device does. Offsets, lengths and buffers are whole pages; calls come
/// from several threads at once, never two to one place unless both read.
pub trait SwapDevice: Send + Sync {
    /// How many places it may have.
    fn capacity_places(&self) -> u32;

    /// Writes a segment from the start of a place. All of it is there after
    /// `Ok`; after an error nothing is assumed of the place.
    ///
    /// # Errors
    /// ENOSPC and its like: full for now. Any other closes the device for writing.
    fn write(&self, place: u32, bytes: &[u8]) -> Result<(), Errno>;

    /// Fills `out` from `offset` in a place.
    ///
    /// # Errors
    /// As the device has them; never bytes in place of an error.
    fn read(&self, place: u32, offset: usize, out: &mut [u8]) -> Result<(), Errno>;

    /// Writes a page, or neighbouring ones, somewhere in a place: what makes the
    /// device one for plain slots (`crate::slots`).
    ///
    /// # Errors
    /// As [`SwapDevice::write`]; EOPNOTSUPP of a device that only takes segments.
    fn write_page(&self, place: u32, offset: usize, page: &[u8]) -> Result<(), Errno> {
        let _ = (place, offset, page);
        Err(Errno::EOPNOTSUPP)
    }

    /// The place is free: gives its space back where that can be done. Nobody reads it again before it was written.
    ///
    /// # Errors
    /// The space is then only reused. EOPNOTSUPP of a device that gives nothing back at all; any other counts as a call it
    /// refused.
    fn discard(&self, place: u32) -> Result<(), Errno>;

    /// Thread `tid` keeps what the device needs open in a descriptor table of
    /// its own, for when the program closes ours.
    fn kept_by(&self, tid: i32) {
        let _ = tid;
    }

    /// Which file or device this is (`st_dev`, `st_ino`), where it is one.
    fn identity(&self) -> Option<(u64, u64)> {
        None
    }

    /// Bytes its file system has left for it to grow into. `None`: it does not grow.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// Closes what it has open in the calling thread's descriptor table. Only
    /// for a device that was taken off.
    fn close(&self) {}

    /// The descriptor the device needs, good in the calling thread's table
    /// (opened again out of the keeper's if it is not). `None`: it needs none.
    fn descriptor(&self) -> Option<i32> {
        None
    }
}
