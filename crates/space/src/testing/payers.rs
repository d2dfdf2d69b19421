//! Groups that come and go in a life, and what they may.

use super::life::{Life, Tally};
use crate::{EntryId, GroupId, OnDevice, Parted};
use vswap_store::{GroupUse, Resource};
use vswap_units::{Bytes, PAGE_SIZE};

/// Segments in RAM by which a limit may be passed while the cleaner empties another one.
const CLEANER_BEYOND: u32 = 1;

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

    pub(super) fn end_group(&mut self, group: GroupId) {
        let groups = self.layer.store().groups();
        let is_leaf =
            group != GroupId::ROOT && groups.all().all(|it| groups.parent(it) != Some(group));
        let in_use = self
            .oracle
            .entries
            .keys()
            .any(|entry| self.payers.get(entry) == Some(&group));
        let mut page = vec![0; PAGE_SIZE];
        let ended = self.layer.end_group(group, &mut page, &mut self.workspace);
        assert_eq!(ended.is_ok(), is_leaf && !in_use, "the end of {group:?}");
        if let Ok(parted) = ended {
            self.groups.retain(|&it| it != group);
            self.fails.remove(&group);
            self.note_parted(parted);
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
        let slots = (rules >> 4) as u8 & 7;
        groups.set_all_rules(
            group,
            rules.is_multiple_of(2),
            (rules >> 1) as u16 & 7,
            slots,
        );
        let mut page = vec![0; PAGE_SIZE];
        let parted = self.layer.part_guests(&mut page, &mut self.workspace);
        self.note_parted(parted);
    }

    fn note_parted(&mut self, parted: Parted) {
        self.guests_left = parted.left > 0;
        self.tally.parted += parted.pages;
        self.count_fails_anew();
    }

    /// Writes back what belongs to a group, and nothing else.
    pub(super) fn drain(&mut self) {
        let (group, most) = (self.group(), 1 + self.script.number() % 4);
        let store = self.layer.store();
        let before = store.groups().usage(group);
        let written = (0..most)
            .take_while(|_| matches!(store.writeback_group(group, Bytes(0), true), Ok(Some(_))))
            .count();
        let after = store.groups().usage(group);
        assert!(
            before.ram >= after.ram + written as u32,
            "{written} of {group:?} went: {before:?} {after:?}"
        );
        self.tally.written += written as u64;
    }

    /// May what a group pays for be on that device?
    pub(super) fn may_be_on(&self, group: GroupId, on: OnDevice) -> bool {
        let groups = self.layer.store().groups();
        match on {
            OnDevice::Segments(number) => groups
                .forbidden_devices(group)
                .is_some_and(|forbidden| forbidden >> number & 1 == 0),
            OnDevice::Slots(number) => groups
                .forbidden_slots(group)
                .is_some_and(|forbidden| forbidden >> number & 1 == 0),
        }
    }

    /// A page found no room: where a limit stands against it, that is counted.
    pub(super) fn note_refused(&mut self, entry: EntryId) {
        let group = self.layer.group_of(entry);
        let groups = self.layer.store().groups();
        if self.oracle.is_live(entry) && groups.limiting(group, Resource::Ram).is_some() {
            *self.fails.entry(group).or_default() += 1;
        }
    }

    /// Pages that found no room under a limit while they were moved are counted too, and are where they were.
    pub(super) fn count_fails_anew(&mut self) {
        let groups = self.layer.store().groups();
        for &group in self.groups.iter().chain(&[GroupId::ROOT]) {
            self.fails.insert(group, groups.usage(group).fail_events);
        }
    }

    /// Charges add up, limits hold, and no more failures are told than there were.
    pub(super) fn compare_charges(&self) {
        let groups = self.layer.store().groups();
        for &group in self.groups.iter().chain(&[GroupId::ROOT]) {
            let charge = groups.usage(group);
            let below = self
                .groups
                .iter()
                .filter(|&&it| groups.parent(it) == Some(group));
            let below: Vec<GroupUse> = below.map(|&it| groups.usage(it)).collect();
            let sums = below
                .iter()
                .fold((charge.own_ram, charge.own_device), |(ram, device), it| {
                    (ram + it.ram, device + it.device)
                });
            assert_eq!(sums, (charge.ram, charge.device), "{group:?} {charge:?}");
            let passed = |what, held, beyond| {
                let most = groups.limit(group, what);
                most.is_some_and(|most| held > most + beyond)
            };
            assert!(!passed(Resource::Ram, charge.ram, CLEANER_BEYOND));
            assert!(!passed(Resource::Device, charge.device, 0));
            let fails = self.fails.get(&group).copied().unwrap_or_default();
            assert_eq!(charge.fail_events, fails, "{group:?} {charge:?}");
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
            slotted: self.slotted + other.slotted,
            migrated: self.migrated + other.migrated,
            kept: self.kept + other.kept,
            parted: self.parted + other.parted,
        }
    }
}
