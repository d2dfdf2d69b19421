//! Tiers: the coldest segments of a fast device move down to a slower one before
//! it is full, and those that are read again and again move up.
//!
//! **The argument.** Priorities say which device is the better one. Writeback fills
//! it first, so without anything else it would be full of what was written first,
//! which is the coldest there is, and all that is warmer would go to the worse one. So
//! a device with less than a sixteenth of its places free is emptied until an eighth
//! is: of the segment that became young longest ago and was not read since the last
//! looks. What comes from writeback then finds room on the better device, where
//! it is read from while it still is likely to be.
//! Once a second a *look* turns "read since the last look" into a small number for
//! each segment on a device (its heat), which grows with every look that finds it read
//! and falls with every other. Two looks, not two reads: a scan reads
//! a segment dozens of times within milliseconds and never again. What is hot moves
//! up as long as that leaves a sixteenth free; where there is no such room, the
//! cold make it first. Half-dead segments stay: they are the cleaner's, and a
//! place costs the same whatever lives in it.
//!
//! **Nothing goes round in circles**: what moves down was silent for as many looks
//! as its heat was high, what moves up was read in two, so a segment moves
//! at most once in two seconds, and only when its use did change. Moving up never
//! takes what would make others move down, and is limited per look.
//! After a failure nothing is tried until the next look, and that segment later still.
//!
//! **If this is wrong**: data that is written once and never read again is written
//! twice, first to the fast device and later to the slow one, in whole segments, when
//! the writer has nothing else to do. A workload that changes what is hot every
//! few seconds pays a read and a write of 256 KiB per change, 8 MiB a second upwards
//! at most.
//!
//! Places that other processes of the tree need as well stay where they are: moving ours
//! would free nothing. Devices of the same priority are one tier.

use vswap_platform::errno::Errno;
use vswap_units::PAGE_SIZE;

use crate::moving::{Carrier, Choice};
use crate::segment::Segment;
use crate::store::Store;
use crate::word::{MAX_DEVICES, Place, Rest, State};
use crate::{GRANULE_BYTES, SEGMENT_BYTES, SEGMENT_GRANULES};

/// Time between two looks.
const LOOK_NS: u64 = 1_000_000_000;
/// Segments that may move up per look: 8 MiB.
const PROMOTIONS: u32 = 32;
/// Looks in a row that make a segment hot.
const HOT: u16 = 2;
/// A device of fewer places is no tier to keep room on.
const SMALLEST: u64 = 16;

/// What is remembered from step to step; of one thread.
#[derive(Debug, Default)]
pub struct Tiers {
    carrier: Option<Carrier>,
    next_look_ns: u64,
    /// The last step moved something: there may be more before the next look.
    busy: bool,
    promotions_left: u32,
    /// Devices that are being emptied until enough is free, a bit each.
    emptying: u16,
}

/// A device that takes writes, at one moment.
#[derive(Clone, Copy)]
struct Rung {
    priority: i32,
    places: u64,
    free: u64,
}

impl Rung {
    /// Fewer free places than this are too few.
    fn low(&self) -> u64 {
        (self.places / 16).max(1)
    }

    /// As many as this are enough.
    fn high(&self) -> u64 {
        (self.places / 8).max(self.low() + 1)
    }

    /// One more segment leaves enough.
    fn has_room(&self) -> bool {
        self.free > self.low()
    }
}

/// All devices that take writes, by number.
struct Ladder([Option<Rung>; MAX_DEVICES]);

impl Ladder {
    fn of(store: &Store) -> Self {
        let mut rungs = [None; MAX_DEVICES];
        for (number, device) in store.devices.each().filter(|(_, device)| device.is_open()) {
            if let Some(rung) = rungs.get_mut(usize::from(number)) {
                *rung = Some(Rung {
                    priority: device.priority,
                    places: u64::from(device.capacity()),
                    free: device.free_places(),
                });
            }
        }
        Self(rungs)
    }

    fn get(&self, number: u8) -> Option<&Rung> {
        self.0.get(usize::from(number))?.as_ref()
    }

    fn each(&self) -> impl Iterator<Item = (u8, &Rung)> {
        (0_u8..)
            .zip(&self.0)
            .filter_map(|(number, rung)| Some((number, rung.as_ref()?)))
    }

    /// The devices beside `number` for which this holds, a bit each.
    fn those(&self, number: u8, which: impl Fn(&Rung, &Rung) -> bool) -> u16 {
        let Some(from) = self.get(number) else {
            return 0;
        };
        self.each()
            .filter(|(_, rung)| which(from, rung))
            .fold(0, |mask, (number, _)| mask | 1 << number)
    }

    fn down(&self, number: u8) -> u16 {
        self.those(number, |from, to| {
            to.priority < from.priority && to.has_room()
        })
    }

    fn up(&self, number: u8) -> u16 {
        self.those(number, |from, to| to.priority > from.priority)
    }

    fn up_with_room(&self, number: u8) -> u16 {
        self.those(number, |from, to| {
            to.priority > from.priority && to.has_room()
        })
    }
}

/// Which way a segment goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Down,
    Up,
}

impl Way {
    fn targets(self, ladder: &Ladder, from: u8) -> u16 {
        match self {
            Self::Down => ladder.down(from),
            Self::Up => ladder.up_with_room(from),
        }
    }
}

impl Store {
    /// Moves one segment between devices of different priority, if one should be.
    /// False: nothing to do before the next look. **Context**: no lock of rank SEGMENT
    /// or above; waits for I/O; one thread at a time with one `tiers`.
    pub fn migrate_step(&self, tiers: &mut Tiers, now_ns: u64) -> bool {
        let is_time = now_ns >= tiers.next_look_ns;
        if !is_time && !tiers.busy {
            return false;
        }
        let has_tiers = self.has_tiers();
        if is_time {
            tiers.next_look_ns = now_ns.saturating_add(LOOK_NS);
            tiers.promotions_left = PROMOTIONS;
            if has_tiers {
                self.look_at_heat();
            }
        }
        tiers.busy = has_tiers && self.move_one(tiers, &Ladder::of(self));
        if !tiers.busy {
            tiers.carrier = None;
        }
        tiers.busy
    }

    /// Do devices of different priority take writes?
    fn has_tiers(&self) -> bool {
        let open = self.devices.each().filter(|(_, device)| device.is_open());
        let mut priorities = open.map(|(_, device)| device.priority);
        let first = priorities.next();
        priorities.any(|priority| Some(priority) != first)
    }

    fn look_at_heat(&self) {
        let rests = |row: &Segment| row.word.load().state() == State::Stored;
        for (_, row) in self.table.walk().filter(|(_, row)| rests(row)) {
            row.note_look();
        }
    }

    fn move_one(&self, tiers: &mut Tiers, ladder: &Ladder) -> bool {
        // What is hot comes first: it may ask for room.
        if let Some(segment) = self.find_hot(tiers, ladder) {
            tiers.promotions_left -= 1;
            return self.migrate(segment, Way::Up, tiers, ladder);
        }
        let coldest = self.find_cold(tiers, ladder);
        coldest.is_some_and(|segment| self.migrate(segment, Way::Down, tiers, ladder))
    }

    /// The hottest segment that has a better device to go to. Where there is one
    /// but without room, that device is to be emptied a little.
    fn find_hot(&self, tiers: &mut Tiers, ladder: &Ladder) -> Option<u32> {
        if tiers.promotions_left == 0 {
            return None;
        }
        let (mut best, mut wanted) = (None, 0);
        for (number, row, place) in self.movable() {
            if row.heat() < HOT || row.live() < SEGMENT_GRANULES / 2 {
                continue;
            }
            let allowed = self.allowed_devices(row);
            if ladder.up_with_room(place.device) & allowed == 0 {
                wanted |= ladder.up(place.device) & allowed;
            } else if best.is_none_or(|(heat, _)| row.heat() > heat)
                && self.devices.is_ours_alone(place)
            {
                best = Some((row.heat(), number));
            }
        }
        tiers.emptying |= wanted;
        best.map(|(_, number)| number)
    }

    /// The coldest segment of a device that has too little free.
    fn find_cold(&self, tiers: &mut Tiers, ladder: &Ladder) -> Option<u32> {
        for (number, rung) in ladder.each() {
            if rung.free < rung.low() {
                tiers.emptying |= 1 << number;
            }
            if rung.free >= rung.high() || rung.places < SMALLEST {
                tiers.emptying &= !(1 << number);
            }
            if tiers.emptying >> number & 1 == 0 {
                continue;
            }
            let coldest = self.coldest_on(number, ladder.down(number));
            if coldest.is_some() {
                return coldest;
            }
            tiers.emptying &= !(1 << number);
        }
        None
    }

    fn coldest_on(&self, device: u8, targets: u16) -> Option<u32> {
        let ages = self.table.ages();
        self.movable()
            .filter(|(_, row, place)| place.device == device && row.is_cold())
            .filter(|(_, row, _)| self.allowed_devices(row) & targets != 0)
            .filter(|&(_, _, place)| self.devices.is_ours_alone(place))
            .max_by_key(|(_, row, _)| ages.wrapping_sub(row.age()))
            .map(|(number, ..)| number)
    }

    /// Segments that rest on devices with something in them.
    fn movable(&self) -> impl Iterator<Item = (u32, &Segment, Place)> {
        self.table.walk().filter_map(|(number, row)| {
            let word = row.word.load();
            match word.rest() {
                Rest::Device(place) if word.state() == State::Stored && row.live() > 0 => {
                    Some((number, row, place))
                }
                _ => None,
            }
        })
    }

    /// The devices that its group may use, a bit each.
    fn allowed_devices(&self, row: &Segment) -> u16 {
        self.groups
            .forbidden_devices(row.group())
            .map_or(0, |forbidden| !forbidden)
    }

    fn migrate(&self, segment: u32, way: Way, tiers: &mut Tiers, ladder: &Ladder) -> bool {
        let Ok(carrier) = tiers.carrier() else {
            return false;
        };
        let Some((row, place)) = self.claim_stored(segment) else {
            return false;
        };
        let used = row.used() as usize * GRANULE_BYTES;
        let bytes = used.next_multiple_of(PAGE_SIZE).min(SEGMENT_BYTES) as u64;
        let mut choice = Choice {
            forbidden: !way.targets(ladder, place.device),
            ram: &mut || false,
            young: false,
            damaged: false,
        };
        match self.carry(segment, row, place, carrier, &mut choice) {
            Ok(_) => self.count_migrated(way, bytes),
            Err(_) => self.leave_alone(segment, way),
        }
    }

    fn count_migrated(&self, way: Way, bytes: u64) -> bool {
        match way {
            Way::Down => self.counters.demoted_bytes.add(bytes),
            Way::Up => self.counters.promoted_bytes.add(bytes),
        };
        true
    }

    /// A segment that did not move stays, and others are tried before it.
    fn leave_alone(&self, segment: u32, way: Way) -> bool {
        if let Some(row) = self.table.get(segment) {
            match way {
                Way::Down => row.touch(),
                Way::Up => drop(row.take_touched()),
            }
        }
        false
    }
}

impl Tiers {
    fn carrier(&mut self) -> Result<&Carrier, Errno> {
        match self.carrier.take() {
            Some(carrier) => Ok(self.carrier.insert(carrier)),
            None => Ok(self.carrier.insert(Carrier::new()?)),
        }
    }
}
