//! Devices of one sort: a fixed table of rows that come and go.
//!
//! A row's lock is held only to look into it, never over I/O: whoever wants to touch a device pins it under the lock and
//! goes on without. A device is taken out of its row when nothing of this process is there; those who had pinned it are
//! waited for. Its number is in the names of what is there, so a device keeps it while it is attached, and priorities
//! order numbers, not rows.

use core::ops::Deref;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

use vswap_platform::errno::Errno;
use vswap_platform::sync::RankedMutex;
use vswap_units::{Bytes, rank};

use super::info::{DeviceInfo, DeviceOptions};
use super::places::PlaceTable;
use super::standing::Standing;

/// What a table has to know of its devices.
pub(crate) trait Attachable: Deref<Target = Standing> + Send + Sync {
    /// What it holds at most, and how many bytes are taken by this process.
    fn capacity_bytes(&self) -> u64;
    fn used_bytes(&self) -> u64;

    /// Which processes need which of its places.
    fn holders(&self) -> &PlaceTable;

    /// Nobody needs a place any more.
    fn place_is_free(&self, place: u32);

    /// In a forked child, beside what all devices do.
    fn child_after_fork(&self) {}

    /// Frees what processes that are gone still held.
    fn reap(&self) {
        self.holders().reap(&|place| self.place_is_free(place));
    }
}

/// A device that stays while this is held.
pub(crate) struct Pinned<D: Attachable>(Arc<D>);

impl<D: Attachable> Pinned<D> {
    /// Counts a thread in. **Context**: the lock of the device's row is held, or it cannot go for another reason.
    pub(super) fn new(device: &Arc<D>) -> Self {
        device.enter();
        Self(Arc::clone(device))
    }
}

impl<D: Attachable> Deref for Pinned<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.0
    }
}

impl<D: Attachable> Drop for Pinned<D> {
    fn drop(&mut self) {
        self.0.exit();
    }
}

/// A device that was taken off. Its descriptors are closed in the table of each thread that calls [`Detached::close`],
/// and of the one that drops it.
pub struct Detached(Arc<dyn Attachable>);

impl Detached {
    /// Closes what it has open in the calling thread's descriptor table.
    pub fn close(&self) {
        self.0.device.close();
    }
}

type Row<D> = RankedMutex<Option<Arc<D>>, { rank::DEVICE }>;

/// Up to `N` devices.
pub(crate) struct DeviceTable<D, const N: usize> {
    rows: [Row<D>; N],
    /// The priority given last to a device without one.
    lowest: AtomicI32,
    /// Devices that take writes, a bit each, and the bytes they hold together.
    open: AtomicU32,
    capacity: AtomicU64,
}

impl<D, const N: usize> Default for DeviceTable<D, N> {
    fn default() -> Self {
        Self {
            rows: [const { RankedMutex::new(None) }; N],
            lowest: AtomicI32::new(0),
            open: AtomicU32::new(0),
            capacity: AtomicU64::new(0),
        }
    }
}

impl<D: Attachable + 'static, const N: usize> DeviceTable<D, N> {
    /// Attaches what `make` makes with its priority. Returns its number.
    ///
    /// # Errors
    /// Those of `make`; ENOSPC when there are too many.
    pub(crate) fn attach(
        &self,
        options: &DeviceOptions,
        make: impl FnOnce(i32) -> Result<D, Errno>,
    ) -> Result<u8, Errno> {
        let priority = options.priority;
        let priority = priority.unwrap_or_else(|| self.lowest.fetch_sub(1, Ordering::Relaxed) - 1);
        let attached = Arc::new(make(priority)?);
        for (number, row) in (0_u8..).zip(&self.rows) {
            let mut row = row.lock();
            if row.is_none() {
                *row = Some(attached);
                drop(row);
                self.recount();
                return Ok(number);
            }
        }
        Err(Errno::ENOSPC)
    }

    /// Takes a device out that nothing names any more; waits until nobody is inside.
    pub(crate) fn detach(&self, number: u8, device: Arc<D>) -> Detached {
        if let Some(row) = self.rows.get(usize::from(number)) {
            let mut row = row.lock();
            if row
                .as_ref()
                .is_some_and(|there| Arc::ptr_eq(there, &device))
            {
                *row = None;
            }
        }
        self.recount();
        device.wait_until_nobody_is_inside();
        device.holders().leave(&|place| device.place_is_free(place));
        Detached(device)
    }

    /// The device in a row, without keeping it there.
    pub(crate) fn get(&self, number: u8) -> Option<Arc<D>> {
        self.rows.get(usize::from(number))?.lock().clone()
    }

    pub(crate) fn pin(&self, number: u8) -> Option<Pinned<D>> {
        let row = self.rows.get(usize::from(number))?.lock();
        row.as_ref().map(Pinned::new)
    }

    /// Every device, pinned one after the other.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u8, Pinned<D>)> {
        (0..N as u8).filter_map(|number| Some((number, self.pin(number)?)))
    }

    /// Every device that takes writes.
    pub(crate) fn each_open(&self) -> impl Iterator<Item = (u8, Pinned<D>)> {
        self.each().filter(|(_, device)| device.is_open())
    }

    /// Other devices take writes now.
    pub(crate) fn recount(&self) {
        let (mut open, mut bytes) = (0, 0);
        for (number, device) in self.each_open() {
            open |= 1 << number;
            bytes += device.capacity_bytes();
        }
        self.open.store(open, Ordering::Relaxed);
        self.capacity.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that devices which take writes hold together. Cheap.
    pub(crate) fn capacity_bytes(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Does any device but those of `forbidden` (a bit each) take writes? Cheap.
    pub(crate) fn any_open_but(&self, forbidden: u32) -> bool {
        self.open.load(Ordering::Relaxed) & !forbidden != 0
    }

    /// The first error that closed a device for writing, by its number.
    pub(crate) fn first_error(&self) -> Option<(u8, Errno)> {
        self.each()
            .find_map(|(number, device)| Some((number, device.error()?)))
    }

    pub(crate) fn infos(&self) -> impl Iterator<Item = DeviceInfo> {
        self.each().map(|(number, device)| {
            let (capacity, used) = (device.capacity_bytes(), device.used_bytes());
            device.info(number, Bytes(capacity), Bytes(used))
        })
    }

    /// Frees what processes that are gone still held.
    pub(crate) fn reap(&self) {
        self.each().for_each(|(_, device)| device.reap());
    }

    pub(crate) fn descriptors(&self) -> Vec<i32> {
        self.each()
            .filter_map(|(_, device)| device.device.descriptor())
            .collect()
    }

    pub(crate) fn kept_by(&self, tid: i32) {
        self.each()
            .for_each(|(_, device)| device.device.kept_by(tid));
    }

    /// Before the locks are taken for a fork: room for the child, and descriptors
    /// good in the calling thread's table, which is what the child gets.
    pub(crate) fn before_fork(&self) {
        for (_, device) in self.each() {
            device.reap();
            let _ = device.device.descriptor();
        }
    }

    /// Before a fork: room for the child among the holders of every device's places.
    pub(crate) fn expect_child(&self) {
        self.each()
            .for_each(|(_, device)| device.holders().expect_child());
    }

    pub(crate) fn parent_after_fork(&self, forked: bool) {
        self.each()
            .for_each(|(_, device)| device.holders().parent_after_fork(forked));
    }

    /// A thread of the parent may have held a row's lock, to look into it.
    pub(crate) fn child_after_fork(&self) {
        self.rows.iter().for_each(RankedMutex::reset_in_child);
        for row in &self.rows {
            let device = row.lock().clone();
            if let Some(device) = device {
                device.holders().child_after_fork();
                Standing::child_after_fork(&device);
                Attachable::child_after_fork(&*device);
            }
        }
        self.recount();
    }
}
