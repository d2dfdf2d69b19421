//! The segment table: what each segment number stands for now.
//!
//! Rules that keep it right:
//! 1. A word changes only under the table's lock; it is read without.
//! 2. `refs` counts live granules (the low 17 bits) and holds (the rest). Whoever
//!    brings it to zero gives the segment back, exactly once.
//! 3. The log holds an open segment; writeback and cleaning hold the segment
//!    they work on. A hold is taken only on a segment that still has a
//!    reference, so a segment that is being given back is left alone.
//! 4. A sealed segment in RAM is in the age list of its group, oldest first; a
//!    dead one on a device is in the dead list. No segment is in two lists.
//! 5. The group of a segment changes only when its group ends, under the table's
//!    lock.

use core::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use bytemuck::Zeroable;
use vswap_platform::errno::Errno;
use vswap_platform::lazy::LazySlice;
use vswap_platform::sync::RankedMutex;
use vswap_units::rank;

use crate::SEGMENT_GRANULES;
use crate::groups::{GroupId, GroupSet, MAX_GROUPS};
use crate::location::SEGMENT_BITS;
use crate::word::{AtomicWord, State};

/// Rank of the table's lock: inside a lane's, outside the RAM slots'.
pub(crate) const TABLE: u8 = rank::SEGMENT + 1;
const HOLD: u32 = 1 << 17;
const _: () = assert!(SEGMENT_GRANULES < HOLD);
const GRANULES: u32 = HOLD - 1;
const TOUCHED: u16 = 1;
const MOST_HEAT: u16 = 3;

/// One row of the table: 32 bytes per 256 KiB.
#[derive(Zeroable)]
#[repr(C)]
pub(crate) struct Segment {
    /// State and place.
    pub(crate) word: AtomicWord,
    refs: AtomicU32,
    /// Granules written, set when sealed.
    used: AtomicU32,
    /// Neighbours in the list this segment is in, plus one.
    next: AtomicU32,
    prev: AtomicU32,
    /// Bit 0: read since somebody last looked. Above it, on a device, its heat.
    referenced: AtomicU16,
    /// Who pays for it.
    group: AtomicU16,
    /// When it last became the youngest of its list, counted in such events.
    age: AtomicU32,
}

impl Segment {
    /// Live granules now.
    pub(crate) fn live(&self) -> u32 {
        self.refs.load(Ordering::Relaxed) & GRANULES
    }

    /// Holds now, for the self-check.
    pub(crate) fn holds(&self) -> u32 {
        self.refs.load(Ordering::Relaxed) / HOLD
    }

    /// Granules written before it was sealed.
    pub(crate) fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// Counts an object in. **Context**: the caller has the lane of this open
    /// segment, whose hold keeps `refs` above zero.
    #[inline]
    pub(crate) fn add_live(&self, granules: u32) {
        self.refs.fetch_add(granules, Ordering::Relaxed);
    }

    /// Counts an object out. True: that was the last reference, give the
    /// segment back. `None`: more than there is (a floor above freed twice).
    #[inline]
    pub(crate) fn sub_live(&self, granules: u32) -> Option<bool> {
        let less = |refs: u32| ((refs & GRANULES) >= granules).then(|| refs - granules);
        let before = self
            .refs
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, less);
        before.ok().map(|before| before == granules)
    }

    /// Holds the segment, unless it is being given back.
    pub(crate) fn try_hold(&self) -> bool {
        let more = |refs: u32| (refs != 0).then(|| refs.saturating_add(HOLD));
        self.refs
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, more)
            .is_ok()
    }

    /// Lets go. True: that was the last reference, give the segment back.
    pub(crate) fn drop_hold(&self) -> bool {
        self.refs.fetch_sub(HOLD, Ordering::AcqRel) == HOLD
    }

    /// Remembers that it was read.
    #[inline]
    pub(crate) fn touch(&self) {
        if self.referenced.load(Ordering::Relaxed) & TOUCHED == 0 {
            self.referenced.fetch_or(TOUCHED, Ordering::Relaxed);
        }
    }

    /// A look at one on a device: its heat grows if it was read since the last
    /// one, and falls if not.
    pub(crate) fn note_look(&self) {
        let looked = |now: u16| {
            let heat = now >> 1;
            let heat = match now & TOUCHED {
                0 => heat.saturating_sub(1),
                _ => (heat + 1).min(MOST_HEAT),
            };
            Some(heat << 1)
        };
        let _ = self
            .referenced
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, looked);
    }

    /// How often looks found it read, less how often they did not.
    pub(crate) fn heat(&self) -> u16 {
        self.referenced.load(Ordering::Relaxed) >> 1
    }

    /// No heat, and not read since the last look.
    pub(crate) fn is_cold(&self) -> bool {
        self.referenced.load(Ordering::Relaxed) == 0
    }

    /// When it last became the youngest of its list; see [`Table::ages`].
    pub(crate) fn age(&self) -> u32 {
        self.age.load(Ordering::Relaxed)
    }

    /// Was it read since the last call? Takes its heat away, too.
    pub(crate) fn take_touched(&self) -> bool {
        self.referenced.swap(0, Ordering::Relaxed) != 0
    }

    /// Who pays for it.
    #[inline]
    pub(crate) fn group(&self) -> GroupId {
        GroupId::from_bits(self.group.load(Ordering::Relaxed))
    }

    /// Gives it another payer. **Context**: the table's lock; in no age list.
    pub(crate) fn set_group(&self, group: GroupId) {
        self.group.store(group.bits(), Ordering::Relaxed);
    }

    /// Makes the row that of a new open segment in `slot`.
    fn begin(&self, slot: u32, group: GroupId) {
        self.set_group(group);
        self.refs.store(HOLD, Ordering::Relaxed);
        self.used.store(0, Ordering::Relaxed);
        self.referenced.store(0, Ordering::Relaxed);
        self.word.store(self.word.load().opened(slot));
    }

    /// In a forked child: only the holds that threads of the child have.
    pub(crate) fn reset_holds(&self, held: bool) {
        let live = self.live();
        self.refs
            .store(if held { live + HOLD } else { live }, Ordering::Relaxed);
    }
}

/// A doubly linked list of segments through their rows.
pub(crate) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

/// What the table's lock protects.
pub(crate) struct Lists {
    /// First free number, plus one.
    free: u32,
    /// Numbers from here on were never used.
    fresh: u32,
    /// Sealed segments in RAM, oldest first, by group.
    sealed: [List; MAX_GROUPS],
    /// Segments without live objects whose place on a device is not yet given back.
    pub(crate) dead: List,
    /// How many times a segment became the youngest.
    ages: u32,
}

impl Default for Lists {
    fn default() -> Self {
        Self {
            free: 0,
            fresh: 0,
            sealed: [const { List::new() }; MAX_GROUPS],
            dead: List::new(),
            ages: 0,
        }
    }
}

/// The rows and their lists.
pub(crate) struct Table {
    rows: LazySlice<Segment>,
    lists: RankedMutex<Lists, TABLE>,
    /// Copy of `Lists::fresh`, for walks without the lock.
    ever: AtomicU32,
}

/// The locked table.
pub(crate) type Locked<'a> = vswap_platform::sync::Guard<'a, Lists, TABLE>;

impl Table {
    pub(crate) fn new(max_segments: u32) -> Result<Self, Errno> {
        let most = max_segments.min(1 << SEGMENT_BITS) as usize;
        Ok(Self {
            rows: LazySlice::reserve(most, most.min(1024))?,
            lists: RankedMutex::new(Lists::default()),
            ever: AtomicU32::new(0),
        })
    }

    #[inline]
    pub(crate) fn get(&self, segment: u32) -> Option<&Segment> {
        self.rows.get(segment as usize)
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        self.lists.lock()
    }

    /// Every number ever used, with its row. A walk without the lock: words may
    /// change under it.
    pub(crate) fn walk(&self) -> impl Iterator<Item = (u32, &Segment)> {
        let ever = self.ever.load(Ordering::Acquire);
        (0..ever).filter_map(|number| self.get(number).map(|row| (number, row)))
    }

    /// How many numbers were ever used.
    pub(crate) fn ever(&self) -> u32 {
        self.ever.load(Ordering::Acquire)
    }

    /// Memory the table has touched.
    pub(crate) fn touched_bytes(&self) -> usize {
        self.ever() as usize * size_of::<Segment>()
    }

    /// A new open segment of `group` in `slot`, held by the caller's lane.
    pub(crate) fn open(&self, slot: u32, group: GroupId) -> Option<u32> {
        let mut lists = self.lock();
        let number = match lists.free.checked_sub(1) {
            Some(number) => {
                lists.free = self.get(number)?.next.load(Ordering::Relaxed);
                number
            }
            None => {
                let number = lists.fresh;
                self.get(number)?;
                lists.fresh += 1;
                self.ever.store(lists.fresh, Ordering::Release);
                number
            }
        };
        self.get(number)?.begin(slot, group);
        Some(number)
    }

    /// Seals an open segment as the youngest. The lane's hold stays with the caller.
    pub(crate) fn seal(&self, number: u32, used: u32) {
        let mut lists = self.lock();
        if let Some(row) = self.get(number) {
            row.used.store(used, Ordering::Relaxed);
            row.word.store(row.word.load().in_state(State::Sealed));
            self.make_youngest(&mut lists, number);
        }
    }

    /// Puts a sealed segment at the young end of its group's age list.
    pub(crate) fn make_youngest(&self, lists: &mut Lists, number: u32) {
        let Some(row) = self.get(number) else { return };
        row.age.store(lists.ages, Ordering::Relaxed);
        lists.ages = lists.ages.wrapping_add(1);
        if let Some(list) = lists.sealed.get_mut(row.group().index()) {
            self.push_back(list, number);
        }
    }

    /// Puts a sealed segment at the old end of its group's age list.
    pub(crate) fn make_oldest(&self, lists: &mut Lists, number: u32) {
        let Some(row) = self.get(number) else { return };
        if let Some(list) = lists.sealed.get_mut(row.group().index()) {
            self.push_front(list, number);
        }
    }

    /// Takes a sealed segment out of its group's age list.
    pub(crate) fn take_from_ages(&self, lists: &mut Lists, number: u32) {
        let Some(row) = self.get(number) else { return };
        if let Some(list) = lists.sealed.get_mut(row.group().index()) {
            self.unlink(list, number);
        }
    }

    /// The oldest sealed segment of these groups.
    pub(crate) fn oldest(&self, lists: &Lists, groups: &GroupSet) -> Option<u32> {
        let age = |&number: &u32| {
            let age = self.get(number).map(|row| row.age.load(Ordering::Relaxed));
            age.map_or(0, |age| lists.ages.wrapping_sub(age))
        };
        groups
            .iter()
            .filter_map(|group| Self::front(lists.sealed.get(group.index())?))
            .max_by_key(age)
    }

    /// How many times a segment became the youngest: the age of the next one.
    pub(crate) fn ages(&self) -> u32 {
        self.lock().ages
    }

    /// How many sealed segments these groups have.
    pub(crate) fn count_sealed(lists: &Lists, groups: &GroupSet) -> u32 {
        let lists = groups.iter().filter_map(|g| lists.sealed.get(g.index()));
        lists.map(List::len).sum()
    }

    /// Every segment of every age list, with the group whose list it is in.
    pub(crate) fn every_sealed(&self, lists: &Lists) -> impl Iterator<Item = (GroupId, u32)> {
        let groups = (0..MAX_GROUPS).filter_map(GroupId::new);
        groups
            .zip(&lists.sealed)
            .flat_map(move |(group, list)| self.members(list).map(move |number| (group, number)))
    }

    /// Frees a number that is in no list.
    pub(crate) fn free(&self, lists: &mut Locked<'_>, number: u32) {
        if let Some(row) = self.get(number) {
            row.word.store(row.word.load().freed());
            row.next.store(lists.free, Ordering::Relaxed);
            lists.free = number + 1;
        }
    }

    /// The oldest of a list.
    pub(crate) fn front(list: &List) -> Option<u32> {
        list.head.checked_sub(1)
    }

    /// Adds as the youngest.
    pub(crate) fn push_back(&self, list: &mut List, number: u32) {
        let Some(row) = self.get(number) else { return };
        row.next.store(0, Ordering::Relaxed);
        row.prev.store(list.tail, Ordering::Relaxed);
        match list.tail.checked_sub(1).and_then(|tail| self.get(tail)) {
            Some(tail) => tail.next.store(number + 1, Ordering::Relaxed),
            None => list.head = number + 1,
        }
        list.tail = number + 1;
        list.len += 1;
    }

    /// Adds as the oldest.
    pub(crate) fn push_front(&self, list: &mut List, number: u32) {
        let Some(row) = self.get(number) else { return };
        row.prev.store(0, Ordering::Relaxed);
        row.next.store(list.head, Ordering::Relaxed);
        match list.head.checked_sub(1).and_then(|head| self.get(head)) {
            Some(head) => head.prev.store(number + 1, Ordering::Relaxed),
            None => list.tail = number + 1,
        }
        list.head = number + 1;
        list.len += 1;
    }

    /// Takes out a member.
    pub(crate) fn unlink(&self, list: &mut List, number: u32) {
        let Some(row) = self.get(number) else { return };
        let (next, prev) = (
            row.next.load(Ordering::Relaxed),
            row.prev.load(Ordering::Relaxed),
        );
        match prev.checked_sub(1).and_then(|prev| self.get(prev)) {
            Some(before) => before.next.store(next, Ordering::Relaxed),
            None => list.head = next,
        }
        match next.checked_sub(1).and_then(|next| self.get(next)) {
            Some(after) => after.prev.store(prev, Ordering::Relaxed),
            None => list.tail = prev,
        }
        list.len = list.len.saturating_sub(1);
    }

    /// The members of a list, oldest first (at most as many as it says it has).
    pub(crate) fn members(&self, list: &List) -> impl Iterator<Item = u32> {
        let mut at = list.head;
        (0..list.len).map_while(move |_| {
            let number = at.checked_sub(1)?;
            at = self.get(number)?.next.load(Ordering::Relaxed);
            Some(number)
        })
    }

    /// Numbers on the free list, for the self-check.
    pub(crate) fn count_free(&self, lists: &Locked<'_>) -> u32 {
        let (mut count, mut at) = (0, lists.free);
        while let Some(row) = at.checked_sub(1).and_then(|number| self.get(number)) {
            count += 1;
            if count > lists.fresh {
                break;
            }
            at = row.next.load(Ordering::Relaxed);
        }
        count
    }

    pub(crate) fn lock_for_fork(&self) {
        self.lists.lock_for_fork();
    }

    pub(crate) fn unlock_after_fork(&self) {
        self.lists.unlock_after_fork();
    }
}

impl List {
    const fn new() -> Self {
        Self {
            head: 0,
            tail: 0,
            len: 0,
        }
    }

    /// How many members.
    pub(crate) const fn len(&self) -> u32 {
        self.len
    }
}
