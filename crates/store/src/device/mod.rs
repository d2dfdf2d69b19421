//! Devices: attached places for segments.
//!
//! A device has equal places of [`crate::SEGMENT_BYTES`]. A place is taken only
//! when a segment is written, in one sequential write; what is read back is just
//! the blocks around one object, or around neighbours.

mod file;
mod identity;
pub(crate) mod latched;
mod null;
mod places;

use vswap_platform::errno::Errno;

pub use file::FileDevice;
pub use null::NullDevice;

use crate::error::StoreError;
use crate::word::{MAX_DEVICES, MAX_PLACES, Place};
pub(crate) use latched::Latched;
pub(crate) use places::PlaceTable;

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

    /// Writes one page somewhere in a place: what makes the device one for plain
    /// slots (`crate::slots`).
    ///
    /// # Errors
    /// As [`SwapDevice::write`]; EOPNOTSUPP of a device that only takes segments.
    fn write_page(&self, place: u32, offset: usize, page: &[u8]) -> Result<(), Errno> {
        let _ = (place, offset, page);
        Err(Errno::EOPNOTSUPP)
    }

    /// The place is free: gives its space back where that can be done.
    ///
    /// # Errors
    /// The space is then only reused.
    fn discard(&self, place: u32) -> Result<(), Errno>;

    /// Thread `tid` keeps what the device needs open in a descriptor table of
    /// its own, for when the program closes ours.
    fn kept_by(&self, tid: i32) {
        let _ = tid;
    }

    /// The descriptor the device needs, good in the calling thread's table
    /// (opened again out of the keeper's if it is not). `None`: it needs none.
    fn descriptor(&self) -> Option<i32> {
        None
    }
}

/// A device and who holds which of its places.
struct Attached {
    device: Latched<Box<dyn SwapDevice>>,
    places: PlaceTable,
}

/// The devices of a store, in the order they are filled.
#[derive(Default)]
pub(crate) struct Devices {
    list: Vec<Attached>,
}

impl Devices {
    pub(crate) fn attach(&mut self, device: Box<dyn SwapDevice>) -> Result<(), Errno> {
        if self.list.len() >= MAX_DEVICES {
            return Err(Errno::ENOSPC);
        }
        let places = PlaceTable::new(device.capacity_places().min(MAX_PLACES))?;
        self.list.push(Attached {
            device: Latched::new(device),
            places,
        });
        Ok(())
    }

    fn get(&self, place: Place) -> Option<&Attached> {
        self.list.get(usize::from(place.device))
    }

    /// The devices but those of `forbidden` (a bit each), with their numbers.
    fn allowed(&self, forbidden: u16) -> impl Iterator<Item = (usize, &Attached)> {
        let allowed = move |number: usize| forbidden >> number & 1 == 0;
        let list = self.list.iter().enumerate();
        list.filter(move |&(number, _)| allowed(number))
    }

    /// Writes a segment to the first device that takes it, but none of `forbidden`.
    pub(crate) fn write(&self, bytes: &[u8], forbidden: u16) -> Result<Place, StoreError> {
        let mut why = StoreError::Closed;
        for (number, attached) in self.allowed(forbidden) {
            match attached.write(bytes) {
                Ok(index) => {
                    let device = u8::try_from(number).map_err(|_| StoreError::Closed)?;
                    return Ok(Place { device, index });
                }
                // Of several reasons the most telling one: failed, full, closed.
                Err(StoreError::Closed) => {}
                Err(StoreError::Full) if why != StoreError::Closed => {}
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    pub(crate) fn read(&self, place: Place, offset: usize, out: &mut [u8]) -> Result<(), Errno> {
        let attached = self.get(place).ok_or(Errno::ENODEV)?;
        attached.device.read(place.index, offset, out)
    }

    /// Lets go of a place; the last holder also gives its space back.
    pub(crate) fn give_back(&self, place: Place) {
        if let Some(attached) = self.get(place) {
            attached
                .places
                .give_back(place.index, || attached.discard(place.index));
        }
    }

    /// The first error that closed a device for writing, by its number.
    pub(crate) fn first_error(&self) -> Option<(usize, Errno)> {
        self.list
            .iter()
            .enumerate()
            .find_map(|(i, at)| at.device.error().map(|e| (i, e)))
    }

    /// Does any device but those of `forbidden` take writes?
    pub(crate) fn any_open_but(&self, forbidden: u16) -> bool {
        self.allowed(forbidden)
            .any(|(_, at)| at.device.error().is_none())
    }

    /// Places this process holds on all devices, for the self-check.
    pub(crate) fn held_places(&self) -> u64 {
        self.list.iter().map(|at| at.places.held()).sum()
    }

    /// Does this process hold that place?
    pub(crate) fn holds(&self, place: Place) -> bool {
        self.get(place)
            .is_some_and(|at| at.places.holds(place.index))
    }

    /// Frees what processes that are gone still held.
    pub(crate) fn reap(&self) {
        for at in &self.list {
            at.places.reap(&|place| at.discard(place));
        }
    }

    pub(crate) fn descriptors(&self) -> Vec<i32> {
        self.list
            .iter()
            .filter_map(|attached| attached.device.descriptor())
            .collect()
    }

    pub(crate) fn kept_by(&self, tid: i32) {
        self.list.iter().for_each(|at| at.device.kept_by(tid));
    }

    /// Before the locks are taken for a fork: room for the child, and descriptors
    /// good in the calling thread's table, which is what the child gets.
    pub(crate) fn before_fork(&self) {
        self.reap();
        for at in &self.list {
            let _ = at.device.descriptor();
        }
    }

    /// Before a fork: a slot for the child on every device.
    pub(crate) fn expect_child(&self) {
        self.list.iter().for_each(|at| at.places.expect_child());
    }

    /// The child will need this place too.
    pub(crate) fn grant_child(&self, place: Place) {
        if let Some(at) = self.get(place) {
            at.places.grant_child(place.index);
        }
    }

    pub(crate) fn parent_after_fork(&self, forked: bool) {
        self.list
            .iter()
            .for_each(|at| at.places.parent_after_fork(forked));
    }

    pub(crate) fn child_after_fork(&self) {
        self.list.iter().for_each(|at| at.places.child_after_fork());
    }
}

impl Attached {
    fn write(&self, bytes: &[u8]) -> Result<u32, StoreError> {
        if self.device.error().is_some() {
            return Err(StoreError::Closed);
        }
        let place = self.take_place().ok_or(StoreError::Full)?;
        match self.device.write(place, bytes) {
            Ok(()) => Ok(place),
            Err(errno) if latched::is_full(errno) => {
                self.places.give_back(place, || self.discard(place));
                Err(StoreError::Full)
            }
            Err(errno) if latched::passes(errno) => {
                self.places.give_back(place, || self.discard(place));
                Err(StoreError::Io(errno))
            }
            Err(errno) => {
                // Nobody knows what is there now: never used again.
                self.places.mark_bad(place);
                Err(StoreError::Io(errno))
            }
        }
    }

    fn take_place(&self) -> Option<u32> {
        self.places.take().or_else(|| {
            self.places.reap(&|place| self.discard(place));
            self.places.take()
        })
    }

    fn discard(&self, place: u32) {
        // Space that cannot be given back is only reused.
        let _ = self.device.discard(place);
    }
}
