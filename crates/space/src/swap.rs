//! Swap-out and swap-in of a pinned entry.
//!
//! Swap-out order: still needed? → one repeated word? → a page we have already? → compress and append to the log. Whatever
//! fails leaves the entry as it was. Swap-in leaves the backing where it is; it goes when the entry is freed.
//!
//! With a slots device on, what does not compress, or finds no room in the log, goes to a plain slot: it is out of RAM at once,
//! takes 4 KiB there as it would in a segment, and no cleaner ever has to copy it. Without one, and when the device is full or
//! fails, the log takes it as it is.

use crate::descriptor::{Backing, Word};
use crate::entry::EntryId;
use crate::layer::SwapLayer;
use crate::pin::Pin;
use crate::same;
use crate::transition::Step;
use core::fmt;
use vswap_platform::errno::Errno;
use vswap_store::{GroupId, Slot, StoreError, Stored, Workspace};
use vswap_units::PAGE_SIZE;

/// What became of a page that was swapped out. Its frame is the caller's again in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapOut {
    /// It repeats one word, which the descriptor keeps.
    Same,
    /// It is an object of so many bytes (4096: it did not compress).
    Stored {
        /// Bytes of the object, its header apart.
        bytes: u16,
    },
    /// It is in a plain slot, as it is.
    Slot,
    /// Another entry has the same page: they share one object.
    Shared,
    /// Nobody needed it any more: the entry is gone.
    Unneeded,
}

/// What a page's way out came to, short of a slot.
pub(crate) enum WayOut {
    /// It is out.
    Done(SwapOut),
    /// It is to go to a slot, on none of these devices; nothing was done.
    ToSlot(ForbiddenSlots),
}

/// Devices of slots that a page may not go to, a bit each.
pub(crate) type ForbiddenSlots = u8;

/// Why a page could not be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapInError {
    /// The entry has no bytes, or is not in use.
    Empty,
    /// The page is not in the store but in this frame: take it.
    Cached(u32),
    /// The bytes are lost, now or since an earlier try.
    Poisoned,
    /// Somebody else has the entry pinned (only where nobody waits).
    Busy,
    /// The store could not read them; they may yet be there.
    Store(StoreError),
}

impl fmt::Display for SwapInError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the swap entry has no page"),
            Self::Cached(frame) => write!(f, "the page is still in frame {frame}"),
            Self::Poisoned => f.write_str("the page could not be read back and is lost"),
            Self::Busy => f.write_str("the swap entry is in use by another thread"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SwapInError {}

impl Pin<'_> {
    /// Gives the entry these bytes, in whatever form takes least: from a cached entry (whose frame the caller gets back), or
    /// anew over bytes it had before.
    ///
    /// # Errors
    /// What the store says, `NoRoom` first of all. The entry is as it was.
    pub fn swap_out(
        &mut self,
        page: &[u8],
        workspace: &mut Workspace,
    ) -> Result<SwapOut, StoreError> {
        match self.swap_out_unless_to_slot(page, same::packed_word(page), workspace)? {
            WayOut::Done(out) => Ok(out),
            WayOut::ToSlot(forbidden) => self.swap_out_to_slot(page, forbidden, workspace),
        }
    }

    /// The same, but nothing is done with a page that is to go to a slot. `same`: its [`same::packed_word`].
    pub(crate) fn swap_out_unless_to_slot(
        &mut self,
        page: &[u8],
        same: Option<u64>,
        workspace: &mut Workspace,
    ) -> Result<WayOut, StoreError> {
        if page.len() != PAGE_SIZE {
            return Err(StoreError::Io(Errno::EINVAL));
        }
        if self.word.is_cached_only() {
            let _ = self.take_frame();
            return Ok(WayOut::Done(SwapOut::Unneeded));
        }
        if let Some(packed) = same {
            let same = self.become_same(packed).ok_or(StoreError::NoRoom);
            return same.map(WayOut::Done);
        }
        let print = self.look(page);
        if let Some(shared) = print.and_then(|print| self.share(print, page, workspace)) {
            return Ok(WayOut::Done(shared));
        }
        let group = self.layer.group_of(self.entry);
        let way = match self.layer.forbidden_slots(group) {
            Some(forbidden) => self.swap_out_beside_slots(group, forbidden, page, workspace)?,
            None => WayOut::Done(self.swap_out_to_log(group, page, workspace)?),
        };
        if let (Some(print), WayOut::Done(SwapOut::Stored { .. })) = (print, &way) {
            self.remember(print);
        }
        Ok(way)
    }

    /// To the log if it compresses and there is room, unless slots are preferred.
    fn swap_out_beside_slots(
        &mut self,
        group: GroupId,
        forbidden: ForbiddenSlots,
        page: &[u8],
        workspace: &mut Workspace,
    ) -> Result<WayOut, StoreError> {
        if workspace.prefers_slots() {
            return Ok(WayOut::ToSlot(forbidden));
        }
        let store = &self.layer.store;
        let owner = self.entry.get();
        match store.append_compressed(group, owner, page, workspace) {
            Ok(Some(object)) => self.become_stored(object).map(WayOut::Done),
            _ => Ok(WayOut::ToSlot(forbidden)),
        }
    }

    /// To a slot, else to the log as it is.
    fn swap_out_to_slot(
        &mut self,
        page: &[u8],
        forbidden: ForbiddenSlots,
        workspace: &mut Workspace,
    ) -> Result<SwapOut, StoreError> {
        match self.layer.store.slots().write(page, forbidden) {
            Ok((slot, _)) => {
                self.layer.note_slotted(1);
                self.become_slot(slot)
            }
            Err(_) => {
                let group = self.layer.group_of(self.entry);
                self.swap_out_to_log(group, page, workspace)
            }
        }
    }

    pub(crate) fn swap_out_to_log(
        &mut self,
        group: GroupId,
        page: &[u8],
        workspace: &mut Workspace,
    ) -> Result<SwapOut, StoreError> {
        let store = &self.layer.store;
        let object = store.append_for(group, self.entry.get(), page, workspace)?;
        self.become_stored(object)
    }

    /// Reads the page into `out`.
    ///
    /// # Errors
    /// See [`SwapInError`]. Bytes found damaged twice poison the entry; a failing device does not. The workspace knows
    /// the codec the page was stored with.
    pub fn swap_in(
        &mut self,
        out: &mut [u8],
        workspace: &mut Workspace,
    ) -> Result<(), SwapInError> {
        if out.len() != PAGE_SIZE {
            // Not the store's fault, and no reason to poison the page.
            return Err(SwapInError::Store(StoreError::Io(Errno::EINVAL)));
        }
        match self.backing() {
            Backing::None => return Err(SwapInError::Empty),
            Backing::Cached(frame) => return Err(SwapInError::Cached(frame)),
            Backing::Poisoned => return Err(SwapInError::Poisoned),
            Backing::Same(word) => same::fill(out, word),
            Backing::Slot(slot) => {
                let read = self.layer.store.slots().read(slot, out);
                read.map_err(SwapInError::Store)?;
            }
            Backing::Stored(object) => {
                let owner = self.entry.get();
                let read = self.layer.store.read(object, owner, out, workspace);
                let read = self.read_again(read, object, owner, out, workspace);
                self.settle(read)?;
            }
            Backing::Shared(id) => self.swap_in_shared(id, out, workspace)?,
        }
        self.layer.worker().tally.loaded.add(1);
        Ok(())
    }

    fn become_same(&mut self, packed: u64) -> Option<SwapOut> {
        let former = self.word;
        if !self.apply(Step::SwapOutSame(packed)) {
            return None;
        }
        self.layer.worker().tally.same.add(1);
        self.layer.give_up(self.entry, former);
        Some(SwapOut::Same)
    }

    /// Counted by the caller before ([`SwapLayer::note_slotted`]), since it may have several.
    pub(crate) fn become_slot(&mut self, slot: Slot) -> Result<SwapOut, StoreError> {
        let former = self.word;
        if !self.apply(Step::SwapOutSlot(slot)) {
            self.layer.give_up_bytes(self.entry, Backing::Slot(slot));
            return Err(StoreError::NoRoom);
        }
        self.layer.give_up(self.entry, former);
        Ok(SwapOut::Slot)
    }

    fn become_stored(&mut self, object: Stored) -> Result<SwapOut, StoreError> {
        let former = self.word;
        if !self.apply(Step::SwapOutStored(object)) {
            self.layer.store.free(object);
            return Err(StoreError::NoRoom);
        }
        let tally = &self.layer.worker().tally;
        tally.stored.add(1);
        tally.stored_bytes.add(u64::from(object.stored_bytes));
        tally
            .stored_raw
            .add_if(u64::from(usize::from(object.stored_bytes) == PAGE_SIZE));
        self.layer.give_up(self.entry, former);
        Ok(SwapOut::Stored {
            bytes: object.stored_bytes,
        })
    }

    /// Damaged bytes are read once more: they may have been damaged on the way.
    pub(crate) fn read_again(
        &self,
        read: Result<(), StoreError>,
        object: Stored,
        owner: u64,
        out: &mut [u8],
        workspace: &mut Workspace,
    ) -> Result<(), StoreError> {
        match read {
            Err(StoreError::Corrupt { .. }) => self.layer.store.read(object, owner, out, workspace),
            other => other,
        }
    }

    /// Takes note of how a read went in the end.
    pub(crate) fn settle(&mut self, read: Result<(), StoreError>) -> Result<(), SwapInError> {
        match read {
            Ok(()) => Ok(()),
            Err(StoreError::Corrupt { .. }) => {
                self.poison();
                Err(SwapInError::Poisoned)
            }
            Err(other) => Err(SwapInError::Store(other)),
        }
    }
}

impl SwapLayer {
    /// Counts pages that went to slots. **Context**: their entries are pinned, so that sums are right whenever none is.
    pub(crate) fn note_slotted(&self, pages: u64) {
        self.worker().tally.slotted.add_if(pages);
    }

    /// Gives up what a descriptor named before it changed.
    #[inline]
    pub(crate) fn give_up(&self, entry: EntryId, former: Word) {
        match former.backing() {
            Backing::None | Backing::Cached(_) | Backing::Poisoned => {}
            backing => self.give_up_bytes(entry, backing),
        }
    }

    fn give_up_bytes(&self, entry: EntryId, backing: Backing) {
        let tally = &self.worker().tally;
        match backing {
            Backing::Stored(object) => {
                self.store.free(object);
                tally.unstored.add(1);
                tally.unstored_bytes.add(u64::from(object.stored_bytes));
            }
            Backing::Slot(slot) => {
                self.store.slots().free(slot);
                tally.unslotted.add(1);
            }
            Backing::Shared(id) => self.leave_shared(id, self.group_of(entry)),
            Backing::Same(_) => tally.unsame.add(1),
            Backing::None | Backing::Cached(_) | Backing::Poisoned => {}
        }
    }

    /// Reads the page of an entry: [`SwapLayer::pin`], [`Pin::swap_in`], unpin.
    ///
    /// # Errors
    /// As [`Pin::swap_in`].
    pub fn swap_in(
        &self,
        entry: EntryId,
        out: &mut [u8],
        workspace: &mut Workspace,
    ) -> Result<(), SwapInError> {
        self.pin(entry)
            .ok_or(SwapInError::Empty)?
            .swap_in(out, workspace)
    }
}
