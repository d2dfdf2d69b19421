//! Does what is on a device fit elsewhere? The look before a swapoff touches anything.
//!
//! Not all that is there may go everywhere: a group may be kept off devices, and has limits. So it is a question of who goes
//! where, and room alone does not answer it: places are given out tentatively, and given up again for others by whoever has
//! another one (augmenting paths), until all have one or nobody can move. Few groups and fewer devices make it cheap.
//!
//! Limits are looked at group by group. Where several groups share what is left under a parent's limit, this may find room that
//! is there for one of them only; swapoff then ends on the way, with the device on.

use vswap_units::{Bytes, PAGE_SIZE};

use crate::SEGMENT_BYTES;
use crate::groups::{GroupId, Resource};
use crate::object::{HEADER_BYTES, granules_of};
use crate::slots::{MAX_SLOT_DEVICES, SlotsOff};
use crate::store::Store;
use crate::word::MAX_DEVICES;
use crate::{GRANULE_BYTES, device::Attached};

/// Room: devices for segments, devices for slots, RAM.
const BINS: usize = MAX_DEVICES + MAX_SLOT_DEVICES + 1;
const RAM: usize = BINS - 1;
/// Pages of a segment that do not compress.
const PAGES_PER_SEGMENT: u64 = (SEGMENT_BYTES / (granules_of(PAGE_SIZE) * GRANULE_BYTES)) as u64;
const _: () = assert!(PAGES_PER_SEGMENT > 60 && HEADER_BYTES < PAGE_SIZE);

type Rooms = [u64; BINS];

/// What somebody has to bring elsewhere.
struct Load {
    amount: u64,
    /// How much of it may go to each bin.
    may: Rooms,
    /// How much of it has a place there.
    given: Rooms,
}

impl Load {
    const fn new(amount: u64, may: Rooms) -> Self {
        Self {
            amount,
            may,
            given: [0; BINS],
        }
    }

    fn may_more(&self, bin: usize) -> u64 {
        let (may, given) = (self.may.get(bin), self.given.get(bin));
        may.zip(given)
            .map_or(0, |(may, given)| may.saturating_sub(*given))
    }

    fn given(&self, bin: usize) -> u64 {
        self.given.get(bin).copied().unwrap_or(0)
    }
}

/// How much of all loads finds no room.
fn excess(loads: &mut [Load], mut rooms: Rooms) -> u64 {
    let mut over = 0;
    for first in 0..loads.len() {
        let mut left = loads.get(first).map_or(0, |load| load.amount);
        while left > 0 {
            match give_once(loads, &mut rooms, first, left) {
                0 => break,
                given => left -= given,
            }
        }
        over += left;
    }
    over
}

/// One hop of a path: `load` goes to `bin`, from where `load` of the hop before it was, if any.
#[derive(Clone, Copy)]
struct Hop {
    load: usize,
    bin: usize,
    before: Option<usize>,
}

/// Gives some of a load a place, others making room where they can. Returns how much; 0: there is no way.
fn give_once(loads: &mut [Load], rooms: &mut Rooms, first: usize, wanted: u64) -> u64 {
    let mut hops: Vec<Hop> = Vec::new();
    let mut seen = [false; BINS];
    // Who may move next, and by which hop that came about.
    let mut movers = vec![(first, None)];
    let mut at = 0;
    while let Some(&(mover, before)) = movers.get(at) {
        at += 1;
        for bin in 0..BINS {
            let may = loads.get(mover).map_or(0, |load| load.may_more(bin));
            let Some(met) = seen.get_mut(bin).filter(|met| !**met && may > 0) else {
                continue;
            };
            *met = true;
            hops.push(Hop {
                load: mover,
                bin,
                before,
            });
            let hop = hops.len() - 1;
            if rooms.get(bin).is_some_and(|room| *room > 0) {
                return give_along(loads, rooms, &hops, hop, wanted);
            }
            let there = loads.iter().enumerate();
            let there = there.filter(|(other, load)| *other != mover && load.given(bin) > 0);
            movers.extend(there.map(|(other, _)| (other, Some(hop))));
        }
    }
    0
}

/// Moves as much as goes along the whole path that ends with hop `last`.
fn give_along(
    loads: &mut [Load],
    rooms: &mut Rooms,
    hops: &[Hop],
    last: usize,
    wanted: u64,
) -> u64 {
    let path: Vec<Hop> = core::iter::successors(hops.get(last), |hop| hops.get(hop.before?))
        .copied()
        .collect();
    let end = path.first().map_or(0, |hop| hop.bin);
    let mut much = wanted.min(rooms.get(end).copied().unwrap_or(0));
    for (i, hop) in path.iter().enumerate() {
        if let Some(load) = loads.get(hop.load) {
            much = much.min(load.may_more(hop.bin));
            if let Some(from) = path.get(i + 1) {
                much = much.min(load.given(from.bin));
            }
        }
    }
    for (i, hop) in path.iter().enumerate() {
        if let Some(load) = loads.get_mut(hop.load) {
            if let Some(given) = load.given.get_mut(hop.bin) {
                *given += much;
            }
            let from = path.get(i + 1).map(|from| from.bin);
            if let Some(given) = from.and_then(|from| load.given.get_mut(from)) {
                *given -= much;
            }
        }
    }
    if let Some(room) = rooms.get_mut(end) {
        *room -= much;
    }
    much
}

fn set(rooms: &mut Rooms, bin: usize, room: u64) {
    if let Some(place) = rooms.get_mut(bin) {
        *place = room;
    }
}

impl Store {
    /// How much of what a device that takes no more writes has, by group in segments, fits neither on other devices nor in so
    /// much more RAM.
    pub(crate) fn excess_of_segments(
        &self,
        leaving: &Attached,
        held: &[(GroupId, u64)],
        ram: Bytes,
    ) -> Bytes {
        let segment = SEGMENT_BYTES as u64;
        let rooms = self.rooms(leaving.frees_space_on(), ram, 1);
        let mut loads: Vec<Load> = held
            .iter()
            .map(|&(group, amount)| Load::new(amount, self.may_use(group, u64::MAX, 1)))
            .collect();
        for load in &mut loads {
            // Segments do not go to slots.
            for slots in MAX_DEVICES..RAM {
                set(&mut load.may, slots, 0);
            }
        }
        Bytes(excess(&mut loads, rooms) * segment)
    }

    /// The same of a slots device, and by group in pages: as if none of them compressed, since those that do are in the log.
    #[must_use]
    pub fn excess_of_pages(&self, off: &SlotsOff, held: &[(GroupId, u64)], ram: Bytes) -> Bytes {
        let rooms = self.rooms(off.frees_space_on(), ram, PAGES_PER_SEGMENT);
        let mut loads: Vec<Load> = held
            .iter()
            .map(|&(group, amount)| {
                let devices = self.groups.left(group, Resource::Device);
                Load::new(amount, self.may_use(group, devices, PAGES_PER_SEGMENT))
            })
            .collect();
        Bytes(excess(&mut loads, rooms) * PAGE_SIZE as u64)
    }

    /// What there is, in units of which a segment takes `each`.
    fn rooms(&self, file_system: Option<u64>, ram: Bytes, each: u64) -> Rooms {
        let mut rooms = [0; BINS];
        for (number, device) in self.devices.each().filter(|(_, device)| device.is_open()) {
            set(
                &mut rooms,
                usize::from(number),
                device.free_segments(file_system) * each,
            );
        }
        for (number, room) in self.slots.rooms(file_system) {
            set(&mut rooms, MAX_DEVICES + usize::from(number), room);
        }
        let segments = (ram.0 / SEGMENT_BYTES as u64).min(self.ram.room());
        set(&mut rooms, RAM, segments * each);
        rooms
    }

    /// How much of a group's may go where; `devices` segments at most to each device.
    fn may_use(&self, group: GroupId, devices: u64, each: u64) -> Rooms {
        let mut may = [0; BINS];
        if let Some(forbidden) = self.groups.forbidden_devices(group) {
            for device in (0..MAX_DEVICES).filter(|device| forbidden >> device & 1 == 0) {
                set(&mut may, device, devices.saturating_mul(each));
            }
        }
        if let Some(forbidden) = self.groups.forbidden_slots(group) {
            for device in (0..MAX_SLOT_DEVICES).filter(|device| forbidden >> device & 1 == 0) {
                set(&mut may, MAX_DEVICES + device, u64::MAX);
            }
        }
        let ram = self.groups.left(group, Resource::Ram);
        set(&mut may, RAM, ram.saturating_mul(each));
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bins(which: &[(usize, u64)]) -> Rooms {
        let mut rooms = [0; BINS];
        for &(bin, room) in which {
            rooms[bin] = room;
        }
        rooms
    }

    #[test]
    fn what_may_go_anywhere_makes_room_for_what_may_not() {
        let anywhere = Load::new(10, bins(&[(0, 99), (1, 99), (RAM, 99)]));
        let only_0 = Load::new(6, bins(&[(0, 99)]));
        let only_1 = Load::new(5, bins(&[(1, 99)]));
        let rooms = bins(&[(0, 6), (1, 8), (RAM, 7)]);
        let mut loads = [anywhere, only_0, only_1];
        assert_eq!(excess(&mut loads, rooms), 0);
        assert_eq!(loads[0].given(RAM), 7);
        assert_eq!(loads[1].given(0), 6);
        let over: Vec<u64> = loads
            .iter()
            .map(|load| load.given.iter().sum::<u64>())
            .collect();
        assert_eq!(over, [10, 6, 5]);
    }

    #[test]
    fn what_fits_nowhere_is_told_exactly() {
        let barred = Load::new(10, bins(&[(RAM, 4)]));
        let free = Load::new(10, bins(&[(0, 99), (RAM, 99)]));
        let rooms = bins(&[(0, 3), (RAM, 9)]);
        assert_eq!(excess(&mut [barred, free], rooms), 8);
    }

    #[test]
    fn a_chain_of_moves_is_found() {
        // 0 sits where 1 could, 1 where 2 must.
        let a = Load::new(4, bins(&[(0, 4), (1, 4)]));
        let b = Load::new(4, bins(&[(0, 4), (2, 4)]));
        let c = Load::new(4, bins(&[(0, 4)]));
        let rooms = bins(&[(0, 4), (1, 4), (2, 4)]);
        assert_eq!(excess(&mut [a, b, c], rooms), 0);
    }
}
