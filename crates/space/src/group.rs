//! Who pays: groups of entries, and what they are charged.
//!
//! The store keeps the tree, the charges of segments and the limits. This floor adds entries: a cluster belongs to one group.

use crate::layer::SwapLayer;
use crate::parting::Parted;
use core::fmt;
use vswap_store::{GroupId, GroupUse, SEGMENT_BYTES, Workspace};

/// What a group is charged for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Entries in use of its own.
    pub entries: u64,
    /// Those, and its children's.
    pub all_entries: u64,
    /// Its segments, and what it ran into.
    pub store: GroupUse,
}

impl Charge {
    /// RAM of compressed pages, of the group and those below it, in bytes.
    #[must_use]
    pub const fn compressed_bytes(&self) -> u64 {
        self.store.ram as u64 * SEGMENT_BYTES as u64
    }

    /// Space on devices, of the group and those below it, in bytes.
    #[must_use]
    pub const fn device_bytes(&self) -> u64 {
        self.store.device as u64 * SEGMENT_BYTES as u64
    }
}

/// Why a group cannot end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StillInUse {
    /// So many entries of it are.
    Entries(u64),
    /// It has children, is the root, or there is no such group.
    NotALeaf,
}

impl fmt::Display for StillInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries(1) => f.write_str("1 swapped page of the group is still in use"),
            Self::Entries(n) => write!(f, "{n} swapped pages of the group are still in use"),
            Self::NotALeaf => f.write_str("it is not a group without children"),
        }
    }
}

impl core::error::Error for StillInUse {}

impl SwapLayer {
    /// What a group is charged for. `None` if there is no such group.
    #[must_use]
    pub fn charge(&self, group: GroupId) -> Option<Charge> {
        let groups = self.store.groups();
        groups.is_open(group).then(|| Charge {
            entries: self.own_entries(group),
            all_entries: self.all_entries(group),
            store: groups.usage(group),
        })
    }

    fn own_entries(&self, group: GroupId) -> u64 {
        match group {
            GroupId::ROOT => {
                let others = self.store.groups().all();
                let others: u64 = others.map(|other| self.allocator.entries_of(other)).sum();
                self.sums().entries_now().saturating_sub(others)
            }
            _ => self.allocator.entries_of(group),
        }
    }

    fn all_entries(&self, top: GroupId) -> u64 {
        if top == GroupId::ROOT {
            return self.sums().entries_now();
        }
        let groups = self.store.groups();
        let below = groups.all().filter(|&group| groups.is_within(group, top));
        below.map(|group| self.allocator.entries_of(group)).sum()
    }

    /// Ends a group none of whose entries is in use. What the store still holds in its name is its parent's from then on, and
    /// its number may be used again. Guests in it that may not go where the parent may are parted before. **Context**: nobody
    /// allocates for it, makes a group or ends one meanwhile; otherwise as [`SwapLayer::part_guests_step`].
    ///
    /// # Errors
    /// Why it cannot end; nothing changed then.
    pub fn end_group(
        &self,
        group: GroupId,
        page: &mut [u8],
        workspace: &mut Workspace,
    ) -> Result<Parted, StillInUse> {
        self.begin_end(group)?;
        let parted = self.part_guests(page, workspace);
        self.finish_end(group);
        Ok(parted)
    }

    /// The first step of [`SwapLayer::end_group`], for whoever parts the guests himself: nobody becomes one any more.
    ///
    /// # Errors
    /// As there.
    pub fn begin_end(&self, group: GroupId) -> Result<(), StillInUse> {
        let entries = self.allocator.entries_of(group);
        if entries != 0 {
            return Err(StillInUse::Entries(entries));
        }
        self.allocator.trim_group(group, &self.workers, &self.table);
        match self.store.begin_end(group) {
            true => Ok(()),
            false => Err(StillInUse::NotALeaf),
        }
    }

    /// The last step of [`SwapLayer::end_group`].
    pub fn finish_end(&self, group: GroupId) {
        self.store.finish_end(group);
    }
}
