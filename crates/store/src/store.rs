//! The store: its parts put together.

use core::cmp::Reverse;
use core::sync::atomic::AtomicBool;

use vswap_platform::errno::Errno;
use vswap_units::Bytes;

use crate::accounting::StoreCounters;
use crate::append::{Lane, WorkerLane};
use crate::clean::LastFailed;
use crate::device::{DeviceInfo, DeviceOptions, Devices, SwapDevice};
use crate::groups::{Groups, MAX_GROUPS};
use crate::ram::RamPool;
use crate::readahead::Readahead;
use crate::segment::Table;
use crate::slots::Slots;

/// Open segments for workers. More workers share them.
pub(crate) const LANES: usize = 8;
/// RAM segments beyond the limit: one for the cleaner to copy into, so that it
/// can make room when there is none, and one that it is filling meanwhile.
pub(crate) const CLEANER_SPARE: u32 = 2;

/// How big a store may get.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// RAM segments in use at once, at first (see [`Store::set_ram_limit`]).
    pub max_ram_segments: u32,
    /// What the limit may be raised to later; address space is reserved for it.
    pub reserved_ram_segments: u32,
    /// Segments in RAM and on devices together.
    pub max_segments: u32,
    /// Verify checksums also when reading from RAM (always so in debug builds).
    pub verify_ram: bool,
    /// Segments that may be read ahead from devices at once; 0: never.
    pub readahead_segments: u32,
}

impl StoreOptions {
    /// A store with this much RAM, and devices of this many places in all.
    #[must_use]
    pub const fn new(max_ram_segments: u32, device_places: u32) -> Self {
        Self {
            max_ram_segments,
            reserved_ram_segments: max_ram_segments,
            // Dead segments keep their numbers until their places are given back.
            max_segments: max_ram_segments
                .saturating_add(device_places)
                .saturating_add(64),
            verify_ram: false,
            readahead_segments: 0,
        }
    }
}

/// The log. All functions may be called by any thread at any time unless they say.
pub struct Store {
    pub(crate) ram: RamPool,
    pub(crate) table: Table,
    pub(crate) groups: Groups,
    pub(crate) lanes: [WorkerLane; LANES],
    /// Those of the groups but the root.
    pub(crate) group_lanes: Vec<Lane>,
    /// How many of `lanes` workers use: few where RAM is short, since an open
    /// segment can be neither written back nor cleaned.
    pub(crate) worker_lanes: usize,
    pub(crate) cleaner: Lane,
    pub(crate) devices: Devices,
    pub(crate) slots: Slots,
    pub(crate) counters: StoreCounters,
    pub(crate) verify_ram: bool,
    pub(crate) last_failed: LastFailed,
    /// The last write found no place on any device.
    pub(crate) devices_full: AtomicBool,
    pub(crate) ram_is_tight: AtomicBool,
    pub(crate) readahead: Readahead,
}

impl Store {
    /// Bytes of an object beyond those of its page.
    pub const HEADER_BYTES: usize = crate::object::HEADER_BYTES;
    /// Bytes a place on a device takes in the table of who needs it.
    pub const PLACE_TABLE_BYTES: usize = size_of::<u64>();

    /// Reserves the address space; nothing is touched yet.
    ///
    /// # Errors
    /// ENOMEM where address space is short, EINVAL for sizes that cannot be.
    pub fn new(options: StoreOptions) -> Result<Self, Errno> {
        let reserved = options.reserved_ram_segments.max(options.max_ram_segments);
        let ram = RamPool::new(reserved, CLEANER_SPARE)?;
        ram.set_limit(options.max_ram_segments, CLEANER_SPARE);
        let quarter = usize::try_from(options.max_ram_segments / 4).unwrap_or(LANES);
        Ok(Self {
            ram,
            table: Table::new(options.max_segments)?,
            groups: Groups::new()?,
            lanes: Default::default(),
            group_lanes: (1..MAX_GROUPS).map(|_| Lane::default()).collect(),
            worker_lanes: quarter.clamp(1, LANES),
            cleaner: Lane::default(),
            devices: Devices::default(),
            slots: Slots::default(),
            counters: StoreCounters::new(),
            verify_ram: options.verify_ram || cfg!(debug_assertions),
            last_failed: LastFailed::new(0),
            devices_full: AtomicBool::new(false),
            ram_is_tight: AtomicBool::new(false),
            readahead: Readahead::new(options.readahead_segments as usize)?,
        })
    }

    /// Attaches a device below those attached before, while the store is made.
    ///
    /// # Errors
    /// As [`Store::swapon`].
    pub fn attach(&mut self, device: Box<dyn SwapDevice>) -> Result<(), Errno> {
        self.swapon(device, DeviceOptions::default()).map(drop)
    }

    /// Attaches a device, at any time. Returns its number.
    ///
    /// # Errors
    /// ENOSPC when there are too many, ENOMEM for its table of places.
    pub fn swapon(&self, device: Box<dyn SwapDevice>, options: DeviceOptions) -> Result<u8, Errno> {
        self.devices.attach_for_segments(device, options)
    }

    /// The devices, for segments and for slots, the highest priority first.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceInfo> {
        let mut infos: Vec<_> = self.devices.infos().chain(self.slots.infos()).collect();
        infos.sort_by_key(|info| (Reverse(info.priority), info.is_slots(), info.number));
        infos
    }

    /// Bytes that devices which take writes hold together. Cheap.
    #[must_use]
    pub fn device_capacity(&self) -> Bytes {
        Bytes(self.devices.capacity_bytes())
    }

    /// Who pays for what is stored.
    #[must_use]
    pub const fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The plain slots beside the log.
    #[must_use]
    pub const fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Changes how many RAM segments may be in use. Those in use stay: write
    /// back or clean to come down to a lower limit.
    pub fn set_ram_limit(&self, segments: u32) {
        self.ram.set_limit(segments, CLEANER_SPARE);
    }

    /// How many RAM segments may be in use.
    #[must_use]
    pub fn ram_limit(&self) -> u32 {
        self.ram.limit()
    }

    /// Gives the few free RAM segments that are kept warm back to the kernel.
    pub fn trim(&self) {
        self.ram.trim();
    }
}
