//! Moving a whole segment off its place on a device: to another device, or to RAM.
//!
//! What is moved is the compressed segment as it is; no descriptor changes, and
//! nothing is decoded. Until the table names the new place, readers read the old
//! one; those who were there look at the word again and follow.
//!
//! The checksums of all objects are looked at on the way. A segment that does
//! not read right is read once more; damage that stays may go to another device
//! if it has to, where it is still found by whoever reads it, but never to RAM, where
//! checksums are not looked at.

use vswap_platform::errno::Errno;
use vswap_platform::map::AnonMap;
use vswap_units::PAGE_SIZE;

use crate::error::StoreError;
use crate::groups::Resource;
use crate::location::Location;
use crate::object::{self, Object};
use crate::segment::Segment;
use crate::store::Store;
use crate::word::{Place, Rest, State};
use crate::{GRANULE_BYTES, SEGMENT_BYTES};

/// Room for a segment on its way. Used by one thread at a time.
#[derive(Debug)]
pub struct Carrier(AnonMap);

impl Carrier {
    /// Makes one; its memory is touched when it is used.
    ///
    /// # Errors
    /// ENOMEM without address space.
    pub fn new() -> Result<Self, Errno> {
        AnonMap::new(SEGMENT_BYTES, PAGE_SIZE).map(Self)
    }
}

/// Where a segment may go.
pub(crate) struct Choice<'a> {
    /// To devices, but none of these (a bit each).
    pub(crate) forbidden: u16,
    /// To RAM, if no device takes it and this says so at that moment.
    pub(crate) ram: &'a mut dyn FnMut() -> bool,
    /// In RAM: as one that was just used, not as the next to be written.
    pub(crate) young: bool,
    /// To a device also when it is damaged: it cannot stay.
    pub(crate) damaged: bool,
}

/// Where a segment went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Went {
    Device,
    Ram,
}

impl Store {
    /// Claims a segment that rests on a device, held and marked.
    pub(crate) fn claim_stored(&self, segment: u32) -> Option<(&Segment, Place)> {
        let _lists = self.table.lock();
        let row = self.table.get(segment)?;
        let word = row.word.load();
        let Rest::Device(place) = word.rest() else {
            return None;
        };
        if word.state() != State::Stored || !row.try_hold() {
            return None;
        }
        row.word.store(word.in_state(State::StoredCleaning));
        Some((row, place))
    }

    /// Moves a claimed segment and lets it go. After an error it is where it was.
    pub(crate) fn carry(
        &self,
        segment: u32,
        row: &Segment,
        place: Place,
        carrier: &Carrier,
        choice: &mut Choice<'_>,
    ) -> Result<Went, StoreError> {
        let went = self.carry_claimed(segment, row, place, carrier, choice);
        if went.is_err() {
            let _lists = self.table.lock();
            row.word.store(row.word.load().in_state(State::Stored));
        } else {
            self.devices.give_back(place);
        }
        if row.drop_hold() {
            self.release(segment);
        }
        went
    }

    fn carry_claimed(
        &self,
        segment: u32,
        row: &Segment,
        place: Place,
        carrier: &Carrier,
        choice: &mut Choice<'_>,
    ) -> Result<Went, StoreError> {
        let (bytes, whole) = self.load(segment, row, place, carrier)?;
        if let (Err(damaged), false) = (whole, choice.damaged) {
            return Err(damaged);
        }
        let why = match self.carry_to_device(row, place, bytes, choice.forbidden) {
            Err(why) => why,
            Ok(()) => return Ok(Went::Device),
        };
        if let Some(damaged) = whole.err() {
            return Err(damaged);
        }
        if !(choice.ram)() {
            return Err(why);
        }
        self.carry_to_ram(segment, row, bytes, choice.young)
            .map(|()| Went::Ram)
    }

    /// The charge of its group stays as it is.
    fn carry_to_device(
        &self,
        row: &Segment,
        place: Place,
        bytes: &[u8],
        forbidden: u16,
    ) -> Result<(), StoreError> {
        let barred = self.groups.forbidden_devices(row.group());
        let barred = barred.ok_or(StoreError::Closed)?;
        let written = self.write_counted(bytes, barred | forbidden | 1 << place.device)?;
        let _lists = self.table.lock();
        row.word.store(row.word.load().stored(written.place));
        Ok(())
    }

    fn carry_to_ram(
        &self,
        segment: u32,
        row: &Segment,
        bytes: &[u8],
        young: bool,
    ) -> Result<(), StoreError> {
        let payer = row.group();
        if !self.groups.charge(payer, Resource::Ram, 0) {
            return Err(StoreError::NoRoom);
        }
        let slot = self.fill_slot(bytes);
        let mut lists = self.table.lock();
        if row.group() != payer {
            // The group ended meanwhile: see `finish_end`, which waits for this.
            self.groups.charge_over(row.group(), Resource::Ram);
            self.groups.uncharge(payer, Resource::Ram);
        }
        let Some(slot) = slot else {
            self.groups.uncharge(row.group(), Resource::Ram);
            return Err(StoreError::NoRoom);
        };
        self.groups.uncharge(row.group(), Resource::Device);
        row.word.store(row.word.load().sealed_in(slot));
        if young {
            self.table.make_youngest(&mut lists, segment);
        } else {
            self.table.make_oldest(&mut lists, segment);
        }
        drop(lists);
        self.counters.device_segments.sub(1);
        Ok(())
    }

    /// A slot with these bytes. Nobody else knows it: no word names it yet.
    fn fill_slot(&self, bytes: &[u8]) -> Option<u32> {
        let slot = self.ram.take(0)?;
        let room = self.ram.tail(slot, 0);
        let Some(room) = room.and_then(|room| room.get_mut(..bytes.len())) else {
            self.ram.put(slot);
            return None;
        };
        room.copy_from_slice(bytes);
        Some(slot)
    }

    /// All that was written of a segment, and whether it is as it was written.
    fn load<'a>(
        &self,
        segment: u32,
        row: &Segment,
        place: Place,
        carrier: &'a Carrier,
    ) -> Result<(&'a [u8], Result<(), StoreError>), StoreError> {
        let used = row.used() as usize * GRANULE_BYTES;
        let length = used.next_multiple_of(PAGE_SIZE).min(SEGMENT_BYTES);
        let bytes = carrier.0.slice_mut(0, length).ok_or(StoreError::NoRoom)?;
        self.read_device(segment, place, 0, bytes)?;
        let mut whole = intact(segment, bytes, used);
        if whole.is_err() {
            self.read_device(segment, place, 0, bytes)?;
            whole = intact(segment, bytes, used);
        }
        Ok((bytes, whole))
    }
}

/// Are all objects of a segment what was written?
fn intact(segment: u32, bytes: &[u8], used: usize) -> Result<(), StoreError> {
    let mut at = 0;
    while at < used {
        let object = bytes.get(at..).and_then(Object::parse);
        let Some(object) = object.filter(Object::is_intact) else {
            return Err(StoreError::Corrupt {
                owner: object.map_or(0, |object| object.header.owner),
                location: Location {
                    segment,
                    granule: u16::try_from(at / GRANULE_BYTES).unwrap_or(u16::MAX),
                },
            });
        };
        at += object::granules_of(usize::from(object.header.stored_bytes)) * GRANULE_BYTES;
    }
    Ok(())
}
