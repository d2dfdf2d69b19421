//! Devices that come and go in a life, for segments and for slots, and what moves between them.

use super::life::Life;
use crate::{Emptying, OnDevice};
use vswap_store::device::{DeviceKind, DeviceOptions, DeviceState};
use vswap_store::testing::{Control, FaultyDevice};
use vswap_store::{SEGMENT_BYTES, Step, StoreError, SwapoffError};
use vswap_units::{Bytes, PAGE_SIZE};

/// Devices on at once.
const MOST_DEVICES: usize = 6;
/// More than the time between two looks at what was read.
const LATER_NS: u64 = 2_000_000_000;

/// A device of a life.
pub(super) struct Place {
    name: String,
    pub(super) control: Control,
    pub(super) on: OnDevice,
}

impl Place {
    pub(super) const fn is_slots(&self) -> bool {
        matches!(self.on, OnDevice::Slots(_))
    }
}

impl Life<'_> {
    pub(super) fn swapon(&mut self) {
        let places = 1 + self.script.number() % 12;
        self.attach(places as u32, None);
    }

    /// With a priority: large enough for a tier, or for slots.
    pub(super) fn swapon_better(&mut self) {
        let number = self.script.number();
        let priority = Some((number >> 2) as i32 % 4);
        match number % 4 {
            0 => self.attach(16 + (number >> 4) as u32, priority),
            _ => self.attach_slots(1 + (number >> 4) as u32 % 3, priority),
        }
    }

    fn options(&mut self, priority: Option<i32>, kind: DeviceKind) -> DeviceOptions {
        self.attached += 1;
        DeviceOptions {
            name: format!("{}", self.attached),
            priority,
            kind,
        }
    }

    pub(super) fn attach(&mut self, places: u32, priority: Option<i32>) {
        let options = self.options(priority, DeviceKind::File);
        let device = FaultyDevice::new(places);
        let (name, control) = (options.name.clone(), device.control());
        if self.devices.len() < MOST_DEVICES
            && let Ok(number) = self.layer.store().swapon(Box::new(device), options)
        {
            let on = OnDevice::Segments(number);
            self.devices.push(Place { name, control, on });
        }
    }

    fn attach_slots(&mut self, places: u32, priority: Option<i32>) {
        let options = self.options(priority, DeviceKind::Slots);
        let device = FaultyDevice::new(places);
        let (name, control) = (options.name.clone(), device.control());
        if self.devices.len() < MOST_DEVICES
            && let Ok(number) = self.layer.store().slots().attach(Box::new(device), options)
        {
            let on = OnDevice::Slots(number);
            self.devices.push(Place { name, control, on });
        }
    }

    pub(super) fn prefer_slots(&mut self) {
        let preferred = self.script.number().is_multiple_of(2);
        self.workspace.set_prefers_slots(preferred);
    }

    /// Whatever it ends with, nothing is lost; after success nothing is left there.
    pub(super) fn swapoff(&mut self) {
        let (at, segments, most) = (
            self.script.number(),
            self.script.number() % 4,
            self.script.number(),
        );
        let at = at % self.devices.len().max(1);
        let ram = Bytes((segments * SEGMENT_BYTES) as u64);
        let ended = match self.devices.get(at).map(|place| place.on) {
            None => return,
            Some(OnDevice::Segments(_)) => self.swapoff_segments(at, ram, most),
            Some(OnDevice::Slots(number)) => self.swapoff_slots(number, ram, most),
        };
        match ended {
            Ok(()) => {
                self.devices.remove(at);
                self.tally.swapoffs += 1;
            }
            Err(error) => assert!(!matches!(
                error,
                SwapoffError::NotOn | SwapoffError::Draining
            )),
        }
    }

    fn swapoff_segments(&self, at: usize, ram: Bytes, most: usize) -> Result<(), SwapoffError> {
        let Some(place) = self.devices.get(at) else {
            return Ok(());
        };
        let store = self.layer.store();
        // A write that failed may have left something at a place that is never used again, and a process that forked
        // needs its own places still.
        let failed = |info: &vswap_store::device::DeviceInfo| {
            info.name == place.name && matches!(info.state, DeviceState::Failed(_))
        };
        let excused = self.forked || store.devices().iter().any(failed);
        store.swapoff(&place.name, ram, &mut |it| it.moved as usize <= most)?;
        let left = place.control.stored_places();
        assert!(excused || left == 0, "{left} segments are left behind");
        Ok(())
    }

    /// Page by page, and where RAM is full segments are written back.
    fn swapoff_slots(&mut self, number: u8, ram: Bytes, most: usize) -> Result<(), SwapoffError> {
        let mut off = self.layer.slots_off_begin(number, ram)?;
        let ended = self.empty_slots(&mut off, most);
        match ended {
            Ok(()) => self.layer.slots_off_end(off).close(),
            Err(_) => self.layer.slots_off_cancel(&off),
        }
        self.count_fails_anew();
        ended
    }

    fn empty_slots(&mut self, off: &mut Emptying, most: usize) -> Result<(), SwapoffError> {
        let mut page = vec![0; PAGE_SIZE];
        loop {
            let step = self
                .layer
                .slots_off_step(off, &mut page, &mut self.workspace, &mut || true);
            match step {
                Ok(Step::Empty) => return Ok(()),
                Ok(_) if off.progress().moved as usize > most => {
                    return Err(SwapoffError::Cancelled);
                }
                Ok(_) => {}
                Err(SwapoffError::Store(StoreError::NoRoom))
                    if matches!(self.layer.writeback_oldest(Bytes(0)), Ok(Some(_))) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Time passes, and segments go to better or worse devices: as many as before are on devices and in RAM.
    pub(super) fn look(&mut self) {
        let looks = 1 + self.script.number() % 5;
        let store = self.layer.store();
        let before = store.usage();
        for _ in 0..looks {
            self.now_ns += LATER_NS;
            while store.migrate_step(&mut self.tiers, self.now_ns) {
                self.tally.migrated += 1;
            }
        }
        let after = store.usage();
        assert_eq!(
            (before.ram_segments, before.device_segments),
            (after.ram_segments, after.device_segments)
        );
    }

    /// Pages came only to devices that are on and that their group may use, but for those that could not be parted from what
    /// another group pays for.
    pub(super) fn note_places(&mut self) {
        let mut places = std::collections::BTreeMap::new();
        for &entry in self.oracle.entries.keys() {
            let Some(on) = self.layer.device_of(entry) else {
                continue;
            };
            places.insert(entry, on);
            if self.places.get(&entry) == Some(&on) {
                continue;
            }
            assert!(self.devices.iter().any(|place| place.on == on), "{on:?}");
            let group = self.layer.group_of(entry);
            let is_shared = matches!(self.layer.hint(entry), crate::Backing::Shared(_));
            assert!(
                (is_shared && self.guests_left) || self.may_be_on(group, on),
                "{entry:?} of {group:?} came to {on:?}"
            );
        }
        self.places = places;
    }
}
