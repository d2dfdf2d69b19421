//! Groups and devices that come and go in a life.

use super::life::{Life, Tally};
use crate::GroupId;
use vswap_store::device::{DeviceOptions, DeviceState};
use vswap_store::testing::{Control, FaultyDevice};
use vswap_store::{Resource, SEGMENT_BYTES, SwapoffError};
use vswap_units::Bytes;

/// Devices on at once.
const MOST_DEVICES: usize = 4;

/// A device of a life.
pub(super) struct Place {
    pub(super) name: String,
    pub(super) control: Control,
}

impl Life<'_> {
    /// A group of this life, the root among them.
    pub(super) fn group(&mut self) -> GroupId {
        let number = self.script.number() % (self.groups.len() + 1);
        let below = number.checked_sub(1).and_then(|at| self.groups.get(at));
        below.copied().unwrap_or(GroupId::ROOT)
    }

    pub(super) fn change_groups(&mut self) {
        let (what, group) = (self.script.number() % 4, self.group());
        match what {
            0 => {
                let made = self.layer.store().groups().create(group);
                self.groups.extend(made);
            }
            1 => self.end_group(group),
            2 => self.limit(group),
            _ => self.rule(group),
        }
    }

    fn end_group(&mut self, group: GroupId) {
        let groups = self.layer.store().groups();
        let is_leaf =
            group != GroupId::ROOT && groups.all().all(|it| groups.parent(it) != Some(group));
        let in_use = self
            .oracle
            .entries
            .keys()
            .any(|entry| self.payers.get(entry) == Some(&group));
        let ended = self.layer.end_group(group).is_ok();
        assert_eq!(ended, is_leaf && !in_use, "the end of {group:?}");
        if ended {
            self.groups.retain(|&it| it != group);
        }
    }

    fn limit(&mut self, group: GroupId) {
        let what = if self.script.number().is_multiple_of(2) {
            Resource::Ram
        } else {
            Resource::Device
        };
        let segments = u32::try_from(self.script.number() % 5)
            .ok()
            .filter(|&n| n < 4);
        let held = self.layer.store().groups().usage(group);
        let held = if what == Resource::Ram {
            held.ram
        } else {
            held.device
        };
        let set = self.layer.store().groups().set_limit(group, what, segments);
        assert_eq!(set.is_ok(), segments.is_none_or(|limit| limit >= held));
    }

    fn rule(&mut self, group: GroupId) {
        let rules = self.script.number();
        let groups = self.layer.store().groups();
        groups.set_rules(group, rules.is_multiple_of(2), (rules >> 1) as u16 & 7);
    }

    pub(super) fn swapon(&mut self) {
        let places = 1 + self.script.number() % 12;
        if self.devices.len() < MOST_DEVICES {
            self.attach(places as u32);
        }
    }

    pub(super) fn attach(&mut self, places: u32) {
        let device = FaultyDevice::new(places);
        self.attached += 1;
        let place = Place {
            name: format!("{}", self.attached),
            control: device.control(),
        };
        let options = DeviceOptions {
            name: place.name.clone(),
            ..DeviceOptions::default()
        };
        if self.layer.store().swapon(Box::new(device), options).is_ok() {
            self.devices.push(place);
        }
    }

    /// Whatever it ends with, nothing is lost; after success nothing is left there.
    pub(super) fn swapoff(&mut self) {
        let (at, segments, most) = (
            self.script.number(),
            self.script.number() % 4,
            self.script.number(),
        );
        let at = at % self.devices.len().max(1);
        let Some(place) = self.devices.get(at) else {
            return;
        };
        // A write that failed may have left something at a place that is never used again, and a process that forked
        // needs its own places still.
        let excused = self.forked
            || self.layer.store().devices().iter().any(|info| {
                info.name == place.name && matches!(info.state, DeviceState::Failed(_))
            });
        let ram = Bytes((segments * SEGMENT_BYTES) as u64);
        let ended = self
            .layer
            .store()
            .swapoff(&place.name, ram, &mut |progress| {
                progress.moved as usize <= most
            });
        match ended {
            Ok(_) => {
                let left = place.control.stored_places();
                assert!(excused || left == 0, "{left} segments are left behind");
                self.devices.remove(at);
                self.tally.swapoffs += 1;
            }
            Err(error) => assert!(!matches!(
                error,
                SwapoffError::NotOn | SwapoffError::Draining
            )),
        }
    }

    /// Every entry is paid for by the group it was made for.
    pub(super) fn compare_payers(&self) {
        for (&entry, &group) in &self.payers {
            if self.oracle.is_live(entry) {
                assert_eq!(self.layer.group_of(entry), group, "{entry:?}");
            }
        }
    }
}

impl Tally {
    /// Adds another life's.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            operations: self.operations + other.operations,
            stored: self.stored + other.stored,
            without_room: self.without_room + other.without_room,
            written: self.written + other.written,
            moved: self.moved + other.moved,
            failed_reads: self.failed_reads + other.failed_reads,
            swapoffs: self.swapoffs + other.swapoffs,
            shared: self.shared + other.shared,
        }
    }
}
