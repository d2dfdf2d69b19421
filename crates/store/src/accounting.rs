//! How much the store holds, and what it did.

use vswap_units::{Bytes, counters};

use crate::groups::GroupId;
use crate::location::Stored;
use crate::segment::Segment;
use crate::store::Store;
use crate::word::Rest;
use crate::{GRANULE_BYTES, SEGMENT_BYTES};

counters! {
    /// What the store counts by itself. Appended and read pages are counted by
    /// the floors above, which know why.
    pub struct StoreCounters;
    gauge device_segments "Segments that have a place on a device now";
    peak device_segments_peak "The most segments that had a place on a device at once";
    counter device_written_bytes "Bytes written to devices";
    counter device_read_bytes "Bytes read from devices, in whole blocks";
    counter device_write_calls "Writes to devices";
    counter device_read_calls "Reads from devices";
    counter device_errors "Reads and writes that a device refused";
    counter cleaned_bytes "Bytes of live objects moved out of half-dead segments";
    counter cleaned_segments "Half-dead segments that were emptied and given back";
    counter demoted_bytes "Bytes moved from a device to one of lower priority";
    counter promoted_bytes "Bytes moved from a device to one of higher priority";
    counter bad_frees "Objects freed that were not there: a fault of the floor above";
}

/// What the store holds at one moment, from a walk over the segment table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Segments in RAM.
    pub ram_segments: u32,
    /// Live bytes in them, with headers and padding.
    pub ram_live: Bytes,
    /// Segments on devices.
    pub device_segments: u32,
    /// Live bytes in them, with headers and padding.
    pub device_live: Bytes,
}

impl Store {
    /// RAM held for segments, whole: in use, and the few free ones kept warm.
    #[must_use]
    pub fn ram_bytes(&self) -> Bytes {
        Bytes(self.ram.held_bytes())
    }

    /// Space taken on devices by this process, whole segments.
    #[must_use]
    pub fn device_bytes(&self) -> Bytes {
        Bytes(self.counters.device_segments.get() * SEGMENT_BYTES as u64)
    }

    /// The most space that was taken on devices.
    #[must_use]
    pub fn device_peak_bytes(&self) -> Bytes {
        Bytes(self.counters.device_segments_peak.get() * SEGMENT_BYTES as u64)
    }

    /// Bytes of live objects wherever they rest, with headers and padding.
    #[must_use]
    pub fn live_bytes(&self) -> Bytes {
        let usage = self.usage();
        Bytes(usage.ram_live.0 + usage.device_live.0)
    }

    /// Memory of the tables of segments and groups that was touched.
    #[must_use]
    pub fn table_bytes(&self) -> Bytes {
        Bytes((self.table.touched_bytes() + self.groups.touched_bytes()) as u64)
    }

    /// The counters.
    #[must_use]
    pub const fn counters(&self) -> &StoreCounters {
        &self.counters
    }

    /// Walks the segment table: microseconds per thousand segments.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for (_, row) in self.table.walk() {
            let live = u64::from(row.live()) * GRANULE_BYTES as u64;
            match row.word.load().rest() {
                Rest::Nowhere => {}
                Rest::Ram(_) => {
                    usage.ram_segments += 1;
                    usage.ram_live.0 += live;
                }
                Rest::Device(_) => {
                    usage.device_segments += 1;
                    usage.device_live.0 += live;
                }
            }
        }
        usage
    }

    /// Who pays for an object's segment. `None`: there is no such segment.
    #[must_use]
    pub fn group_of(&self, at: Stored) -> Option<GroupId> {
        self.table.get(at.location.segment).map(Segment::group)
    }

    /// The first write error of a device, with the device's number.
    #[must_use]
    pub fn device_error(&self) -> Option<(usize, vswap_platform::errno::Errno)> {
        let (number, errno) = self.devices.first_error()?;
        Some((usize::from(number), errno))
    }

    /// Does any device take writes?
    #[must_use]
    pub fn can_write_back(&self) -> bool {
        self.devices.any_open_but(0)
    }

    /// RAM that holds segments read ahead from devices.
    #[must_use]
    pub fn readahead_bytes(&self) -> Bytes {
        self.readahead.bytes()
    }

    /// The devices' descriptors, good in the calling thread's table.
    #[must_use]
    pub fn device_fds(&self) -> Vec<i32> {
        let mut descriptors = self.devices.descriptors();
        descriptors.extend(self.slots.descriptors());
        descriptors
    }

    /// Thread `tid` keeps the devices' descriptors in a table of its own.
    pub fn kept_by(&self, tid: i32) {
        self.devices.kept_by(tid);
        self.slots.kept_by(tid);
    }
}
