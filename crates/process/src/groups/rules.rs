//! Which devices a group may use.
//!
//! A list names devices, and names stay while numbers are used again: so the bits that the store looks at are made anew whenever
//! a device comes or goes. A device that is attached later is allowed to groups without a list, and to those whose list names
//! it: that is, had it once, before it was taken off. Bits of numbers that nobody has are forbidden to a group with a list, so
//! there is no moment at which a new device is open to it.

use vswap_space::GroupId;
use vswap_units::PAGE_SIZE;

use super::error::{GroupError, invalid};
use super::named::Named;
use super::wanted::Wanted;
use crate::devices::DeviceNumber;
use crate::engine::Engine;
use crate::worker::Worker;
use crate::world::Passage;

/// What a group may do, as it was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rules {
    pub(super) writeback: bool,
    /// The devices it may use; none named: all.
    pub(super) devices: Vec<String>,
}

impl Engine {
    pub(super) fn rules_of(
        &self,
        wanted: &Wanted,
        now: Option<&Rules>,
    ) -> Result<Rules, GroupError> {
        let rules = Rules {
            writeback: wanted
                .writeback
                .unwrap_or_else(|| now.is_none_or(|rules| rules.writeback)),
            devices: match &wanted.devices {
                Some(devices) => devices.clone(),
                None => now.map_or_else(Vec::new, |rules| rules.devices.clone()),
            },
        };
        let known = self.device_names();
        let unknown = |name: &&String| !known.iter().any(|(_, known)| known == *name);
        match rules.devices.iter().find(unknown) {
            Some(name) if wanted.devices.is_some() => {
                Err(invalid(format!("'{name}' is no device of this space")))
            }
            _ => Ok(rules),
        }
    }

    /// Which devices there are, by number.
    fn device_names(&self) -> Vec<(DeviceNumber, String)> {
        let devices = self.layer.store().devices();
        devices
            .into_iter()
            .map(|info| (DeviceNumber::from(&info), info.name))
            .collect()
    }

    /// A device came or went: numbers are used again, names stay. **Context**: inside `world`.
    pub(crate) fn renew_group_devices(&self, named: &[Named], worker: &mut Worker) {
        for at in named {
            self.apply_rules(at.group, &at.rules);
        }
        self.part_guests_with(worker, || None);
    }

    /// Rules have changed: pages that groups may share no longer get bytes of their own. A fork and a check wait for one
    /// cluster, not for all. **Context**: no lock, outside `world`.
    pub(super) fn part_guests(&self) {
        if let Some(mut worker) = self.workers.of_caller() {
            self.part_guests_with(&mut worker, || Some(self.world.enter()));
        }
    }

    pub(super) fn part_guests_with<'a>(
        &self,
        worker: &mut Worker,
        enter: impl Fn() -> Option<Passage<'a>>,
    ) {
        let Some(layer) = self.layer.virtual_layer() else {
            return;
        };
        let (scratch, codec) = worker.parts();
        let Some(page) = scratch.slice_mut(0, PAGE_SIZE) else {
            return;
        };
        let (mut next, mut more) = (0, true);
        while more {
            let _inside = enter();
            more = layer.part_guests_step(&mut next, page, codec).is_some();
        }
    }

    pub(super) fn apply_rules(&self, group: GroupId, rules: &Rules) {
        let (mut devices, mut slots) = (0_u16, 0_u8);
        for (at, name) in self.device_names() {
            match (rules.devices.contains(&name), at.is_slots) {
                (false, _) => {}
                (true, false) => devices |= 1 << at.number,
                (true, true) => slots |= 1 << at.number,
            }
        }
        if rules.devices.is_empty() {
            // Those that are attached later too.
            (devices, slots) = (u16::MAX, u8::MAX);
        }
        let tree = self.layer.store().groups();
        tree.set_all_rules(group, rules.writeback, !devices, !slots);
    }
}
