//! What the word of a page that is out names, and what is done by that name.
//!
//! * *Virtual*: the entry that the swap layer gave the page. It stays the same wherever the bytes go.
//! * *Direct* (`virtual=no`): the place itself, as in swap without the layer: the frame run of the page's
//!   block, then a plain slot, or none for zeros. It is there so that what the layer costs can be measured.
//!
//! Which of the two is chosen when the engine is built. A name belongs to its page's word and is **stable
//! while** the lock of the page's block is held.

use vswap_platform::errno::Errno;
use vswap_space::{
    Backing, Charge, DedupOptions, EntryId, EntryRange, Gauges, GroupId, LayerOptions, RunOut,
    StillInUse, SwapInError, SwapLayer,
};
use vswap_store::{Store, StoreError, Workspace};
use vswap_units::{BLOCK_PAGES, Bytes, Counters};

use crate::direct::{DirectSlots, Released};
use crate::frames::Frames;
use crate::page_state::Name;

/// Where the bytes of pages that are out rest, and by what names.
#[expect(
    clippy::large_enum_variant,
    reason = "one in an engine, and a box would cost every page a load"
)]
pub enum Names {
    /// Entries of the virtual swap layer.
    Virtual(SwapLayer),
    /// Slots.
    Direct(DirectSlots),
}

/// What a page's bytes rest in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rests {
    /// A frame: they only have to be moved.
    Frame,
    /// Memory, compressed or as one word.
    Ram,
    /// A slot of a device, whose neighbours are strangers.
    Slot,
    /// A segment on a device, with their neighbours mostly.
    Device,
}

/// Names for pages that are about to be moved into frames.
pub struct Reserved {
    /// `None`: names need nothing reserved.
    entries: Option<EntryRange>,
    used: usize,
}

impl From<EntryId> for Name {
    fn from(entry: EntryId) -> Self {
        Self::new(entry.get()).unwrap_or(Self::NOTHING)
    }
}

fn entry(name: Name) -> Option<EntryId> {
    EntryId::new(name.get())
}

impl Names {
    /// Names over a store, for so many pages.
    ///
    /// # Errors
    /// The kernel's, when tables cannot be reserved.
    pub fn new(store: Store, pages: usize, direct: bool) -> Result<Self, Errno> {
        if direct {
            return Ok(Self::Direct(DirectSlots::new(store)));
        }
        SwapLayer::new(LayerOptions { max_entries: pages }, store).map(Self::Virtual)
    }

    /// The same, with equal pages sharing their bytes; pages in slots share none.
    ///
    /// # Errors
    /// The kernel's, when tables cannot be reserved.
    pub fn with_dedup(self, options: DedupOptions) -> Result<Self, Errno> {
        match self {
            Self::Virtual(layer) => layer.with_dedup(options).map(Self::Virtual),
            Self::Direct(slots) => Ok(Self::Direct(slots)),
        }
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        match self {
            Self::Virtual(layer) => layer.store(),
            Self::Direct(slots) => slots.store(),
        }
    }

    /// The swap layer, if there is one.
    pub fn virtual_layer(&self) -> Option<&SwapLayer> {
        match self {
            Self::Virtual(layer) => Some(layer),
            Self::Direct(_) => None,
        }
    }

    /// Are names places?
    pub fn is_direct(&self) -> bool {
        matches!(self, Self::Direct(_))
    }

    /// Names for `n` pages (a block's at most) that a group pays for. `None`: there are no more.
    pub fn reserve(&self, group: GroupId, n: usize) -> Option<Reserved> {
        let entries = match self {
            Self::Virtual(layer) => Some(layer.allocate_for(group, n)?),
            Self::Direct(_) => None,
        };
        Some(Reserved { entries, used: 0 })
    }

    /// The name of a page that was moved into `frame`.
    pub fn bind(&self, reserved: &mut Reserved, frame: u32) -> Option<Name> {
        match self {
            Self::Virtual(layer) => {
                let entry = reserved.entries?.get(reserved.used)?;
                reserved.used += 1;
                layer.cache_uncounted(entry, frame);
                Some(entry.into())
            }
            Self::Direct(_) => Some(Name::IN_FRAME),
        }
    }

    /// All pages are bound: gives back the names that are left.
    pub fn end_binding(&self, reserved: Reserved) {
        if let (Self::Virtual(layer), Some(entries)) = (self, reserved.entries) {
            layer.note_bound(reserved.used as u64);
            for entry in entries.iter().skip(reserved.used) {
                layer.free(&[entry]);
            }
        }
    }

    /// Counts pages that [`Names::rests`] or [`Names::is_cached`] was asked about.
    pub fn note_looks(&self, pages: u32) {
        if let Self::Virtual(layer) = self {
            layer.note_looks(pages);
        }
    }

    /// Is the page in a frame of `run`, which is its block's?
    pub fn is_cached(&self, name: Name, run: u32) -> bool {
        match self {
            Self::Virtual(layer) => entry(name).is_some_and(|entry| {
                matches!(layer.hint(entry), Backing::Cached(frame) if Frames::run_of(frame) == run)
            }),
            Self::Direct(_) => name == Name::IN_FRAME,
        }
    }

    /// Where a page's bytes are, as a hint; those in compressed RAM, which are to be read next, are brought near meanwhile.
    pub fn rests_and_prefetch(&self, name: Name) -> Rests {
        let rests = self.rests(name);
        if let (Self::Virtual(layer), Rests::Ram, Some(entry)) = (self, rests, entry(name)) {
            layer.prefetch(layer.hint(entry));
        }
        rests
    }

    /// Where a page's bytes are, as a hint.
    pub fn rests(&self, name: Name) -> Rests {
        let layer = match self {
            Self::Virtual(layer) => layer,
            Self::Direct(_) if name == Name::IN_FRAME => return Rests::Frame,
            Self::Direct(_) if name == Name::ZEROS => return Rests::Ram,
            Self::Direct(_) => return Rests::Slot,
        };
        match entry(name).map(|entry| layer.hint(entry)) {
            Some(Backing::Cached(_)) => Rests::Frame,
            Some(Backing::Slot(_)) => Rests::Slot,
            Some(backing) if layer.needs_device(backing) => Rests::Device,
            _ => Rests::Ram,
        }
    }

    /// Writes cached pages out, neighbours in memory, in the order of their names, which it may change.
    /// Says by bits what became of each.
    pub fn write_out(&self, names: &mut [Name], pages: &[u8], codec: &mut Workspace) -> RunOut {
        match self {
            Self::Virtual(layer) => {
                layer.swap_out_run(names.iter().map_while(|name| entry(*name)), pages, codec)
            }
            Self::Direct(slots) => RunOut {
                done: slots.write_out(names, pages),
                refused: 0,
            },
        }
    }

    /// Reads the pages of up to 16 names, each into the buffer of the same number; true for those read well.
    pub fn read_block(
        &self,
        names: &[Name],
        outs: &mut [&mut [u8]],
        read: &mut [bool; BLOCK_PAGES],
        codec: &mut Workspace,
    ) {
        let layer = match self {
            Self::Virtual(layer) => layer,
            Self::Direct(slots) => return slots.read_block(names, outs, read),
        };
        let Some(first) = names.first().and_then(|name| entry(*name)) else {
            return;
        };
        let mut entries = [first; BLOCK_PAGES];
        for (place, entry) in entries
            .iter_mut()
            .zip(names.iter().map_while(|&n| entry(n)))
        {
            *place = entry;
        }
        let count = names.len().min(BLOCK_PAGES);
        let mut results = [Err(SwapInError::Empty); BLOCK_PAGES];
        if let (Some(entries), Some(results)) = (entries.get(..count), results.get_mut(..count)) {
            layer.swap_in_block(entries, outs, results, codec);
        }
        for (read, result) in read.iter_mut().zip(&results) {
            *read = result.is_ok();
        }
    }

    /// Gives names up. The frames of cached pages are dead from here on.
    pub fn release(&self, names: &[Option<Name>; BLOCK_PAGES]) -> Released {
        let layer = match self {
            Self::Virtual(layer) => layer,
            Self::Direct(slots) => return slots.release(names),
        };
        let given = || names.iter().flatten().filter_map(|name| entry(*name));
        let Some(filler) = given().next() else {
            return Released::default();
        };
        let mut list = [filler; BLOCK_PAGES];
        let mut pages = 0;
        for (place, entry) in list.iter_mut().zip(given()) {
            *place = entry;
            pages += 1;
        }
        let mut cached = 0;
        if let Some(list) = list.get(..pages) {
            layer.free_into(list, &mut |_, _| cached += 1);
        }
        Released { pages, cached }
    }

    /// What is held and was done. Directly named pages have no entries.
    pub fn gauges(&self) -> Gauges {
        match self {
            Self::Virtual(layer) => layer.gauges(),
            Self::Direct(slots) => slots.gauges(),
        }
    }

    /// Sets the engine's counters that are known here alone.
    pub fn publish(&self, counters: &Counters) {
        match self {
            Self::Virtual(layer) => layer.publish(counters),
            Self::Direct(slots) => Gauges {
                poisoned_pages: counters.poisoned_pages.get(),
                ..slots.gauges()
            }
            .publish(counters),
        }
    }

    /// What a group pays for. `None`: there is no such group, or names are places, which nobody pays for.
    pub fn charge(&self, group: GroupId) -> Option<Charge> {
        match self {
            Self::Virtual(layer) => layer.charge(group),
            Self::Direct(_) => None,
        }
    }

    /// Begins the end of a group.
    ///
    /// # Errors
    /// What of it is still in use.
    pub fn begin_end(&self, group: GroupId) -> Result<(), StillInUse> {
        match self {
            Self::Virtual(layer) => layer.begin_end(group),
            Self::Direct(_) => Ok(()),
        }
    }

    /// Ends it.
    pub fn finish_end(&self, group: GroupId) {
        if let Self::Virtual(layer) = self {
            layer.finish_end(group);
        }
    }

    /// Bytes of memory that the tables of names hold.
    pub fn table_bytes(&self) -> usize {
        match self {
            Self::Virtual(layer) => layer.table_bytes(),
            Self::Direct(_) => 0,
        }
    }

    /// Gathers what is left of half-dead segments; false when there was nothing to do.
    pub fn clean(&self, codec: &mut Workspace) -> bool {
        match self {
            Self::Virtual(layer) => layer.clean(codec).objects > 0,
            Self::Direct(_) => false,
        }
    }

    /// Bytes of objects made and given up so far.
    pub fn traffic_bytes(&self) -> u64 {
        match self {
            Self::Virtual(layer) => layer.traffic_bytes(),
            Self::Direct(_) => 0,
        }
    }

    /// Writes the oldest segment to a device, if there is one.
    ///
    /// # Errors
    /// The store's.
    pub fn writeback_oldest(&self, budget: Bytes) -> Result<Option<Bytes>, StoreError> {
        self.store().writeback_oldest(budget)
    }

    /// Before a fork: see [`SwapLayer::fork_prepare`].
    pub fn fork_prepare(&self) {
        match self {
            Self::Virtual(layer) => layer.fork_prepare(),
            Self::Direct(slots) => slots.store().fork_prepare(),
        }
    }

    /// In the parent; `forked`: there is a child.
    pub fn fork_parent(&self, forked: bool) {
        match self {
            Self::Virtual(layer) => layer.fork_parent(forked),
            Self::Direct(slots) => slots.store().fork_parent(forked),
        }
    }

    /// In the child.
    pub fn fork_child(&self) {
        match self {
            Self::Virtual(layer) => layer.fork_child(),
            Self::Direct(slots) => slots.store().fork_child(),
        }
    }

    /// What is wrong with a page's name; its block has frame run `run`.
    pub fn wrong(&self, name: Name, run: Option<u32>) -> Option<&'static str> {
        let layer = match self {
            Self::Virtual(layer) => layer,
            Self::Direct(_) => {
                let lost = name == Name::IN_FRAME && run.is_none();
                return lost.then_some("has a page in a frame, and no frames");
            }
        };
        match entry(name).map(|entry| layer.hint(entry)) {
            None | Some(Backing::None) => Some("names an entry without bytes"),
            Some(Backing::Cached(frame)) if run != Some(Frames::run_of(frame)) => {
                Some("has a page in a frame of another block")
            }
            Some(_) => None,
        }
    }

    /// The laws of what is below, and that what pages name is what is in use. **Context**: at rest; allocates.
    pub fn check(&self, named: &[Name], codec: &mut Workspace) -> Vec<String> {
        let layer = match self {
            Self::Virtual(layer) => layer,
            Self::Direct(slots) => return slots.check(named),
        };
        let mut problems = layer.check(codec);
        let (entries, count) = (layer.gauges().entries, named.len() as u64);
        if entries != count {
            problems.push(format!(
                "{count} pages are swapped, {entries} entries are in use"
            ));
        }
        problems
    }
}
