//! Pages that groups came to share while they had the same rules, and may share no longer: each gets bytes of its own again.
//!
//! A shared object lies in a segment of one group, and goes where that group may: for others it is a guest's. That group is the
//! one that pays, unless the object could not follow when the payer changed; it need not have a sharer left. So when rules
//! change, or a group ends and its segments become its parent's, a guest's bytes could come to devices that it may not use.
//! Whoever does that lets guests be parted: a page is read, and swapped out anew at the cost of its own group. What finds no
//! room stays a guest until rules change again; what is on a device already is not called back, as with any other change of
//! rules. Whoever becomes a guest meanwhile looks once more (`dedup`): with a fence on both sides, one of the two sees the other.

use core::sync::atomic::{Ordering::SeqCst, fence};

use crate::dedup::Dedup;
use crate::descriptor::Backing;
use crate::entry::{CLUSTER_ENTRIES, EntryId};
use crate::layer::SwapLayer;
use crate::shared::SharedId;
use vswap_store::Workspace;

/// What became of guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parted {
    /// Have bytes of their own now.
    pub pages: u64,
    /// Found no room, or could not be read: they stay.
    pub left: u64,
}

impl SwapLayer {
    /// Parts the guests of one cluster of entries, the first from `next` on that has any in use, and moves `next` behind it.
    /// `None`: there is none. `page` is a buffer of one page, and the workspace knows the codecs. **Context**: no pin is
    /// held; waits for I/O.
    pub fn part_guests_step(
        &self,
        next: &mut usize,
        page: &mut [u8],
        workspace: &mut Workspace,
    ) -> Option<Parted> {
        let sharing = self.sharing.as_ref()?;
        if sharing.scope() != Dedup::Space {
            return None;
        }
        // After the change of rules, before the look at who is one: see above.
        fence(SeqCst);
        let from = *next;
        let cluster = self.allocator.inhabited().find(|&at| at >= from)?;
        *next = cluster + 1;
        let mut parted = Parted::default();
        let entries = (0..CLUSTER_ENTRIES).filter_map(|at| EntryId::from_parts(cluster, at));
        for entry in entries.filter(|&entry| self.is_guest(entry)) {
            match self.part(entry, page, workspace) {
                Some(true) => parted.pages += 1,
                Some(false) => parted.left += 1,
                None => {}
            }
        }
        Some(parted)
    }

    /// Parts all guests at once. **Context**: as [`SwapLayer::part_guests_step`].
    pub fn part_guests(&self, page: &mut [u8], workspace: &mut Workspace) -> Parted {
        let (mut next, mut sum) = (0, Parted::default());
        while let Some(parted) = self.part_guests_step(&mut next, page, workspace) {
            sum.pages += parted.pages;
            sum.left += parted.left;
        }
        sum
    }

    /// Does its page lie with a group that may use other devices? A look without the pin.
    fn is_guest(&self, entry: EntryId) -> bool {
        match self.hint(entry) {
            Backing::Shared(id) => self.is_guest_at(entry, id),
            _ => false,
        }
    }

    /// Does this object lie with a group that may use other devices than the entry's?
    pub(crate) fn is_guest_at(&self, entry: EntryId, id: SharedId) -> bool {
        let host = self.shared_place(id).and_then(|at| self.store.group_of(at));
        host.is_some_and(|host| !self.may_share(Dedup::Space, self.group_of(entry), host))
    }

    /// `None`: it is no guest any more.
    fn part(&self, entry: EntryId, page: &mut [u8], workspace: &mut Workspace) -> Option<bool> {
        let mut pin = self.pin(entry)?;
        if !self.is_guest(entry) {
            return None;
        }
        let read = pin.swap_in(page, workspace);
        Some(read.is_ok() && pin.swap_out(page, workspace).is_ok())
    }
}
