//! The groups of a space by name, and what the program asks of them.
//!
//! Names are told apart among the children of one group; from outside a group is
//! found by its path, such as `web/cache`. A key names a group for good: the
//! number behind it may be used again, the key is not.

use std::sync::atomic::Ordering::Relaxed;

use vswap_platform::sync::SignalBlock;
use vswap_space::GroupId;
use vswap_store::{Resource, SEGMENT_BYTES};
use vswap_units::{BLOCK_PAGES, Bytes};

use super::error::{GroupError, invalid};
use super::rules::Rules;
use super::wanted::{Wanted, check_name};
use crate::allocate::AllocKind;
use crate::engine::Engine;
use crate::service::Request;
use crate::victims::Victims;

const SEGMENT: u64 = SEGMENT_BYTES as u64;
/// What one request to the engine's thread moves: others wait for it meanwhile.
const DRAIN_STEP: u64 = 1 << 20;

/// Names one group of an engine for good; 0 is the root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupKey(pub u32);

/// A group with a name.
#[derive(Clone, Debug)]
pub struct Named {
    pub(super) group: GroupId,
    pub(super) key: u32,
    pub(super) parent: u32,
    pub(super) name: String,
    pub(super) rules: Rules,
}

impl Engine {
    /// The group of the configuration: everything is in it, and groups that the
    /// program makes are below it.
    pub(crate) fn make_usual_group(&self) -> Result<(), GroupError> {
        let Some((name, limits)) = &self.config().group else {
            return Ok(());
        };
        let key = self.create_group(GroupKey(0), name, limits)?;
        self.groups.set_usual(key);
        Ok(())
    }

    /// Makes a group below another one. The range is registered from then on, so
    /// that what a group holds is counted from its first page.
    ///
    /// # Errors
    /// A sentence; no group was made.
    pub fn create_group(
        &self,
        parent: GroupKey,
        name: &str,
        limits: &str,
    ) -> Result<GroupKey, GroupError> {
        check_name(name)?;
        let wanted = Wanted::from_text(limits)?;
        if self.layer.is_direct() {
            return Err(invalid(
                "this space has no virtual layer, where pages are charged to groups".into(),
            ));
        }
        let parent = match parent.0 {
            0 => self.groups.usual(),
            _ => parent,
        };
        let _signals = SignalBlock::enter();
        let mut named = self.groups.named.lock();
        let above = find(&named, parent)?;
        if named
            .iter()
            .any(|other| other.parent == parent.0 && other.name == name)
        {
            return Err(GroupError::Exists(name.into()));
        }
        let rules = self.rules_of(&wanted, None)?;
        if self.make_armed().is_err() {
            return Err(invalid(
                "groups need a userfaultfd, and none could be had".into(),
            ));
        }
        let tree = self.layer.store().groups();
        let group = tree.create(above).ok_or(GroupError::TooMany)?;
        let queue = || Victims::new(self.region.pages() / BLOCK_PAGES, self.victims.policy());
        if self.groups.begin(group, queue).is_err() {
            self.layer.store().end_group(group);
            return Err(GroupError::TooMany);
        }
        let generation = self.groups.next_generation();
        let key = generation << 16 | group.index() as u32;
        // A new group holds nothing, so no limit is below its use.
        let _ = self.set_limits(group, &wanted);
        self.apply_rules(group, &rules);
        if let Some(row) = self.groups.row(group) {
            row.key.store(key, Relaxed);
        }
        self.counters.groups.set(named.len() as u64 + 1);
        named.push(Named {
            group,
            key,
            parent: parent.0,
            name: name.into(),
            rules,
        });
        Ok(GroupKey(key))
    }

    /// Changes limits and rules: all that are named, or none.
    ///
    /// # Errors
    /// A sentence; nothing was changed.
    pub fn set_group(&self, key: GroupKey, limits: &str) -> Result<(), GroupError> {
        let wanted = Wanted::from_text(limits)?;
        if key.0 == 0 {
            return Err(invalid(
                "the whole space has a budget and no other limits; name a group of it".into(),
            ));
        }
        let _signals = SignalBlock::enter();
        let mut named = self.groups.named.lock();
        let at = named.iter_mut().find(|other| other.key == key.0);
        let at = at.ok_or(GroupError::Unknown)?;
        let rules = self.rules_of(&wanted, Some(&at.rules))?;
        self.set_limits(at.group, &wanted)?;
        self.apply_rules(at.group, &rules);
        at.rules = rules;
        drop(named);
        self.part_guests();
        self.reclaim_event.signal();
        self.write_event.signal();
        Ok(())
    }

    fn set_limits(&self, group: GroupId, wanted: &Wanted) -> Result<(), GroupError> {
        let tree = self.layer.store().groups();
        let held = self.group_ram(group);
        if let Some(Some(ram)) = wanted.ram
            && ram < held
        {
            return Err(below_use("ram_max", ram, held));
        }
        let segments = |bytes: u64| u32::try_from(bytes / SEGMENT).unwrap_or(u32::MAX - 1);
        let before = tree.limit(group, Resource::Ram);
        if let Some(zswap) = wanted.zswap {
            tree.set_limit(group, Resource::Ram, zswap.map(segments))
                .map_err(|used| below_use("zswap_max", zswap.unwrap_or(0), in_bytes(used.0)))?;
        }
        if let Some(swap) = wanted.swap {
            tree.set_limit(group, Resource::Device, swap.map(segments))
                .map_err(|used| {
                    let _ = tree.set_limit(group, Resource::Ram, before);
                    below_use("swap_max", swap.unwrap_or(0), in_bytes(used.0))
                })?;
        }
        if let (Some(ram), Some(row)) = (wanted.ram, self.groups.row(group)) {
            row.ram_max.store(ram.unwrap_or(0), Relaxed);
            row.full.store(0, Relaxed);
        }
        Ok(())
    }

    /// Moves bytes of a group and those below it out of compressed RAM to a
    /// device; where it may not use one, resident pages to compressed RAM. Returns
    /// how many were moved, which may be fewer.
    ///
    /// # Errors
    /// There is no such group.
    pub fn drain_group(&self, key: GroupKey, bytes: u64) -> Result<u64, GroupError> {
        let group = find(&self.groups.lock_names(), key)?;
        let mut moved = 0;
        while moved < bytes {
            let most = (bytes - moved).min(DRAIN_STEP);
            match self.ask(Request::Drain { group, most }) {
                0 => break,
                step => moved += step,
            }
        }
        Ok(moved)
    }

    /// A block at the cost of the group that a key names; `None` also when it has ended.
    pub fn allocate_in(
        &self,
        key: GroupKey,
        bytes: usize,
        align: usize,
        kind: AllocKind,
    ) -> Option<usize> {
        self.allocate_for(self.groups.by_key(key)?, bytes, align, kind)
    }

    /// Does the group that a key names take new blocks?
    pub fn takes_blocks(&self, key: GroupKey) -> bool {
        self.groups
            .by_key(key)
            .is_some_and(|group| !self.groups.is_ending(group))
    }

    /// The group of a path such as `web/cache`; `/`: the whole space.
    ///
    /// # Errors
    /// There is none.
    pub fn group_of_path(&self, path: &str) -> Result<GroupKey, GroupError> {
        if path == "/" {
            return Ok(GroupKey(0));
        }
        let named = self.groups.lock_names();
        path.split('/')
            .try_fold(0, |parent, name| {
                let child = |other: &&Named| other.parent == parent && other.name == name;
                named.iter().find(child).map(|found| found.key)
            })
            .map(GroupKey)
            .ok_or_else(|| invalid(format!("'{path}' is no group of this space")))
    }
}

pub(super) fn find(named: &[Named], key: GroupKey) -> Result<GroupId, GroupError> {
    if key.0 == 0 {
        return Ok(GroupId::ROOT);
    }
    let found = named.iter().find(|other| other.key == key.0);
    found.map(|found| found.group).ok_or(GroupError::Unknown)
}

fn below_use(what: &str, limit: u64, held: u64) -> GroupError {
    invalid(format!(
        "{what} of {} is below what the group holds now, {}; drain or free some first",
        Bytes(limit),
        Bytes(held)
    ))
}

const fn in_bytes(segments: u32) -> u64 {
    segments as u64 * SEGMENT
}
