//! Shared objects: one object of the store that several entries stand for.
//!
//! One more indirection, for pages found to be duplicates only: the descriptor names a row of this table, the row names the
//! place in the log, so that whoever moves the object changes one word however many share it. The object's owner word in the
//! log is the row's number with bit 40 set; entries stay below that bit, so the cleaner asks the right one to let it move.
//!
//! Rows have locks (a few for all, so that a row can be given back with its memory) that are held for a few instructions:
//! never over I/O, decoding, another lock or a wait. What lasts longer is counted in: `readers` keep the object where it is,
//! sharers keep it alive. Order: after pins.
//!
//! **Who pays**: sharers are counted per group, in the order the groups came, and the first one pays. When its last sharer
//! leaves, the next group moves up and pays. An object has room for three groups; a fourth one stores its own.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, Ordering::Acquire, Ordering::Relaxed};

use bytemuck::Zeroable;
use vswap_platform::errno::Errno;
use vswap_platform::lazy::LazySlice;
use vswap_platform::sync::{Event, RankedMutex};
use vswap_store::{GroupId, Location, Stored};
use vswap_units::{PAGE_SIZE, Rank, rank};

use crate::cluster;
use crate::entry::ENTRY_BITS;

/// Rank of the list of free rows: taken while pins are held, and no lock is taken under it.
const RANK: Rank = cluster::RANK + 1;
const _: () = assert!(RANK < rank::SEGMENT);

/// In an owner word of the log: this is a shared object's, not an entry's.
const SHARED_OWNER: u64 = 1 << ENTRY_BITS;
const _: () = assert!(ENTRY_BITS < vswap_store::OWNER_BITS);
/// Locks of all rows together.
const LOCKS: usize = 64;
/// Groups that can share one object.
const GROUPS: usize = 3;
const COUNT_BITS: u32 = 48;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// Looks at a row's lock before the thread lies down for a moment: its holder was preempted.
const SPINS: u32 = 1000;
const MOMENT_NS: u64 = 50_000;

/// The number of a shared object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedId(pub(crate) u32);

impl SharedId {
    /// The owner word of its object in the log.
    pub(crate) const fn owner(self) -> u64 {
        SHARED_OWNER | self.0 as u64
    }

    /// The shared object this owner word names, if it names one.
    pub(crate) fn of_owner(owner: u64) -> Option<Self> {
        let number = owner.checked_sub(SHARED_OWNER)?;
        u32::try_from(number).ok().map(Self)
    }
}

/// One row: 40 bytes. All zero: free.
#[derive(Zeroable)]
#[repr(C)]
struct Row {
    /// Who reads the object now. It does not move meanwhile.
    readers: AtomicU32,
    /// In the free list: the next free row, plus one.
    next: AtomicU32,
    /// [`Stored::to_bits`] of the object.
    place: AtomicU64,
    /// Group and number of its sharers, packed to the front; the first pays.
    sharers: [AtomicU64; GROUPS],
}

const ROW_BYTES: usize = size_of::<Row>();
const _: () = assert!(ROW_BYTES == 40);

/// The free rows, and those never used.
struct Rows {
    /// The first free row, plus one.
    free: u32,
    /// Rows used so far.
    born: u32,
    live: u32,
}

pub(crate) struct SharedTable {
    rows: LazySlice<Row>,
    /// Row `i`'s is `i` modulo their number.
    locks: [AtomicU32; LOCKS],
    list: RankedMutex<Rows, RANK>,
    /// Movers between looking at the gate and having moved. A fork waits for none.
    movers: AtomicU32,
    parking: Event,
}

/// What it meant that a sharer left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Others stay and nothing else changes.
    Stays { bytes: u16 },
    /// Its group paid for `object` and has no sharer left; the next group pays now, and the caller is a sharer of that
    /// group until he leaves again: so he may move the object there.
    PayerIs { next: GroupId, object: Stored },
    /// It was the last: the object is the caller's to free.
    Last { object: Stored },
    /// There is no such sharer: a fault of this floor.
    Never,
}

/// A live row, for the self-check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) id: SharedId,
    pub(crate) object: Stored,
    pub(crate) sharers: u64,
    pub(crate) readers: u32,
}

struct Locked<'a> {
    row: &'a Row,
    lock: &'a AtomicU32,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.lock.store(0, Ordering::Release);
    }
}

impl SharedTable {
    /// A table of at most so many objects. Address space only, until used.
    pub(crate) fn new(most: usize) -> Result<Self, Errno> {
        // One less, because the free list speaks of rows plus one.
        let most = most.clamp(1, u32::MAX as usize - 1);
        Ok(Self {
            rows: LazySlice::reserve(most, 1)?,
            locks: [const { AtomicU32::new(0) }; LOCKS],
            list: RankedMutex::new(Rows {
                free: 0,
                born: 0,
                live: 0,
            }),
            movers: AtomicU32::new(0),
            parking: Event::new(),
        })
    }

    /// A free row, which nobody else knows until [`SharedTable::publish`].
    pub(crate) fn reserve(&self) -> Option<SharedId> {
        let mut list = self.list.lock();
        let number = match list.free.checked_sub(1) {
            Some(number) => {
                list.free = self.rows.get(number as usize)?.next.swap(0, Relaxed);
                number
            }
            None => {
                let number = list.born;
                self.rows.get(number as usize)?;
                list.born += 1;
                number
            }
        };
        list.live += 1;
        Some(SharedId(number))
    }

    /// Gives a reserved or ended row back.
    pub(crate) fn give_back(&self, id: SharedId) {
        if let Some(row) = self.row(id) {
            let mut list = self.list.lock();
            row.next.store(list.free, Relaxed);
            list.free = id.0 + 1;
            list.live = list.live.saturating_sub(1);
        }
    }

    /// The reserved row stands for `object` from now on, with these two sharers; the first one's group pays.
    pub(crate) fn publish(&self, id: SharedId, object: Stored, first: GroupId, second: GroupId) {
        if let Some(locked) = self.lock(id) {
            locked.row.place.store(object.to_bits(), Relaxed);
            let placed = locked.add(first) && locked.add(second);
            debug_assert!(placed, "a free row has room for two groups");
        }
    }

    /// Adds a sharer to a live object that `may` be shared where it is, and counts a reader in. Returns the object.
    pub(crate) fn join(
        &self,
        id: SharedId,
        group: GroupId,
        may: impl FnOnce(Stored) -> bool,
    ) -> Option<Stored> {
        let locked = self.lock(id)?;
        let object = locked.payer().map(|_| locked.object());
        let object = object.filter(|&object| may(object))?;
        if !locked.add(group) {
            return None;
        }
        locked.row.readers.fetch_add(1, Relaxed);
        Some(object)
    }

    /// A sharer leaves. It is no reader any more.
    pub(crate) fn leave(&self, id: SharedId, group: GroupId) -> Left {
        let Some(locked) = self.lock(id) else {
            return Left::Never;
        };
        let (object, former) = (locked.object(), locked.payer());
        if !locked.remove(group) {
            return Left::Never;
        }
        let bytes = object.stored_bytes;
        match (former, locked.payer()) {
            (Some(former), Some(next)) if former != next => {
                locked.add(next);
                Left::PayerIs { next, object }
            }
            (_, Some(_)) => Left::Stays { bytes },
            (_, None) => {
                debug_assert_eq!(locked.row.readers.load(Relaxed), 0, "a reader is a sharer");
                locked.row.place.store(0, Relaxed);
                drop(locked);
                self.give_back(id);
                Left::Last { object }
            }
        }
    }

    /// Counts a reader in, who is a sharer. The object is where this says until [`SharedTable::exit`].
    pub(crate) fn enter(&self, id: SharedId) -> Option<Stored> {
        let locked = self.lock(id)?;
        locked.payer()?;
        locked.row.readers.fetch_add(1, Relaxed);
        Some(locked.object())
    }

    /// Counts a reader out.
    pub(crate) fn exit(&self, id: SharedId) {
        if let Some(locked) = self.lock(id) {
            locked.row.readers.fetch_sub(1, Relaxed);
        }
    }

    /// Where the object is: a hint.
    pub(crate) fn place(&self, id: SharedId) -> Option<Stored> {
        let bits = self.row(id)?.place.load(Relaxed);
        (bits != 0).then(|| Stored::from_bits(bits))
    }

    /// Moves the object from `from` to where `place` copies it, unless it is read meanwhile. `may`: whether moving is allowed
    /// now, asked after the mover counted itself in.
    pub(crate) fn relocate(
        &self,
        id: SharedId,
        from: Location,
        place: &mut dyn FnMut() -> Option<Location>,
        may: impl FnOnce() -> bool,
    ) -> bool {
        self.movers.fetch_add(1, Ordering::SeqCst);
        let moved = may() && self.relocate_now(id, from, place);
        self.movers.fetch_sub(1, Ordering::SeqCst);
        moved
    }

    fn relocate_now(
        &self,
        id: SharedId,
        from: Location,
        place: &mut dyn FnMut() -> Option<Location>,
    ) -> bool {
        let is_still_there = |row: &Row| {
            let bits = row.place.load(Relaxed);
            bits != 0 && Stored::from_bits(bits).location == from && row.readers.load(Relaxed) == 0
        };
        if !self.row(id).is_some_and(is_still_there) {
            return false;
        }
        // The copy is made without the lock. A cleaner's `from` is used for nothing else while its segment is being cleaned,
        // and any other mover is a sharer, who keeps the object and so its bytes. So if it is at `from` afterwards, what was
        // copied are its bytes.
        let Some(to) = place() else { return false };
        let Some(locked) = self.lock(id).filter(|locked| is_still_there(locked.row)) else {
            return false;
        };
        let object = locked.object();
        let moved = Stored {
            location: to,
            ..object
        };
        locked.row.place.store(moved.to_bits(), Relaxed);
        true
    }

    /// Gives the memory back when nothing is shared.
    pub(crate) fn trim(&self) {
        let mut list = self.list.lock();
        if list.live == 0 && list.born > 0 {
            // Free rows are all zero but for the list's links. Whoever follows an old word of the index meanwhile finds a free
            // row before and after, and has its lock, so that nobody makes it another object's under his hands.
            let _ = self.rows.discard(0..list.born as usize);
            let rest = self.rows.range(0..list.born as usize).unwrap_or_default();
            rest.iter().for_each(|row| row.next.store(0, Relaxed));
            (list.free, list.born) = (0, 0);
        }
    }

    /// Bytes of memory its rows hold.
    pub(crate) fn touched_bytes(&self) -> usize {
        let born = self.list.lock().born as usize;
        (born * ROW_BYTES).next_multiple_of(PAGE_SIZE)
    }

    /// Every row that stands for an object, and how many there should be.
    pub(crate) fn census(&self) -> (Vec<Found>, u32) {
        let (born, live) = {
            let list = self.list.lock();
            (list.born, list.live)
        };
        let found = (0..born).filter_map(|number| {
            let locked = self.lock(SharedId(number))?;
            locked.payer()?;
            Some(Found {
                id: SharedId(number),
                object: locked.object(),
                sharers: locked.count(),
                readers: locked.row.readers.load(Relaxed),
            })
        });
        (found.collect(), live)
    }

    /// Before a fork, after no pin is held and with the gate shut: waits for movers, takes the lock.
    pub(crate) fn lock_for_fork(&self) {
        while self.movers.load(Ordering::SeqCst) != 0 {
            self.parking.wait(MOMENT_NS);
        }
        self.list.lock_for_fork();
    }

    pub(crate) fn unlock_after_fork(&self) {
        self.list.unlock_after_fork();
    }

    /// In the child nobody moves or waits.
    pub(crate) fn after_fork_in_child(&self) {
        self.movers.store(0, Ordering::SeqCst);
        self.parking.after_fork_in_child();
        self.list.unlock_after_fork();
    }

    fn row(&self, id: SharedId) -> Option<&Row> {
        self.rows.get(id.0 as usize)
    }

    fn lock(&self, id: SharedId) -> Option<Locked<'_>> {
        let row = self.row(id)?;
        let lock = self.locks.get(id.0 as usize % LOCKS)?;
        let mut looks = 0;
        while lock.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            looks += 1;
            if looks < SPINS {
                core::hint::spin_loop();
            } else {
                self.parking.wait(MOMENT_NS);
            }
        }
        Some(Locked { row, lock })
    }
}

const fn sharers(group: GroupId, count: u64) -> u64 {
    (group.index() as u64) << COUNT_BITS | count
}

fn group_of(word: u64) -> GroupId {
    GroupId::new((word >> COUNT_BITS) as usize).unwrap_or(GroupId::ROOT)
}

impl Locked<'_> {
    fn object(&self) -> Stored {
        Stored::from_bits(self.row.place.load(Relaxed))
    }

    fn payer(&self) -> Option<GroupId> {
        let [first, ..] = &self.row.sharers;
        let word = first.load(Relaxed);
        (word & COUNT_MASK != 0).then(|| group_of(word))
    }

    fn count(&self) -> u64 {
        let counts = self
            .row
            .sharers
            .iter()
            .map(|word| word.load(Relaxed) & COUNT_MASK);
        counts.sum()
    }

    /// One sharer more. False: there is no room for its group.
    fn add(&self, group: GroupId) -> bool {
        for place in &self.row.sharers {
            let word = place.load(Relaxed);
            if word & COUNT_MASK == 0 {
                place.store(sharers(group, 1), Relaxed);
                return true;
            }
            if group_of(word) == group && word & COUNT_MASK < COUNT_MASK {
                place.store(word + 1, Relaxed);
                return true;
            }
        }
        false
    }

    /// One sharer less; a group without any goes and the later ones move up. False: it has none.
    fn remove(&self, group: GroupId) -> bool {
        let has = |word: &AtomicU64| {
            let word = word.load(Relaxed);
            word & COUNT_MASK != 0 && group_of(word) == group
        };
        let Some(at) = self.row.sharers.iter().position(has) else {
            return false;
        };
        let Some((place, later)) = self.row.sharers.get(at..).and_then(<[_]>::split_first) else {
            return false;
        };
        let less = place.load(Relaxed) - 1;
        place.store(less, Relaxed);
        if less & COUNT_MASK == 0 {
            let mut gap = place;
            for next in later {
                gap.store(next.load(Relaxed), Relaxed);
                gap = next;
            }
            gap.store(0, Relaxed);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GroupId = GroupId::ROOT;
    const B: GroupId = GroupId::new(7).unwrap();
    const C: GroupId = GroupId::new(9).unwrap();
    const D: GroupId = GroupId::new(255).unwrap();

    fn at(granule: u16) -> Stored {
        Stored {
            location: Location {
                segment: 3,
                granule,
            },
            stored_bytes: 500,
        }
    }

    fn shared(table: &SharedTable, first: GroupId, second: GroupId) -> SharedId {
        let id = table.reserve().unwrap();
        table.publish(id, at(1), first, second);
        id
    }

    #[test]
    fn an_owner_word_of_a_shared_object_is_never_an_entrys() {
        for number in [0, 1, u32::MAX - 1] {
            let owner = SharedId(number).owner();
            assert_eq!(SharedId::of_owner(owner), Some(SharedId(number)));
            assert_eq!(crate::EntryId::new(owner), None);
            assert_eq!(owner >> vswap_store::OWNER_BITS, 0);
        }
        assert_eq!(SharedId::of_owner((1 << ENTRY_BITS) - 1), None);
    }

    #[test]
    fn the_charge_moves_to_the_next_group_when_the_payer_leaves() {
        let table = SharedTable::new(100).unwrap();
        let id = shared(&table, A, B);
        assert_eq!(table.join(id, C, |object| object == at(1)), Some(at(1)));
        table.exit(id);
        let payer_is = |next| Left::PayerIs {
            next,
            object: at(1),
        };
        assert_eq!(table.leave(id, A), payer_is(B));
        assert_eq!(table.leave(id, B), Left::Stays { bytes: 500 });
        assert_eq!(table.leave(id, B), payer_is(C));
        assert_eq!(table.leave(id, C), Left::Stays { bytes: 500 });
        assert_eq!(table.leave(id, C), Left::Last { object: at(1) });
        assert_eq!(table.census().1, 0);
        assert_eq!(table.leave(id, C), Left::Never);
    }

    #[test]
    fn a_payer_with_another_sharer_goes_on_paying() {
        let table = SharedTable::new(100).unwrap();
        let id = shared(&table, A, A);
        table.join(id, B, |_| true).unwrap();
        table.exit(id);
        assert_eq!(table.leave(id, A), Left::Stays { bytes: 500 });
        assert_eq!(table.leave(id, B), Left::Stays { bytes: 500 });
        assert_eq!(table.leave(id, A), Left::Last { object: at(1) });
    }

    #[test]
    fn a_fourth_group_and_one_that_may_not_are_turned_away() {
        let table = SharedTable::new(100).unwrap();
        let id = shared(&table, A, B);
        assert_eq!(table.join(id, A, |_| false), None);
        assert!(table.join(id, C, |_| true).is_some());
        assert_eq!(table.join(id, D, |_| true), None);
        table.exit(id);
        let (found, live) = table.census();
        assert_eq!((found[0].sharers, found[0].readers, live), (3, 0, 1));
    }

    #[test]
    fn an_object_that_is_read_does_not_move() {
        let table = SharedTable::new(100).unwrap();
        let id = shared(&table, A, A);
        let to = at(9).location;
        let mut place = || Some(to);
        assert_eq!(table.enter(id), Some(at(1)));
        assert!(!table.relocate(id, at(1).location, &mut place, || true));
        table.exit(id);
        assert!(
            !table.relocate(id, at(2).location, &mut place, || true),
            "it is elsewhere"
        );
        assert!(
            !table.relocate(id, at(1).location, &mut place, || false),
            "the gate is shut"
        );
        assert!(table.relocate(id, at(1).location, &mut place, || true));
        assert_eq!(table.place(id), Some(at(9)));
    }

    #[test]
    fn an_object_that_ends_while_it_is_copied_does_not_move() {
        let table = SharedTable::new(100).unwrap();
        let id = shared(&table, A, A);
        let moved = table.relocate(
            id,
            at(1).location,
            &mut || {
                table.leave(id, A);
                table.leave(id, A);
                Some(at(9).location)
            },
            || true,
        );
        assert!(!moved);
        assert_eq!(table.place(id), None);
    }

    #[test]
    fn rows_are_used_again_and_an_unused_table_gives_its_memory_back() {
        let table = SharedTable::new(1000).unwrap();
        let ids: Vec<_> = (0..1000).map(|_| shared(&table, A, A)).collect();
        assert_eq!(table.reserve(), None);
        assert!(table.touched_bytes() >= 1000 * ROW_BYTES);
        for &id in &ids {
            table.leave(id, A);
            table.leave(id, A);
        }
        let again = shared(&table, A, A);
        assert_eq!(Some(&again), ids.last());
        table.trim();
        assert!(table.touched_bytes() > 0);
        table.leave(again, A);
        table.leave(again, A);
        table.trim();
        assert_eq!(table.touched_bytes(), 0);
        assert_eq!(shared(&table, A, A), SharedId(0));
        assert_eq!(shared(&table, A, A), SharedId(1));
    }
}
