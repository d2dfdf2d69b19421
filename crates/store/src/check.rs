//! The laws of this floor, checked on a store at rest.
//!
//! 1. Every live object is where its owner says: its header names the owner
//!    and the length, and its bytes are intact.
//! 2. A segment's live granules are the sum of its live objects.
//! 3. RAM slots: in use + hot + cold = ever used, and each is used once.
//! 4. Places held on devices = segments on devices, each held by this process.
//! 5. Sealed segments are in the age list and nothing else is.
//! 6. Charges: each group's own are the segments it pays for, and its total is
//!    its own and its children's; all together are all segments there are.
//! 7. Numbers: free + in some state = ever used.

use vswap_units::PAGE_SIZE;

use crate::codec::Workspace;
use crate::groups::{GroupId, Resource};
use crate::location::Stored;
use crate::segment::Segment;
use crate::store::Store;
use crate::word::{Rest, State};

/// Broken laws, one line each, at most [`Report::MOST`].
#[derive(Debug, Default)]
pub struct Report {
    /// The lines.
    pub broken: Vec<String>,
    /// How many there were, also those without a line.
    pub count: usize,
}

impl Report {
    /// Lines kept: the first ones tell.
    pub const MOST: usize = 32;

    fn add(&mut self, line: String) {
        self.count += 1;
        if self.broken.len() < Self::MOST {
            self.broken.push(line);
        }
    }

    fn law(&mut self, holds: bool, line: impl FnOnce() -> String) {
        if !holds {
            self.add(line());
        }
    }

    /// Does every law hold?
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.count == 0
    }
}

impl Store {
    /// Checks everything against the objects that should be `live`, reading
    /// each of them. **Context**: nobody uses the store meanwhile; allocates.
    pub fn check(
        &self,
        live: &mut dyn Iterator<Item = (u64, Stored)>,
        ws: &mut Workspace,
    ) -> Report {
        let mut report = Report::default();
        let mut sums = vec![0_u32; self.table.ever() as usize];
        let mut page = vec![0_u8; PAGE_SIZE];
        for (owner, at) in live {
            match sums.get_mut(at.location.segment as usize) {
                Some(sum) => *sum += at.granules(),
                None => report.add(format!(
                    "owner {owner:#x} names segment {}, which never was",
                    at.location.segment
                )),
            }
            if let Err(error) = self.read(at, owner, &mut page, ws) {
                report.add(error.to_string());
            }
        }
        self.check_segments(&sums, &mut report);
        self.check_lists(&mut report);
        self.check_slots(&mut report);
        self.check_charges(&mut report);
        report
    }

    fn check_segments(&self, sums: &[u32], report: &mut Report) {
        let mut on_devices = 0;
        for ((number, row), sum) in self.table.walk().zip(sums) {
            let state = row.word.load().state();
            if state != State::Free {
                let live = row.live();
                report.law(live == *sum, || {
                    format!("segment {number} counts {live} live granules, its objects have {sum}")
                });
                report.law(row.holds() == u32::from(state == State::Open), || {
                    format!(
                        "segment {number} in state {state:?} is held {} times",
                        row.holds()
                    )
                });
            }
            if let Rest::Device(place) = row.word.load().rest() {
                on_devices += 1;
                report.law(self.devices.holds(place), || {
                    format!("segment {number} is at {place:?}, which this process does not hold")
                });
            }
        }
        let (held, counted) = (
            self.devices.held_places(),
            self.counters.device_segments.get(),
        );
        report.law(held == on_devices && counted == on_devices, || {
            format!("{on_devices} segments on devices, {held} places held, {counted} counted")
        });
    }

    fn check_lists(&self, report: &mut Report) {
        let count = |state: State| {
            let is = |row: &Segment| row.word.load().state() == state;
            self.table.walk().filter(|(_, row)| is(row)).count()
        };
        let (sealed, dead, free) = (count(State::Sealed), count(State::Dead), count(State::Free));
        let lists = self.table.lock();
        let in_state = |number: u32, state| {
            self.table
                .get(number)
                .is_some_and(|row| row.word.load().state() == state)
        };
        let group_of = |number| self.table.get(number).map(Segment::group);
        let (mut listed, mut lawful) = (0, 0);
        for (group, number) in self.table.every_sealed(&lists) {
            listed += 1;
            let right = in_state(number, State::Sealed) && group_of(number) == Some(group);
            lawful += usize::from(right);
        }
        report.law(listed == sealed && lawful == sealed, || {
            format!("{sealed} sealed segments, {lawful} of them in age lists of {listed}")
        });
        let buried = self
            .table
            .members(&lists.dead)
            .filter(|&n| in_state(n, State::Dead))
            .count();
        report.law(buried == dead && lists.dead.len() as usize == dead, || {
            format!(
                "{dead} dead segments, {buried} of them in a list of {}",
                lists.dead.len()
            )
        });
        let listed_free = self.table.count_free(&lists) as usize;
        report.law(listed_free == free, || {
            format!("{free} free numbers, {listed_free} in their list")
        });
    }

    fn check_charges(&self, report: &mut Report) {
        let groups = || core::iter::once(GroupId::ROOT).chain(self.groups.all());
        for group in groups() {
            let held = self.groups.usage(group);
            let found = [Resource::Ram, Resource::Device].map(|what| self.count_own(group, what));
            report.law([held.own_ram, held.own_device] == found, || {
                format!("{group:?} has {found:?} segments in RAM and on devices, {held:?} charged")
            });
            let (mut ram, mut device) = (held.own_ram, held.own_device);
            for child in groups().filter(|&child| self.groups.parent(child) == Some(group)) {
                let below = self.groups.usage(child);
                (ram, device) = (ram + below.ram, device + below.device);
            }
            report.law((held.ram, held.device) == (ram, device), || {
                format!(
                    "{group:?} with its children has {ram} and {device} segments, {held:?} charged"
                )
            });
        }
        let (whole, all) = (self.usage(), self.groups.usage(GroupId::ROOT));
        report.law(whole.ram_segments == all.ram, || {
            format!(
                "{} segments in RAM, {} charged to groups",
                whole.ram_segments, all.ram
            )
        });
    }

    fn check_slots(&self, report: &mut Report) {
        let mut slots: Vec<u32> = self
            .table
            .walk()
            .filter_map(|(_, row)| match row.word.load().rest() {
                Rest::Ram(slot) => Some(slot),
                Rest::Device(_) | Rest::Nowhere => None,
            })
            .collect();
        let used = slots.len();
        slots.sort_unstable();
        slots.dedup();
        report.law(slots.len() == used, || {
            "two segments are in one RAM slot".to_owned()
        });
        let (in_use, hot, cold, ever) = self.ram.census();
        report.law(in_use as usize == used && in_use + hot + cold == ever, || {
            format!("RAM slots: {used} named, {in_use} in use, {hot} hot, {cold} cold, {ever} ever used")
        });
    }
}
