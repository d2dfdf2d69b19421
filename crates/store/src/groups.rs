//! Who pays for segments: a tree of groups, their charges and their limits.
//!
//! A segment belongs to one group (its row of the segment table says which), so
//! charges are whole segments and everything that walks a group walks segments.
//! What is charged is what physically exists: segments in RAM, open ones too,
//! and places on devices until they are given back.
//!
//! Each group keeps what is its own and the total with its children. A charge
//! goes up the chain of parents, one addition per level and segment; a limit
//! that would be passed on the way undoes it. So a limit is never passed, but by
//! one segment that the cleaner copies into while it empties another.
//!
//! **Stable while**: a row's charges change under the lane's lock (opening) or
//! the table's (everything else). Limits and rules may change at any time; who
//! looks at them next obeys.

mod end;
mod set;

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Relaxed};

use bytemuck::Zeroable;
use vswap_platform::errno::Errno;
use vswap_platform::lazy::LazySlice;

pub(crate) use set::GroupSet;

/// Groups there can be at once, the root among them.
pub const MAX_GROUPS: usize = 256;
/// Levels of groups below the root.
pub const MAX_DEPTH: usize = 8;

/// A payer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(u16);

impl GroupId {
    /// The group everything belongs to unless told otherwise.
    pub const ROOT: Self = Self(0);

    /// The group of this number, if it can be one.
    #[must_use]
    pub const fn new(number: usize) -> Option<Self> {
        if number < MAX_GROUPS {
            Some(Self(number as u16))
        } else {
            None
        }
    }

    /// Its number, below [`MAX_GROUPS`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) const fn bits(self) -> u16 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

/// What a group is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Segments in RAM.
    Ram = 0,
    /// Segments with a place on a device.
    Device = 1,
}

/// What a group holds in the store and what it ran into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupUse {
    /// Its own segments in RAM.
    pub own_ram: u32,
    /// Those, and its children's.
    pub ram: u32,
    /// Its own segments on devices.
    pub own_device: u32,
    /// Those, and its children's.
    pub device: u32,
    /// Times its limit of RAM stopped a segment.
    pub ram_max_events: u64,
    /// Times its limit of devices stopped a segment.
    pub device_max_events: u64,
    /// Pages of its own that found no room under a limit.
    pub fail_events: u64,
}

/// A limit below what is in use: so many segments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse(pub u32);

/// Closer to its limit than this part of it, a group is cleaned by itself.
const NEAR_PART: u32 = 32;

const FREE: u16 = 0;
const OPEN: u16 = 1;
const CLOSING: u16 = 2;
const NO_WRITEBACK: u32 = 1 << 16;
/// Where the bits of forbidden slots devices begin.
const SLOTS_SHIFT: u32 = 24;

#[derive(Zeroable)]
#[repr(C)]
struct Row {
    state: AtomicU16,
    parent: AtomicU16,
    /// Devices it may not use, a bit each; above them [`NO_WRITEBACK`], then those for slots.
    rules: AtomicU32,
    own: [AtomicU32; 2],
    total: [AtomicU32; 2],
    /// The limits plus one; 0: none.
    most: [AtomicU32; 2],
    hits: [AtomicU64; 2],
    fails: AtomicU64,
    /// Its last try to open a segment was refused (0 or 1).
    refused: AtomicU32,
    pad: u32,
}

/// All groups of a store.
pub struct Groups {
    rows: LazySlice<Row>,
}

fn of<T>(pair: &[T; 2], what: Resource) -> &T {
    let [ram, device] = pair;
    match what {
        Resource::Ram => ram,
        Resource::Device => device,
    }
}

impl Row {
    fn is_used(&self) -> bool {
        self.state.load(Relaxed) != FREE
    }

    fn limit(&self, what: Resource) -> Option<u32> {
        of(&self.most, what).load(Relaxed).checked_sub(1)
    }

    fn try_add(&self, what: Resource, beyond: u32) -> bool {
        let limit = self.limit(what).map(|limit| limit.saturating_add(beyond));
        let more = |now: u32| match limit {
            Some(limit) if now >= limit => None,
            _ => now.checked_add(1),
        };
        of(&self.total, what)
            .fetch_update(AcqRel, Relaxed, more)
            .is_ok()
    }
}

impl Groups {
    pub(crate) fn new() -> Result<Self, Errno> {
        let rows: LazySlice<Row> = LazySlice::reserve(MAX_GROUPS, MAX_GROUPS)?;
        if let Some(root) = rows.get(0) {
            root.state.store(OPEN, Relaxed);
        }
        Ok(Self { rows })
    }

    fn row(&self, group: GroupId) -> Option<&Row> {
        self.rows.get(group.index())
    }

    /// Makes a group under `parent`, without limits. `None`: too many, too deep,
    /// or the parent is none.
    pub fn create(&self, parent: GroupId) -> Option<GroupId> {
        if !self.is_open(parent) || self.chain(parent).count() > MAX_DEPTH {
            return None;
        }
        (1..MAX_GROUPS).filter_map(GroupId::new).find(|&group| {
            let Some(row) = self.row(group) else {
                return false;
            };
            // Closing first: nobody takes it for open before it is whole.
            let mine = row.state.compare_exchange(FREE, CLOSING, AcqRel, Relaxed);
            if mine.is_ok() {
                row.begin(parent);
            }
            mine.is_ok()
        })
    }

    /// Is there such a group, and does it take new segments?
    #[must_use]
    pub fn is_open(&self, group: GroupId) -> bool {
        self.row(group)
            .is_some_and(|row| row.state.load(Relaxed) == OPEN)
    }

    /// Open groups but the root.
    pub fn all(&self) -> impl Iterator<Item = GroupId> + '_ {
        (1..MAX_GROUPS)
            .filter_map(GroupId::new)
            .filter(|&group| self.is_open(group))
    }

    /// The group above; `None` for the root.
    #[must_use]
    pub fn parent(&self, group: GroupId) -> Option<GroupId> {
        let row = self.row(group).filter(|_| group != GroupId::ROOT)?;
        Some(GroupId::from_bits(row.parent.load(Relaxed)))
    }

    /// The group, its parent, and so on up to the root.
    pub fn chain(&self, group: GroupId) -> impl Iterator<Item = GroupId> + '_ {
        core::iter::successors(Some(group), |&at| self.parent(at)).take(MAX_DEPTH + 2)
    }

    /// Is `group` this ancestor or below it?
    #[must_use]
    pub fn is_within(&self, group: GroupId, ancestor: GroupId) -> bool {
        ancestor == GroupId::ROOT || self.chain(group).any(|at| at == ancestor)
    }

    /// The group and everything below it.
    pub(crate) fn subtree(&self, top: GroupId) -> GroupSet {
        let mut set = GroupSet::default();
        set.insert(top);
        for group in self.all().filter(|&group| self.is_within(group, top)) {
            set.insert(group);
        }
        set
    }

    /// Charges one segment, up to `beyond` past the limits on the way. False,
    /// and nothing charged: a limit stands against it, or the group ends.
    pub(crate) fn charge(&self, group: GroupId, what: Resource, beyond: u32) -> bool {
        if !self.is_open(group) {
            return false;
        }
        for at in self.chain(group) {
            let row = self.row(at);
            if row.is_some_and(|row| row.try_add(what, beyond)) {
                continue;
            }
            self.undo(group, at, what);
            if let Some(row) = row {
                of(&row.hits, what).fetch_add(1, Relaxed);
            }
            return false;
        }
        if let Some(row) = self.row(group) {
            of(&row.own, what).fetch_add(1, Relaxed);
            if what == Resource::Ram {
                row.refused.store(0, Relaxed);
            }
        }
        true
    }

    /// Charges one segment whatever the limits say.
    pub(crate) fn charge_over(&self, group: GroupId, what: Resource) {
        if let Some(row) = self.row(group) {
            of(&row.own, what).fetch_add(1, Relaxed);
        }
        for row in self.chain(group).filter_map(|at| self.row(at)) {
            of(&row.total, what).fetch_add(1, AcqRel);
        }
    }

    /// Takes back what was charged below `until`.
    fn undo(&self, group: GroupId, until: GroupId, what: Resource) {
        for at in self.chain(group).take_while(|&at| at != until) {
            if let Some(row) = self.row(at) {
                of(&row.total, what).fetch_sub(1, AcqRel);
            }
        }
    }

    /// One segment less.
    pub(crate) fn uncharge(&self, group: GroupId, what: Resource) {
        if let Some(row) = self.row(group) {
            of(&row.own, what).fetch_sub(1, Relaxed);
        }
        for row in self.chain(group).filter_map(|at| self.row(at)) {
            of(&row.total, what).fetch_sub(1, AcqRel);
        }
    }

    /// A page of the group found no room because of a limit.
    pub(crate) fn note_fail(&self, group: GroupId) {
        if let Some(row) = self.row(group) {
            row.fails.fetch_add(1, Relaxed);
            row.refused.store(1, Relaxed);
        }
    }

    /// Did a page of the group find no room under a limit the last time a
    /// segment was to be opened, and does that limit still stand against it?
    #[must_use]
    pub fn refused_by(&self, group: GroupId) -> Option<GroupId> {
        let refused = self.row(group)?.refused.load(Relaxed) != 0;
        self.limiting(group, Resource::Ram).filter(|_| refused)
    }

    /// The lowest group of the chain whose limit leaves no room for one segment more.
    #[must_use]
    pub fn limiting(&self, group: GroupId, what: Resource) -> Option<GroupId> {
        self.chain(group).find(|&at| {
            self.row(at).is_some_and(|row| {
                let total = of(&row.total, what).load(Relaxed);
                row.limit(what).is_some_and(|limit| total >= limit)
            })
        })
    }

    /// Is less than a 32nd of the group's own limit left?
    pub(crate) fn is_near_limit(&self, group: GroupId, what: Resource) -> bool {
        self.row(group).is_some_and(|row| {
            let total = of(&row.total, what).load(Relaxed);
            row.limit(what)
                .is_some_and(|limit| total.saturating_add(limit / NEAR_PART) >= limit)
        })
    }

    /// Does a limit of some group leave no room for one segment more?
    #[must_use]
    pub fn any_at_limit(&self, what: Resource) -> bool {
        self.all().any(|group| self.limiting(group, what).is_some())
    }

    /// Sets a limit in segments.
    ///
    /// # Errors
    /// More is in use; nothing changed then.
    pub fn set_limit(
        &self,
        group: GroupId,
        what: Resource,
        limit: Option<u32>,
    ) -> Result<(), InUse> {
        let Some(row) = self.row(group) else {
            return Ok(());
        };
        let most = limit.map_or(0, |limit| limit.saturating_add(1));
        let before = of(&row.most, what).swap(most, AcqRel);
        // The limit first: what is charged from now on knows it.
        let total = of(&row.total, what).load(Relaxed);
        if limit.is_some_and(|limit| total > limit) {
            of(&row.most, what).store(before, Relaxed);
            return Err(InUse(total));
        }
        Ok(())
    }

    /// The limit in segments.
    #[must_use]
    pub fn limit(&self, group: GroupId, what: Resource) -> Option<u32> {
        self.row(group)?.limit(what)
    }

    /// Whether the group may use devices, and which of them it may not (a bit
    /// each); one that is kept off some uses no slots.
    pub fn set_rules(&self, group: GroupId, writeback: bool, forbidden_devices: u16) {
        let slots = if forbidden_devices == 0 { 0 } else { u8::MAX };
        self.set_all_rules(group, writeback, forbidden_devices, slots);
    }

    /// The same, and which of the devices for slots it may not use.
    pub fn set_all_rules(&self, group: GroupId, writeback: bool, devices: u16, slots: u8) {
        if let Some(row) = self.row(group) {
            let no = if writeback { 0 } else { NO_WRITEBACK };
            let slots = u32::from(slots) << SLOTS_SHIFT;
            row.rules.store(no | slots | u32::from(devices), Relaxed);
        }
    }

    /// The devices neither the group nor one above it may use, a bit each;
    /// `None`: it may use none at all.
    #[must_use]
    pub fn forbidden_devices(&self, group: GroupId) -> Option<u16> {
        self.rules(group).map(|rules| rules as u16)
    }

    /// The same of the devices for slots. `None` also under a limit of devices: slots are charged to nobody.
    #[must_use]
    pub fn forbidden_slots(&self, group: GroupId) -> Option<u8> {
        let is_limited = |at| self.limit(at, Resource::Device).is_some();
        let rules = self.rules(group)?;
        (!self.chain(group).any(is_limited)).then_some((rules >> SLOTS_SHIFT) as u8)
    }

    /// [`Groups::forbidden_devices`] of what lies in a group's segments, as it will be: of a
    /// group that ends they are about to be its parent's.
    #[must_use]
    pub fn forbidden_to_come(&self, group: GroupId) -> Option<u16> {
        let ends = |row: &Row| row.state.load(Relaxed) == CLOSING;
        let heir = match self.row(group).is_some_and(ends) {
            true => self.parent(group),
            false => None,
        };
        self.forbidden_devices(heir.unwrap_or(group))
    }

    fn rules(&self, group: GroupId) -> Option<u32> {
        let rules = self
            .chain(group)
            .filter_map(|at| self.row(at))
            .fold(0, |rules, row| rules | row.rules.load(Relaxed));
        (rules & NO_WRITEBACK == 0).then_some(rules)
    }

    /// Segments more that the limits on the way up leave to a group.
    pub(crate) fn left(&self, group: GroupId, what: Resource) -> u64 {
        let rows = self.chain(group).filter_map(|at| self.row(at));
        let left = rows.filter_map(|row| {
            let total = of(&row.total, what).load(Relaxed);
            row.limit(what)
                .map(|limit| u64::from(limit.saturating_sub(total)))
        });
        left.min().unwrap_or(u64::MAX)
    }

    /// What the group holds and what it ran into.
    #[must_use]
    pub fn usage(&self, group: GroupId) -> GroupUse {
        let Some(row) = self.row(group) else {
            return GroupUse::default();
        };
        let [own_ram, own_device] = row.own.each_ref().map(|count| count.load(Relaxed));
        let [ram, device] = row.total.each_ref().map(|count| count.load(Relaxed));
        let [ram_hits, device_hits] = row.hits.each_ref().map(|count| count.load(Relaxed));
        GroupUse {
            own_ram,
            ram,
            own_device,
            device,
            ram_max_events: ram_hits,
            device_max_events: device_hits,
            fail_events: row.fails.load(Relaxed),
        }
    }

    /// From now on the group takes no new segments. False: it has children, is
    /// the root, or is not open.
    pub(crate) fn begin_end(&self, group: GroupId) -> bool {
        let is_parent = self.all().any(|other| self.parent(other) == Some(group));
        let closing = |row: &Row| {
            row.state
                .compare_exchange(OPEN, CLOSING, AcqRel, Relaxed)
                .is_ok()
        };
        group != GroupId::ROOT && !is_parent && self.row(group).is_some_and(closing)
    }

    /// One segment of an ending group is its parent's from now on. The totals
    /// above stay as they are, so no limit is passed.
    pub(crate) fn hand_up(&self, group: GroupId, what: Resource) {
        let parent = self.parent(group).and_then(|parent| self.row(parent));
        if let (Some(row), Some(parent)) = (self.row(group), parent) {
            of(&row.own, what).fetch_sub(1, Relaxed);
            of(&row.total, what).fetch_sub(1, AcqRel);
            of(&parent.own, what).fetch_add(1, Relaxed);
        }
    }

    /// The group's number may be used again.
    pub(crate) fn finish_end(&self, group: GroupId) {
        if let Some(row) = self.row(group) {
            row.state.store(FREE, Relaxed);
        }
    }

    /// Sets every charge anew, in a forked child. `own`: segments of a group.
    pub(crate) fn recount(&self, own: impl Fn(GroupId, Resource) -> u32) {
        let groups = || (0..MAX_GROUPS).filter_map(GroupId::new);
        for what in [Resource::Ram, Resource::Device] {
            let rows = groups().filter_map(|group| self.row(group));
            for row in rows.filter(|row| row.is_used()) {
                of(&row.own, what).store(0, Relaxed);
                of(&row.total, what).store(0, Relaxed);
            }
            for group in groups() {
                let Some(row) = self.row(group).filter(|row| row.is_used()) else {
                    continue;
                };
                let count = own(group, what);
                of(&row.own, what).store(count, Relaxed);
                for row in self.chain(group).filter_map(|at| self.row(at)) {
                    of(&row.total, what).fetch_add(count, Relaxed);
                }
            }
        }
    }

    /// Memory of the table that was touched.
    pub(crate) fn touched_bytes(&self) -> usize {
        self.rows.touched_bytes()
    }
}

impl Row {
    /// Makes a free row that of a new group.
    fn begin(&self, parent: GroupId) {
        self.parent.store(parent.bits(), Relaxed);
        self.rules.store(0, Relaxed);
        self.refused.store(0, Relaxed);
        for count in self.own.iter().chain(&self.total).chain(&self.most) {
            count.store(0, Relaxed);
        }
        for count in self.hits.iter().chain(core::iter::once(&self.fails)) {
            count.store(0, Relaxed);
        }
        self.state.store(OPEN, Relaxed);
    }
}
