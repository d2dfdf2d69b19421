//! A layer, its oracle, and a script for both.

use super::devices::Place;
use super::oracle::{Known, Oracle, PageOf, Trouble};
use super::script::{Op, Script};
use crate::{
    Backing, Dedup, DedupOptions, EntryId, GroupId, LayerOptions, OnDevice, SwapInError, SwapLayer,
    SwapOut,
};
use std::collections::BTreeMap;
use vswap_store::dedup::{Fingerprint, fingerprint};
use vswap_store::{CodecKind, Store, StoreOptions, Tiers, Workspace};
use vswap_units::{BLOCK_PAGES, PAGE_SIZE};

/// Entries in use at once.
const MOST: usize = 1500;
/// Places that all devices of a life may have together.
const MOST_PLACES: u32 = 256;
/// After so many operations everything is compared, whatever the script says.
const COMPARE_EVERY: usize = 8;

/// What a life came to, for tests that want to know whether it was an interesting one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations done.
    pub operations: usize,
    /// Pages that became objects.
    pub stored: usize,
    /// Swap-outs that found no room.
    pub without_room: usize,
    /// Segments written to devices.
    pub written: u64,
    /// Objects moved by the cleaner.
    pub moved: u64,
    /// Swap-ins that failed as planned.
    pub failed_reads: usize,
    /// Devices taken off.
    pub swapoffs: usize,
    /// Swap-outs that found an equal page.
    pub shared: u64,
    /// Pages that went to a slot.
    pub slotted: u64,
    /// Segments that went from one device to a better or worse one.
    pub migrated: u64,
    /// Discards that failed as planned.
    pub kept: u64,
    /// Pages that groups shared and were parted.
    pub parted: u64,
}

pub(super) struct Life<'a> {
    pub(super) script: Script<'a>,
    pub(super) layer: SwapLayer,
    pub(super) workspace: Workspace,
    /// Those that are on.
    pub(super) devices: Vec<Place>,
    /// How many ever were.
    pub(super) attached: u32,
    pub(super) groups: Vec<GroupId>,
    /// Who pays for entries, those that are gone among them.
    pub(super) payers: BTreeMap<EntryId, GroupId>,
    pub(super) oracle: Oracle,
    /// Where pages are that are on devices.
    pub(super) places: BTreeMap<EntryId, OnDevice>,
    /// Pages that found no room under a limit, by group.
    pub(super) fails: BTreeMap<GroupId, u64>,
    /// Whether some page is one with that of a group with other rules.
    pub(super) guests_left: bool,
    pub(super) tiers: Tiers,
    pub(super) now_ns: u64,
    frames: u32,
    /// Whether it goes on as the child of a process that forked.
    pub(super) forked: bool,
    pub(super) tally: Tally,
}

#[derive(Clone, Copy)]
struct Print(Fingerprint);

impl Default for Print {
    fn default() -> Self {
        Self(fingerprint)
    }
}

/// Makes most pages look like others.
fn alike(page: &[u8]) -> u64 {
    fingerprint(page) % 8
}

/// Lives the life that `bytes` tell and returns what it came to. `None` where there is no address space for a layer.
///
/// # Panics
/// When the layer did something wrong, or its self-check finds a violated law.
pub fn live(bytes: &[u8]) -> Option<Tally> {
    let mut life = Life::begin(Script::new(bytes))?;
    while let Some(op) = Op::next(&mut life.script) {
        life.run(op);
        life.tally.operations += 1;
        life.note_places();
        if op == Op::Check || life.tally.operations.is_multiple_of(COMPARE_EVERY) {
            life.compare();
        }
    }
    life.compare();
    life.end();
    Some(life.tally)
}

impl<'a> Life<'a> {
    fn begin(mut script: Script<'a>) -> Option<Self> {
        let ram_segments = script.choice(&[2, 3, 4, 6]);
        let places: &[u32] = [&[4_u32][..], &[1, 2], &[16], &[], &[8, 8, 8]]
            .get(script.number() % 5)
            .copied()?;
        let codec = if script.number().is_multiple_of(4) {
            CodecKind::Zstd(1)
        } else {
            CodecKind::Lz4
        };
        let store = Store::new(StoreOptions::new(ram_segments, MOST_PLACES)).ok()?;
        let options = LayerOptions {
            max_entries: 1 << 14,
        };
        let dedup = DedupOptions {
            scope: script.choice(&[Dedup::Group, Dedup::Space, Dedup::Off]),
            index_pages: 1 << 12,
            // Half of the lives have to tell pages by their bytes alone.
            fingerprint: script.choice(&[Print(fingerprint), Print(alike)]).0,
        };
        let layer = SwapLayer::new(options, store).ok()?;
        let mut life = Self {
            script,
            layer: layer.with_dedup(dedup).ok()?,
            workspace: Workspace::new(codec)?,
            devices: Vec::new(),
            attached: 0,
            groups: Vec::new(),
            payers: BTreeMap::new(),
            oracle: Oracle::default(),
            places: BTreeMap::new(),
            fails: BTreeMap::new(),
            guests_left: false,
            tiers: Tiers::default(),
            now_ns: 0,
            frames: 0,
            forked: false,
            tally: Tally::default(),
        };
        places.iter().for_each(|&places| life.attach(places, None));
        Some(life)
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Allocate => self.allocate(),
            Op::SwapOut => self.swap_out(),
            Op::SwapIn => self.swap_in(Trouble::default()),
            Op::SwapInBlock => self.swap_in_block(),
            Op::Free => self.free(),
            Op::FreeInto => self.free_into(),
            Op::FreePinned => self.free_pinned(),
            Op::Duplicate => self.duplicate(),
            Op::Cache => self.cache(),
            Op::TakeFrame => self.take_frame(),
            Op::Poison => self.poison(),
            Op::Clean => self.clean(),
            Op::Writeback => self.writeback(),
            Op::FaultyWriteback => self.faulty_writeback(),
            Op::FaultySwapIn => self.faulty_reads(Self::swap_in),
            Op::FaultyClean => self.faulty_reads(|life, _| life.clean()),
            Op::Gone => self.gone(),
            Op::Trim => self.layer.trim(),
            Op::Fork => self.fork(),
            Op::Groups => self.change_groups(),
            Op::Swapon => self.swapon(),
            Op::Swapoff => self.swapoff(),
            Op::SwaponBetter => self.swapon_better(),
            Op::PreferSlots => self.prefer_slots(),
            Op::SwapOutRun => self.swap_out_run(),
            Op::Look => self.look(),
            Op::Drain => self.drain(),
            Op::FaultyLook => self.faulty_look(),
            Op::FaultySwapOut => self.faulty_swap_out(),
            Op::FaultyDiscard => self.faulty_discard(),
            Op::FaultySwapoff => self.faulty_reads(|life, _| life.swapoff()),
            Op::Check => {}
        }
    }

    /// Entries in use from one on, as the script says which and how many.
    pub(super) fn some(&mut self) -> Vec<EntryId> {
        let (at, count) = (
            self.script.number(),
            self.script.choice(&[1, 2, 8, 16, 64, 200]),
        );
        let all = self.oracle.entries.len();
        let entries = self.oracle.entries.keys().copied();
        entries
            .cycle()
            .skip(at * 7 % all.max(1))
            .take(count.min(all))
            .collect()
    }

    fn one(&mut self) -> Option<EntryId> {
        let at = self.script.number() * 3 % self.oracle.entries.len().max(1);
        self.oracle.entries.keys().copied().nth(at)
    }

    fn allocate(&mut self) {
        let count = self.script.choice(&[1, 16, 64, 3, 130, 512, 31]);
        let group = self.group();
        if self.oracle.entries.len() > MOST {
            return;
        }
        if let Some(range) = self.layer.allocate_for(group, count) {
            self.payers.extend(range.iter().map(|entry| (entry, group)));
            assert!(
                range.len() == count
                    && range
                        .first()
                        .get()
                        .is_multiple_of(count.next_power_of_two() as u64)
            );
            assert_eq!(
                range.first().cluster(),
                range.iter().last().map_or(0, EntryId::cluster)
            );
            range.iter().for_each(|entry| self.oracle.handed_out(entry));
        }
    }

    pub(super) fn swap_out(&mut self) {
        let (kind, first) = (
            self.script.byte().unwrap_or(4),
            self.script.byte().unwrap_or(0),
        );
        for (i, entry) in self.some().into_iter().enumerate() {
            let page = PageOf {
                kind,
                seed: first.wrapping_add(i as u8),
            };
            let Some(mut pin) = self.layer.pin(entry) else {
                continue;
            };
            let end = pin.swap_out(&page.bytes(), &mut self.workspace);
            drop(pin);
            self.tally.stored += usize::from(matches!(end, Ok(SwapOut::Stored { .. })));
            self.tally.without_room += usize::from(end.is_err());
            if end.is_err() {
                self.note_refused(entry);
            }
            self.oracle.swapped_out(entry, page, end);
        }
    }

    /// Neighbours at once: what is not done is as it was.
    fn swap_out_run(&mut self) {
        let (kind, first) = (
            self.script.byte().unwrap_or(4),
            self.script.byte().unwrap_or(0),
        );
        let mut entries = self.some();
        entries.truncate(BLOCK_PAGES);
        entries.sort_unstable();
        entries.dedup();
        let page = |i: usize| PageOf {
            kind: kind.wrapping_add((i / 5) as u8),
            seed: first.wrapping_add(i as u8),
        };
        let bytes: Vec<u8> = (0..entries.len()).flat_map(|i| page(i).bytes()).collect();
        let run = entries.iter().copied();
        let out = self.layer.swap_out_run(run, &bytes, &mut self.workspace);
        for (i, entry) in entries.into_iter().enumerate() {
            match out.done >> i & 1 {
                0 => self.note_refused(entry),
                _ if self.oracle.is_orphan(entry) => {
                    self.oracle
                        .swapped_out(entry, page(i), Ok(SwapOut::Unneeded));
                }
                _ => self.oracle.swapped_out(entry, page(i), Ok(SwapOut::Slot)),
            }
        }
    }

    pub(super) fn swap_in(&mut self, trouble: Trouble) {
        for entry in self.some() {
            self.read(entry, trouble);
        }
    }

    pub(super) fn read(&mut self, entry: EntryId, trouble: Trouble) {
        let mut page = vec![0xa5; PAGE_SIZE];
        let end = self.layer.swap_in(entry, &mut page, &mut self.workspace);
        self.tally.failed_reads += usize::from(matches!(end, Err(SwapInError::Store(_))));
        self.oracle.swapped_in(entry, end, &page, trouble);
    }

    fn swap_in_block(&mut self) {
        let entries = self.some();
        for entries in entries.chunks(BLOCK_PAGES) {
            let mut pages = vec![vec![0xa5; PAGE_SIZE]; entries.len()];
            let mut results = vec![Err(SwapInError::Busy); entries.len()];
            let mut outs: Vec<_> = pages.iter_mut().map(Vec::as_mut_slice).collect();
            self.layer
                .swap_in_block(entries, &mut outs, &mut results, &mut self.workspace);
            for ((&entry, end), page) in entries.iter().zip(results).zip(&pages) {
                self.oracle.swapped_in(entry, end, page, Trouble::default());
            }
        }
    }

    /// A run of numbers, whatever they are.
    pub(super) fn free(&mut self) {
        let Some(first) = self.one() else { return };
        let count = self.script.choice(&[1, 2, 16, 64, 130]);
        let step = self.script.choice(&[1, 1, 2, 3]);
        let run: Vec<_> = (0..count)
            .filter_map(|i| EntryId::new(first.get() + i * step))
            .collect();
        let expected = self.oracle.free(&run);
        assert_eq!(self.layer.free(&run), expected);
    }

    fn free_into(&mut self) {
        let entries = self.some();
        let mut frames = Vec::new();
        self.layer
            .free_into(&entries, &mut |_, frame| frames.push(frame));
        let expected: Vec<_> = entries
            .into_iter()
            .filter_map(|entry| self.oracle.end(entry))
            .collect();
        assert_eq!(frames, expected);
    }

    fn free_pinned(&mut self) {
        let pinned = self.one().and_then(|entry| self.layer.pin(entry));
        if let Some(pin) = pinned {
            let entry = pin.entry();
            assert_eq!(pin.free(), self.oracle.end(entry));
        }
    }

    fn duplicate(&mut self) {
        if let Some(entry) = self.one() {
            self.oracle
                .duplicated(entry, self.layer.duplicate(entry).ok());
        }
    }

    fn cache(&mut self) {
        for entry in self.some() {
            self.frames += 1;
            let bound = self.layer.cache(entry, self.frames);
            self.oracle.cached(entry, self.frames, bound);
        }
    }

    fn take_frame(&mut self) {
        for entry in self.some() {
            let taken = self.layer.pin(entry).and_then(|mut pin| pin.take_frame());
            self.oracle.frame_taken(entry, taken);
        }
    }

    fn poison(&mut self) {
        if let Some(entry) = self.one() {
            if let Some(mut pin) = self.layer.pin(entry) {
                pin.poison();
            }
            self.oracle.lost(entry);
        }
    }

    pub(super) fn clean(&mut self) {
        self.tally.moved += u64::from(self.layer.clean(&mut self.workspace).objects);
    }

    fn fork(&mut self) {
        let child = self.script.number() % 2 == 1;
        self.layer.fork_prepare();
        if child {
            self.forked = true;
            self.layer.fork_child();
        } else {
            self.layer.fork_parent(false);
        }
    }

    /// Everything that is known, asked of the layer; then its own laws.
    fn compare(&mut self) {
        let laws = self.layer.check(&mut self.workspace);
        assert!(laws.is_empty(), "{laws:#?}");
        self.compare_payers();
        self.compare_charges();
        let all: Vec<_> = self
            .oracle
            .entries
            .iter()
            .map(|(&entry, &state)| (entry, state))
            .collect();
        assert_eq!(self.layer.gauges().entries, all.len() as u64);
        for (entry, (count, known)) in all {
            assert_eq!(self.layer.count(entry), count, "{entry:?}");
            let hint = self.layer.hint(entry);
            match known {
                Known::Nothing => assert_eq!(hint, Backing::None),
                Known::Frame(frame) => assert_eq!(hint, Backing::Cached(frame)),
                Known::Lost => assert_eq!(hint, Backing::Poisoned),
                Known::Page(_) => self.read(entry, Trouble::default()),
            }
        }
    }

    /// All owners let go: nothing is left.
    fn end(&mut self) {
        let owners = self.oracle.entries.iter();
        let all: Vec<_> = owners
            .flat_map(|(&entry, &(count, _))| core::iter::repeat_n(entry, count.max(1) as usize))
            .collect();
        self.tally.shared = self.layer.gauges().dedup_hits;
        self.tally.slotted = self.layer.gauges().swap_out_slot_pages;
        self.layer.free_into(&all, &mut |_, _| {});
        self.oracle.entries.clear();
        while let Some(group) = self.groups.pop() {
            // The youngest is a leaf.
            self.end_group(group);
            assert!(!self.layer.store().groups().is_open(group));
        }
        self.clean();
        self.compare();
    }
}
