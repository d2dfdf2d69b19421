//! Deduplication: entries with equal pages stand for one object.
//!
//! The step of swap-out between "one repeated word" and "compress": the page's fingerprint leads to at most one candidate, an
//! entry or an object that is shared already. The candidate's stored bytes are decoded and compared with the page, all of
//! them, while the candidate cannot change: an entry is pinned (by trying, never by waiting, since our own entry is pinned
//! already), a shared object has us as a tentative sharer. Only then is it shared. So neither the fingerprint nor the index
//! can make two different pages one; they can only miss. A candidate on a device is left alone: it is not worth I/O.
//!
//! The first time, the candidate's object is copied for a new owner (`shared`) instead of changing the owner in place, because
//! a writer or the cleaner may be reading those very bytes. A page with many duplicates is copied once.
//!
//! Whether looking pays is decided in `vswap_store::dedup::Policy`.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst, fence};

use crate::descriptor::Word;
use crate::entry::EntryId;
use crate::layer::SwapLayer;
use crate::pin::Pin;
use crate::shared::{Left, SharedId, SharedTable};
use crate::swap::{SwapInError, SwapOut};
use crate::transition::Step;
use vswap_platform::errno::Errno;
use vswap_store::dedup::{Fingerprint, Index, Policy, fingerprint};
use vswap_store::{GroupId, Stored, Workspace};

/// Pages entered in the index between two looks at how large it should be.
const GROWTH_LOOK: usize = 512;

/// Who may share an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Dedup {
    /// Nobody: nothing is looked for.
    Off,
    /// Entries of one group.
    #[default]
    Group,
    /// All entries. A group can then learn by timing what another one holds, and the first to come pays.
    Space,
}

impl Dedup {
    /// The word it is asked for with.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Group => "group",
            Self::Space => "space",
        }
    }

    /// The scope of that word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Off, Self::Group, Self::Space]
            .into_iter()
            .find(|scope| scope.name() == name)
    }
}

/// How a layer looks for duplicates.
#[derive(Clone, Copy, Debug)]
pub struct DedupOptions {
    /// Who may share.
    pub scope: Dedup,
    /// Pages the index remembers, at 8 bytes each.
    pub index_pages: usize,
    /// What leads to candidates; any function will do.
    pub fingerprint: Fingerprint,
}

impl DedupOptions {
    /// The usual fingerprint.
    #[must_use]
    pub const fn new(scope: Dedup, index_pages: usize) -> Self {
        Self {
            scope,
            index_pages,
            fingerprint,
        }
    }
}

/// What a layer that deduplicates has besides.
pub(crate) struct Sharing {
    options: DedupOptions,
    pub(crate) index: Index,
    policy: Policy,
    /// Pages entered in the index so far.
    remembered: AtomicUsize,
    pub(crate) table: SharedTable,
}

impl Sharing {
    /// `None` for scope `Off`.
    pub(crate) fn new(options: DedupOptions, most_objects: usize) -> Result<Option<Self>, Errno> {
        if options.scope == Dedup::Off {
            return Ok(None);
        }
        let index = Index::new(options.index_pages)?;
        Ok(Some(Self {
            policy: Policy::new(index.capacity()),
            remembered: AtomicUsize::new(0),
            index,
            table: SharedTable::new(most_objects)?,
            options,
        }))
    }

    pub(crate) const fn scope(&self) -> Dedup {
        self.options.scope
    }

    /// Bytes of memory the index and the table of shared objects hold.
    pub(crate) fn touched_bytes(&self) -> usize {
        self.index.touched_bytes() + self.table.touched_bytes()
    }
}

impl SwapLayer {
    /// Whether a page of group `asking` may become one with an object that lies with `host`. Across groups only if both may
    /// rest on the same devices, so that a group whose bytes stay off a device finds none of them there.
    pub(crate) fn may_share(&self, scope: Dedup, asking: GroupId, host: GroupId) -> bool {
        let groups = self.store.groups();
        match scope {
            Dedup::Off => false,
            _ if asking == host => true,
            Dedup::Group => false,
            Dedup::Space => groups.forbidden_devices(asking) == groups.forbidden_to_come(host),
        }
    }

    /// Keeps those apart in the index who may not share anyway, so that they do not forget each other's pages.
    fn salt(&self, sharing: &Sharing, entry: EntryId) -> u64 {
        let group = self.group_of(entry);
        let apart = match sharing.options.scope {
            Dedup::Off | Dedup::Group => group.index() as u64,
            Dedup::Space => self
                .store
                .groups()
                .forbidden_devices(group)
                .map_or(1 << 16, u64::from),
        };
        apart.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Where a shared object is: a hint.
    pub(crate) fn shared_place(&self, id: SharedId) -> Option<Stored> {
        self.sharing.as_ref()?.table.place(id)
    }

    /// Where a shared object is; it stays there until [`SwapLayer::exit_shared`]. The caller has a sharer pinned.
    pub(crate) fn enter_shared(&self, id: SharedId) -> Option<Stored> {
        self.sharing.as_ref()?.table.enter(id)
    }

    pub(crate) fn exit_shared(&self, id: SharedId) {
        if let Some(sharing) = &self.sharing {
            sharing.table.exit(id);
        }
    }

    /// A sharer leaves; the last one takes the object along. If its group paid and has no other, the next one pays.
    pub(crate) fn leave_shared(&self, id: SharedId, group: GroupId) {
        let Some(sharing) = &self.sharing else { return };
        let mut left = sharing.table.leave(id, group);
        while let Left::PayerIs { next, object } = left {
            self.move_charge(sharing, id, object, next);
            left = sharing.table.leave(id, next);
        }
        debug_assert_ne!(
            left,
            Left::Never,
            "an entry stood for an object it has no part in"
        );
        let tally = &self.worker().tally;
        tally.unshared.add(1);
        match left {
            Left::Last { object } => {
                self.store.free(object);
                tally.unstored.add(1);
                tally.unstored_bytes.add(u64::from(object.stored_bytes));
                tally.unshared_objects.add(1);
            }
            Left::Stays { bytes } => tally.unsaved_bytes.add(u64::from(bytes)),
            Left::PayerIs { .. } | Left::Never => {}
        }
    }

    /// The object goes to a segment of the group that pays from now on, for whole segments are charged. The caller is one of
    /// its sharers. Where it cannot be done at once (the object is on a device, or being read, or the group has no room) it
    /// stays a guest where it is.
    fn move_charge(&self, sharing: &Sharing, id: SharedId, object: Stored, payer: GroupId) {
        let mut copy = None;
        let mut place = || {
            copy = self.store.append_for_payer(object, id.owner(), payer);
            copy.map(|copy| copy.location)
        };
        // The caller holds a pin, so no fork and no check waits at the gate for us not to come.
        let moved = sharing
            .table
            .relocate(id, object.location, &mut place, || true);
        match copy {
            Some(_) if moved => self.store.free(object),
            Some(unused) => self.store.free(unused),
            None => {}
        }
    }
}

impl Pin<'_> {
    /// The fingerprint of a page worth looking for. `None`: it is not to be looked for.
    pub(crate) fn look(&self, page: &[u8]) -> Option<u64> {
        let sharing = self.layer.sharing.as_ref()?;
        let print = (sharing.options.fingerprint)(page) ^ self.layer.salt(sharing, self.entry);
        sharing.policy.admits(print).then_some(print)
    }

    /// Makes the entry stand for an object with the same bytes, if one is found.
    pub(crate) fn share(
        &mut self,
        print: u64,
        page: &[u8],
        workspace: &mut Workspace,
    ) -> Option<SwapOut> {
        let sharing = self.layer.sharing.as_ref()?;
        let owner = sharing.index.find(print)?;
        if !sharing.policy.can_afford() {
            return None;
        }
        let id = match SharedId::of_owner(owner) {
            Some(id) => self.join(sharing, id, page, workspace)?,
            None => {
                let id = self.share_with(sharing, EntryId::new(owner)?, page, workspace)?;
                sharing.index.remember(print, id.owner());
                id
            }
        };
        let shared = self.become_shared(id)?;
        if self.is_late_guest(sharing, id) {
            let group = self.layer.group_of(self.entry);
            return Some(
                self.swap_out_to_log(group, page, workspace)
                    .unwrap_or(shared),
            );
        }
        Some(shared)
    }

    /// From now on the page with this fingerprint is looked for here.
    pub(crate) fn remember(&self, print: u64) {
        let Some(sharing) = &self.layer.sharing else {
            return;
        };
        sharing.index.remember(print, self.entry.get());
        let remembered = sharing.remembered.load(Relaxed) + 1;
        sharing.remembered.store(remembered, Relaxed);
        if remembered.is_multiple_of(GROWTH_LOOK) {
            let sums = self.layer.sums();
            let stored = sums.stored.saturating_sub(sums.unstored) as usize;
            sharing
                .index
                .grow_to(sharing.policy.worth_remembering(stored));
        }
    }

    /// Joins those who share an object, if its bytes are the page's.
    fn join(
        &self,
        sharing: &Sharing,
        id: SharedId,
        page: &[u8],
        workspace: &mut Workspace,
    ) -> Option<SharedId> {
        let (layer, scope) = (self.layer, sharing.options.scope);
        let group = layer.group_of(self.entry);
        let table = &sharing.table;
        let may = |at| {
            let host = layer.store.group_of(at);
            host.is_some_and(|host| layer.may_share(scope, group, host))
        };
        let at = table.join(id, group, may)?;
        // Counted from here on, so that leaving again finds it counted.
        layer.worker().tally.shared.add(1);
        layer
            .worker()
            .tally
            .saved_bytes
            .add(u64::from(at.stored_bytes));
        let store = &layer.store;
        let worth = store.is_worth_sharing(at);
        let equal = worth && store.holds_page(at, id.owner(), page, workspace);
        table.exit(id);
        if worth {
            self.note_compared(sharing, equal);
        }
        if !equal {
            layer.leave_shared(id, group);
        }
        equal.then_some(id)
    }

    /// Makes a shared object of another entry's, if its bytes are the page's. Our entry is its second sharer.
    fn share_with(
        &self,
        sharing: &Sharing,
        other: EntryId,
        page: &[u8],
        workspace: &mut Workspace,
    ) -> Option<SharedId> {
        let (layer, store) = (self.layer, &self.layer.store);
        let (ours, its) = (layer.group_of(self.entry), layer.group_of(other));
        if other == self.entry || !layer.may_share(sharing.options.scope, ours, its) {
            return None;
        }
        let mut pin = layer.try_pin(other)?;
        let at = pin.word.object().filter(|&at| store.is_worth_sharing(at))?;
        let equal = store.holds_page(at, other.get(), page, workspace);
        self.note_compared(sharing, equal);
        if !equal {
            return None;
        }
        let id = sharing.table.reserve()?;
        let copy = store.append_copy(at, other.get(), its, id.owner(), workspace);
        let Ok(copy) = copy else {
            sharing.table.give_back(id);
            return None;
        };
        if !pin.apply(Step::SwapOutShared(id)) {
            store.free(copy);
            sharing.table.give_back(id);
            return None;
        }
        sharing.table.publish(id, copy, its, ours);
        // What was charged for the entry's object is charged for its copy now.
        store.free(at);
        let tally = &layer.worker().tally;
        tally.shared.add(2);
        tally.shared_objects.add(1);
        tally.saved_bytes.add(u64::from(copy.stored_bytes));
        Some(id)
    }

    fn note_compared(&self, sharing: &Sharing, equal: bool) {
        if equal {
            sharing.policy.note_found();
        } else {
            sharing.policy.note_different();
            self.layer.worker().tally.dedup_different.add(1);
        }
    }

    /// The entry is a sharer of the object already; now its descriptor says so.
    fn become_shared(&mut self, id: SharedId) -> Option<SwapOut> {
        let former = self.word;
        if !self.apply(Step::SwapOutShared(id)) {
            self.layer.leave_shared(id, self.layer.group_of(self.entry));
            return None;
        }
        self.layer.worker().tally.dedup_hits.add(1);
        self.layer.give_up(self.entry, former);
        Some(SwapOut::Shared)
    }

    /// Has the entry become a guest because rules changed since the object was found? Whoever parts guests may have passed it
    /// before it was one.
    fn is_late_guest(&self, sharing: &Sharing, id: SharedId) -> bool {
        if sharing.scope() != Dedup::Space {
            return false;
        }
        fence(SeqCst);
        self.layer.is_guest_at(self.entry, id)
    }

    /// Reads the page of a shared object.
    pub(crate) fn swap_in_shared(
        &mut self,
        id: SharedId,
        out: &mut [u8],
        workspace: &mut Workspace,
    ) -> Result<(), SwapInError> {
        let at = self.layer.enter_shared(id).ok_or(SwapInError::Empty)?;
        let read = self.layer.store.read(at, id.owner(), out, workspace);
        let read = self.read_again(read, at, id.owner(), out, workspace);
        self.layer.exit_shared(id);
        self.settle(read)
    }
}

/// The owner word of the object a descriptor names.
pub(crate) fn owner_word(entry: EntryId, word: Word) -> u64 {
    word.shared().map_or(entry.get(), SharedId::owner)
}
