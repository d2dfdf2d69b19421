//! Taking a device off while everything runs.
//!
//! The cost is one pass over the segment table and one read and write of each
//! segment there: nobody who owns a page is looked for, no page is decoded, no
//! descriptor changes. Each segment goes to the next device that takes it, in
//! the order of priorities, and to RAM where none does: what was written back is
//! the coldest there is, and RAM is what the program came to save.
//!
//! 1. The device takes no more writes; writes under way end. From here on the
//!    number of segments there only falls.
//! 2. Does all of it fit elsewhere, whose it may be where (`fit.rs`)? If not, nothing has been touched.
//! 3. Segment by segment, first those of groups that may not go everywhere. One that the cleaner is emptying is met on the next
//!    pass; dead ones just give their places back.
//! 4. When no word names the device, it leaves its slot; readers that had pinned
//!    it are waited for.
//!
//! Given up at any point, or failing, the device takes writes again; what has
//! moved stays where it is now. Places that other processes of the tree need stay
//! theirs: each process has a list of devices and holds of its own.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

use vswap_platform::errno::Errno;
use vswap_units::Bytes;

use crate::device::{Attached, Detached};
use crate::error::StoreError;
use crate::groups::GroupId;
use crate::moving::{Carrier, Choice};
use crate::store::Store;
use crate::word::{Place, Rest, State};
use crate::{GRANULE_BYTES, SEGMENT_BYTES};

/// How far a swapoff is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Segments moved so far (of a slots device: pages).
    pub moved: u32,
    /// Segments, or pages, there were. Those freed meanwhile are never moved.
    pub total: u32,
}

/// Why a device could not be taken off. It is on, and all that is there is readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SwapoffError {
    /// No such device is on.
    NotOn,
    /// Somebody is taking it off already.
    Draining,
    /// What is there does not fit elsewhere. Nothing was moved.
    DoesNotFit {
        /// How much of it fits nowhere.
        excess: Bytes,
    },
    /// A segment could not be moved.
    Store(StoreError),
    /// No memory to move a segment through.
    Memory(Errno),
    /// Given up by the caller.
    Cancelled,
}

impl fmt::Display for SwapoffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOn => f.write_str("no such swap device is on"),
            Self::Draining => f.write_str("the swap device is being taken off already"),
            Self::DoesNotFit { excess } => write!(
                f,
                "{excess} of what is on the swap device fit neither in RAM nor on another device"
            ),
            Self::Store(error) => write!(f, "a segment could not be moved: {error}"),
            Self::Memory(errno) => write!(f, "no memory to move segments through ({errno})"),
            Self::Cancelled => f.write_str("given up"),
        }
    }
}

impl core::error::Error for SwapoffError {}

/// A device on its way off.
pub struct Swapoff {
    number: u8,
    device: Arc<Attached>,
    carrier: Carrier,
    /// Segments that may go anywhere too: after those that may not, for which they would take the room.
    all: bool,
    /// The segment looked at next.
    next: u32,
    /// Segments met in this pass that could not be moved yet.
    left: u32,
    progress: Progress,
}

impl Swapoff {
    /// How far it is.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.progress
    }
}

/// What a step did.
pub enum Step {
    /// One segment moved.
    Moved,
    /// What is left is being worked on by others: come again in a moment.
    Waiting,
    /// Nothing names the device any more.
    Empty,
}

impl Store {
    /// Takes a device off: [`Store::swapoff_begin`] and its steps in one.
    /// `progress` is told of each segment moved; false gives up. RAM may be used
    /// up to `ram`. **Context**: no lock of rank SEGMENT or above; waits for I/O.
    ///
    /// # Errors
    /// See [`SwapoffError`]; the device is on then.
    pub fn swapoff(
        &self,
        name: &str,
        ram: Bytes,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Progress, SwapoffError> {
        let number = self.devices.find(name).ok_or(SwapoffError::NotOn)?;
        let mut off = self.swapoff_begin(number, ram)?;
        loop {
            match self.swapoff_step(&mut off, &mut || true) {
                Ok(Step::Moved) if !progress(off.progress) => {
                    self.swapoff_cancel(off);
                    return Err(SwapoffError::Cancelled);
                }
                Ok(Step::Moved) => {}
                Ok(Step::Waiting) => vswap_platform::thread::yield_now(),
                Ok(Step::Empty) => {
                    let done = off.progress;
                    self.swapoff_end(off).close();
                    return Ok(done);
                }
                Err(error) => {
                    self.swapoff_cancel(off);
                    return Err(error);
                }
            }
        }
    }

    /// Begins to take a device off, if all of it fits on other devices and in
    /// `ram` more bytes of RAM.
    ///
    /// # Errors
    /// See [`SwapoffError`]; nothing was changed.
    pub fn swapoff_begin(&self, number: u8, ram: Bytes) -> Result<Swapoff, SwapoffError> {
        let device = self.devices.get(number).ok_or(SwapoffError::NotOn)?;
        let carrier = Carrier::new().map_err(SwapoffError::Memory)?;
        if !device.drain() {
            return Err(SwapoffError::Draining);
        }
        self.devices.recount();
        let held = self.held_on(number);
        let total: u64 = held.iter().map(|(_, segments)| segments).sum();
        let ram = uncleaned(ram, self.live_on(number), total);
        let excess = self.excess_of_segments(&device, &held, ram);
        if excess.0 > 0 {
            self.turn_on(&device);
            return Err(SwapoffError::DoesNotFit { excess });
        }
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        Ok(Swapoff {
            number,
            device,
            carrier,
            all: false,
            next: 0,
            left: 0,
            progress: Progress { moved: 0, total },
        })
    }

    /// Moves the next segment. `ram` says whether RAM has room at that moment.
    ///
    /// # Errors
    /// `Store`: the segment stays; the step may be tried again, or given up.
    pub fn swapoff_step(
        &self,
        off: &mut Swapoff,
        ram: &mut dyn FnMut() -> bool,
    ) -> Result<Step, SwapoffError> {
        loop {
            if self.move_next(off, ram)? {
                off.progress.moved += 1;
                return Ok(Step::Moved);
            }
            off.next = 0;
            if core::mem::replace(&mut off.all, true) {
                break;
            }
            off.left = 0;
        }
        self.give_back_places(usize::MAX);
        let left = core::mem::take(&mut off.left);
        if left > 0 || self.names(off.number) {
            return Ok(Step::Waiting);
        }
        Ok(Step::Empty)
    }

    /// Moves the next segment of this pass; false at its end.
    fn move_next(
        &self,
        off: &mut Swapoff,
        ram: &mut dyn FnMut() -> bool,
    ) -> Result<bool, SwapoffError> {
        while let Some(row) = (off.next < self.table.ever())
            .then(|| self.table.get(off.next))
            .flatten()
        {
            let is_its_turn = off.all || self.groups.forbidden_devices(row.group()) != Some(0);
            if is_its_turn && on_device(row.word.load().rest(), off.number) {
                if self.move_off(off.next, off, ram)? {
                    off.next += 1;
                    return Ok(true);
                }
                off.left += 1;
            }
            off.next += 1;
        }
        Ok(false)
    }

    fn move_off(
        &self,
        segment: u32,
        off: &Swapoff,
        ram: &mut dyn FnMut() -> bool,
    ) -> Result<bool, SwapoffError> {
        let Some((row, place)) = self.claim_stored(segment) else {
            return Ok(false);
        };
        let mut choice = Choice {
            forbidden: 0,
            ram,
            young: false,
            damaged: true,
        };
        self.carry(segment, row, place, &off.carrier, &mut choice)
            .map(|_| true)
            .map_err(SwapoffError::Store)
    }

    /// Takes the empty device out of the list, after [`Step::Empty`]. Its
    /// descriptors are the caller's to close.
    pub fn swapoff_end(&self, off: Swapoff) -> Detached {
        self.devices.detach(off.number, off.device)
    }

    /// Gives up: the device takes writes again.
    pub fn swapoff_cancel(&self, off: Swapoff) {
        self.turn_on(&off.device);
    }

    fn turn_on(&self, device: &Attached) {
        device.end_draining();
        self.devices.recount();
    }

    /// Segments with something in them that are on a device, by who pays for them.
    fn held_on(&self, number: u8) -> Vec<(GroupId, u64)> {
        let mut held = BTreeMap::new();
        for (_, row) in self.table.walk() {
            let word = row.word.load();
            if word.state() != State::Dead && on_device(word.rest(), number) {
                *held.entry(row.group()).or_default() += 1;
            }
        }
        held.into_iter().collect()
    }

    /// What is alive of what is on a device.
    fn live_on(&self, number: u8) -> Bytes {
        let rows = self.table.walk();
        let rows = rows.filter(|(_, row)| on_device(row.word.load().rest(), number));
        Bytes(rows.map(|(_, row)| u64::from(row.live())).sum::<u64>() * GRANULE_BYTES as u64)
    }

    /// Does any word name the device?
    fn names(&self, number: u8) -> bool {
        self.table
            .walk()
            .any(|(_, row)| on_device(row.word.load().rest(), number))
    }
}

/// What `total` segments, `live` of all their bytes alive, may take of RAM before the
/// cleaner has been there to be no more than `ram` afterwards; it keeps an eighth of holes.
fn uncleaned(ram: Bytes, live: Bytes, total: u64) -> Bytes {
    let whole = u128::from(total) * SEGMENT_BYTES as u128;
    let packed = (u128::from(live.0) * 8).div_ceil(7).clamp(1, whole.max(1));
    Bytes(u64::try_from(u128::from(ram.0) * whole.max(1) / packed).unwrap_or(u64::MAX))
}

const fn on_device(rest: Rest, number: u8) -> bool {
    matches!(rest, Rest::Device(Place { device, .. }) if device == number)
}
