//! Cleaning: live objects are copied out of the emptiest segments, so that
//! whole segments become free.
//!
//! **The argument.** Freed objects leave holes that cannot be filled where they
//! are. Emptying a segment of which the fraction u is live frees 1 - u of it
//! and costs a copy of u, so the price per freed byte is u / (1 - u): steeply
//! lower for emptier segments. Greedy, the emptiest first, is the best choice
//! when objects die independently of their age. In logs of files that fails
//! because cold segments hold their last holes for ever, and age has to be
//! weighed in. Here the old and cold segments leave RAM by writeback anyway; what
//! is left in RAM is young, and a copy in RAM is cheap (about 0.1 µs per KiB,
//! 50 ns per object for its owner). So: greedy, only while less than 85 % of
//! the sealed RAM is live, a bounded number of segments per call.
//!
//! On devices a clean costs a read of 256 KiB and RAM for what is alive, which
//! is then written again. So there it begins only when less than 60 % of all
//! places is live, and only victims that are at least half dead are taken. It
//! does not wait for the device to be full: by then RAM is full too, and the
//! copies have only the cleaner's spare segments to go to. But when a device
//! has turned out full all the same, room on it is worth that much, and the
//! target is that of RAM. Dead segments cost nothing and go back at once.
//!
//! **If this is wrong** (all segments equally full of holes, say 80 %), four
//! bytes are copied per byte freed, and the target stops it at 85 %: compaction
//! cannot run in circles, because every copy fills a new segment completely.
//!
//! **Groups** are kept apart: a copy is paid for by whoever paid for the original.
//! All of them are cleaned as one, since RAM and devices are one; but a group
//! that is close to a limit is judged by its own segments too, or it would be
//! refused room while its holes disappear among the full segments of others.
//! To it, its limit is what RAM or a device is to all: where no device can take
//! its segments, RAM is tight for it, and at its limit of devices they are full.
//! Close is a 32nd: room is there before it is asked for, and the rest stays less dense.
//!
//! An object that its owner does not let go, or that does not read back right,
//! stays where it is, and so does its segment.

use core::sync::atomic::{AtomicU32, Ordering};

use vswap_platform::thread::yield_now;
use vswap_units::{Bytes, PAGE_SIZE};

use crate::codec::{IO_BYTES, Workspace};
use crate::groups::{GroupId, GroupSet, Resource};
use crate::location::{Location, Stored};
use crate::object::{HEADER_BYTES, Object};
use crate::segment::Segment;
use crate::store::Store;
use crate::word::{Rest, State};
use crate::{GRANULE_BYTES, SEGMENT_BYTES, SEGMENT_GRANULES};

/// Live part of the sealed RAM below which cleaning begins, in percent.
const TARGET_PERCENT: u64 = 85;
/// Live part of what is on devices below which cleaning begins there.
const DEVICE_TARGET_PERCENT: u64 = 60;
/// The same where RAM is all there is and too little of it is left to work in:
/// fifteen bytes are copied per byte freed, against pages that go out and come
/// back all the time.
const TIGHT_PERCENT: u64 = 94;
/// Segments emptied per call on each shelf: about 100 µs each in RAM.
const VICTIMS: usize = 4;

/// Who owns objects: the floor above.
pub trait Owners {
    /// Moves the object of `owner` from `from`: pins the entry, checks that it
    /// still is at `from`, calls `place` (which copies the object and says where
    /// to; `None`: no room) and makes the entry name the new location.
    ///
    /// True only if the entry names the new location now. The old object is the
    /// caller's to free. Dead objects are offered too: nobody names them.
    fn relocate(
        &self,
        owner: u64,
        from: Location,
        place: &mut dyn FnMut() -> Option<Location>,
    ) -> bool;
}

/// What one call of [`Store::clean`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Segments emptied and given back.
    pub segments: u32,
    /// Objects moved.
    pub objects: u32,
    /// Their bytes, with headers and padding.
    pub bytes: Bytes,
}

/// Which segments a look is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shelf {
    Ram,
    Device,
}

impl Shelf {
    const fn idle(self) -> State {
        match self {
            Self::Ram => State::Sealed,
            Self::Device => State::Stored,
        }
    }

    const fn busy(self) -> State {
        match self {
            Self::Ram => State::Cleaning,
            Self::Device => State::StoredCleaning,
        }
    }

    const fn resource(self) -> Resource {
        match self {
            Self::Ram => Resource::Ram,
            Self::Device => Resource::Device,
        }
    }

    /// Live part of everything below which cleaning begins, in percent.
    const fn target_percent(self, is_tight: bool) -> u64 {
        match self {
            Self::Ram if is_tight => TIGHT_PERCENT,
            Self::Device if !is_tight => DEVICE_TARGET_PERCENT,
            _ => TARGET_PERCENT,
        }
    }

    /// Live part above which emptying one does not pay.
    const fn worth_below(self, is_tight: bool) -> u32 {
        match self {
            Self::Ram if is_tight => SEGMENT_GRANULES / 100 * 98,
            Self::Device if !is_tight => SEGMENT_GRANULES / 2,
            _ => SEGMENT_GRANULES / 100 * 95,
        }
    }
}

impl Store {
    /// Empties a few of the emptiest segments, if enough is dead for that to
    /// pay. **Context**: no lock of rank CLUSTER or above (owners take theirs);
    /// may do I/O; any number of threads. Nothing done: nothing worth doing.
    pub fn clean(&self, owners: &dyn Owners, ws: &mut Workspace) -> Cleaned {
        self.give_back_places(usize::MAX);
        let mut cleaned = Cleaned::default();
        for shelf in [Shelf::Ram, Shelf::Device] {
            let is_tight = self.is_tight(shelf);
            self.clean_shelf(shelf, &GroupSet::ALL, is_tight, owners, ws, &mut cleaned);
            for group in self.groups.all() {
                if self.groups.is_near_limit(group, shelf.resource()) {
                    let within = self.groups.subtree(group);
                    let is_tight = shelf == Shelf::Device || !self.can_relieve(group);
                    self.clean_shelf(shelf, &within, is_tight, owners, ws, &mut cleaned);
                }
            }
        }
        self.give_back_places(usize::MAX);
        self.counters.cleaned_bytes.add(cleaned.bytes.0);
        let segments = u64::from(cleaned.segments);
        self.counters.cleaned_segments.add(segments);
        cleaned
    }

    /// Is room there worth more than the usual price, to everybody?
    fn is_tight(&self, shelf: Shelf) -> bool {
        match shelf {
            Shelf::Ram => self.ram_is_tight.load(Ordering::Relaxed),
            Shelf::Device => self.devices_full.load(Ordering::Relaxed),
        }
    }

    fn clean_shelf(
        &self,
        shelf: Shelf,
        within: &GroupSet,
        is_tight: bool,
        owners: &dyn Owners,
        ws: &mut Workspace,
        cleaned: &mut Cleaned,
    ) {
        for _ in 0..VICTIMS {
            let claimed = self.claim_emptiest(shelf, within, is_tight);
            if !claimed.is_some_and(|claimed| self.clean_one(shelf, claimed, owners, ws, cleaned)) {
                break;
            }
            // A thread that serves faults may wait for this CPU: it would wait for the whole time slice.
            yield_now();
        }
    }

    /// Empties one. True if it is free now.
    fn clean_one(
        &self,
        shelf: Shelf,
        (segment, row): (u32, &Segment),
        owners: &dyn Owners,
        ws: &mut Workspace,
        cleaned: &mut Cleaned,
    ) -> bool {
        match shelf {
            Shelf::Ram => self.empty_ram(segment, row, owners, cleaned),
            Shelf::Device => self.empty_device(segment, row, owners, ws, cleaned),
        }
        let emptied = self.end_cleaning(segment, row, shelf);
        cleaned.segments += u32::from(emptied);
        emptied
    }

    /// Whether RAM is so short that cleaning pays down to small holes.
    pub fn set_ram_tight(&self, is_tight: bool) {
        self.ram_is_tight.store(is_tight, Ordering::Relaxed);
    }

    /// The emptiest segment of these groups, held and marked, if cleaning pays at all.
    fn claim_emptiest(
        &self,
        shelf: Shelf,
        within: &GroupSet,
        is_tight: bool,
    ) -> Option<(u32, &Segment)> {
        let last_failed = self.last_failed.load(Ordering::Relaxed);
        let (mut live, mut whole) = (0_u64, 0_u64);
        let mut best: Option<(u32, u32)> = None;
        for (number, row) in self.table.walk() {
            if row.word.load().state() != shelf.idle() || !within.contains(row.group()) {
                continue;
            }
            let here = row.live();
            live += u64::from(here);
            whole += u64::from(SEGMENT_GRANULES);
            let candidate = here < shelf.worth_below(is_tight) && number + 1 != last_failed;
            if candidate && best.is_none_or(|(least, _)| here < least) {
                best = Some((here, number));
            }
        }
        let (_, number) = best.filter(|_| live * 100 < whole * shelf.target_percent(is_tight))?;
        self.claim(number, shelf)
    }

    fn claim(&self, number: u32, shelf: Shelf) -> Option<(u32, &Segment)> {
        let mut lists = self.table.lock();
        let row = self.table.get(number)?;
        let word = row.word.load();
        if word.state() != shelf.idle() || !row.try_hold() {
            return None;
        }
        if shelf == Shelf::Ram {
            self.table.take_from_ages(&mut lists, number);
        }
        row.word.store(word.in_state(shelf.busy()));
        Some((number, row))
    }

    /// Back to the idle state, or given back. True if given back.
    fn end_cleaning(&self, segment: u32, row: &Segment, shelf: Shelf) -> bool {
        let mut lists = self.table.lock();
        row.word.store(row.word.load().in_state(shelf.idle()));
        if shelf == Shelf::Ram {
            self.table.make_youngest(&mut lists, segment);
        }
        drop(lists);
        let emptied = row.drop_hold();
        if emptied {
            self.release(segment);
        } else {
            // Somebody keeps an object there: let others be tried next time.
            self.last_failed.store(segment + 1, Ordering::Relaxed);
        }
        emptied
    }

    fn empty_ram(&self, segment: u32, row: &Segment, owners: &dyn Owners, cleaned: &mut Cleaned) {
        let Rest::Ram(slot) = row.word.load().rest() else {
            return;
        };
        let end = row.used() as usize * GRANULE_BYTES;
        let Some(bytes) = self.ram.bytes(slot, 0, end) else {
            return;
        };
        self.move_objects(segment, 0, bytes, false, owners, cleaned);
    }

    fn empty_device(
        &self,
        segment: u32,
        row: &Segment,
        owners: &dyn Owners,
        ws: &Workspace,
        cleaned: &mut Cleaned,
    ) {
        let Rest::Device(place) = row.word.load().rest() else {
            return;
        };
        let end = row.used() as usize * GRANULE_BYTES;
        let mut at = 0;
        while at < end {
            let first = at / PAGE_SIZE * PAGE_SIZE;
            let until = (first + IO_BYTES).min(end);
            if self.read_bytes(segment, place, at, until, ws).is_err() {
                return;
            }
            let Some(bytes) = ws.io.slice(at - first, until - at) else {
                return;
            };
            let moved_to = self.move_objects(segment, at, bytes, true, owners, cleaned);
            if moved_to == at {
                return;
            }
            at = moved_to;
        }
    }

    /// Offers the objects in `bytes`, which begin at `start` of the segment, to
    /// their owners. Returns where the first one begins that was not offered:
    /// cut off at the end of `bytes`, or not in order.
    fn move_objects(
        &self,
        segment: u32,
        start: usize,
        bytes: &[u8],
        verify: bool,
        owners: &dyn Owners,
        cleaned: &mut Cleaned,
    ) -> usize {
        let mut at = 0;
        while let Some(object) = bytes.get(at..).and_then(Object::parse) {
            let header = object.header;
            let length = HEADER_BYTES + usize::from(header.stored_bytes);
            let granule = u16::try_from((start + at) / GRANULE_BYTES);
            let (Ok(granule), Some(whole)) = (granule, bytes.get(at..at + length)) else {
                break;
            };
            if verify && !object.is_intact() {
                break;
            }
            let from = Stored {
                location: Location { segment, granule },
                stored_bytes: header.stored_bytes,
            };
            if self.move_object(header.owner, from, whole, owners) {
                cleaned.objects += 1;
                cleaned.bytes.0 += u64::from(from.granules()) * GRANULE_BYTES as u64;
            }
            at += from.granules() as usize * GRANULE_BYTES;
        }
        start + at
    }

    fn move_object(&self, owner: u64, from: Stored, object: &[u8], owners: &dyn Owners) -> bool {
        let mut copy: Option<Stored> = None;
        let payer = self.table.get(from.location.segment).map(Segment::group);
        let payer = payer.unwrap_or(GroupId::ROOT);
        let moved = owners.relocate(owner, from.location, &mut || {
            if copy.is_none() {
                copy = self.put_for_cleaner(payer, object, from.stored_bytes);
            }
            copy.map(|stored| stored.location)
        });
        match copy {
            Some(_) if moved => self.free(from),
            Some(unused) => self.free(unused),
            None => {}
        }
        moved && copy.is_some()
    }
}

/// The segment that was last cleaned in vain, plus one.
pub(crate) type LastFailed = AtomicU32;

const _: () = assert!(IO_BYTES < SEGMENT_BYTES);
