//! A device in memory that fails as planned: any call of it, from any moment on, in any of the ways devices have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use vswap_platform::errno::Errno;
use vswap_platform::sync::RankedMutex;
use vswap_units::PAGE_SIZE;

use crate::device::SwapDevice;

/// What a device is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// To keep bytes: a segment, or pages in slots.
    Write,
    /// To say what is there.
    Read,
    /// To give the space of a place back.
    Discard,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails, and nothing was done.
    Error(Errno),
    /// Half of it is done, then the call fails.
    Short,
    /// The call succeeds, it says: but one byte is changed on the way, or nothing is given back.
    Corrupt,
}

/// Calls of one kind so far, and which ones go wrong, counted from 0.
#[derive(Default)]
struct Line {
    calls: u64,
    faults: BTreeMap<u64, Fault>,
}

#[derive(Default)]
struct Plan {
    writes: Line,
    reads: Line,
    discards: Line,
    gone: bool,
    delay_us: u32,
}

impl Plan {
    const fn line(&mut self, call: Call) -> &mut Line {
        match call {
            Call::Write => &mut self.writes,
            Call::Read => &mut self.reads,
            Call::Discard => &mut self.discards,
        }
    }

    /// The fault of this call, counting it.
    fn next(&mut self, call: Call) -> Option<Fault> {
        let line = self.line(call);
        line.calls += 1;
        let planned = line.faults.remove(&(line.calls - 1));
        if self.gone {
            return Some(Fault::Error(Errno::ENODEV));
        }
        planned
    }
}

/// What is there.
#[derive(Default)]
struct Contents {
    places: BTreeMap<u32, Vec<u8>>,
    /// Those that were to be given back and are still there, until they are written again.
    kept: BTreeSet<u32>,
}

impl Contents {
    /// What a reader may see. A place that was given up is none of its business, whether or not that worked.
    fn get(&self, place: u32, offset: usize, len: usize) -> Option<&[u8]> {
        let known = (!self.kept.contains(&place)).then(|| self.places.get(&place))?;
        known?.get(offset..offset + len)
    }

    /// Writes somewhere in a place. What else is there stays, unless all of it was given up before.
    fn put(&mut self, place: u32, offset: usize, bytes: &[u8]) {
        if self.kept.remove(&place) {
            self.places.remove(&place);
        }
        let whole = self.places.entry(place).or_default();
        let end = offset + bytes.len();
        whole.resize(whole.len().max(end), 0);
        if let Some(part) = whole.get_mut(offset..end) {
            part.copy_from_slice(bytes);
        }
    }

    fn give_up(&mut self, place: u32, fault: Option<Fault>) {
        match fault {
            None => {
                self.places.remove(&place);
                self.kept.remove(&place);
            }
            Some(fault) => {
                if let Some(bytes) = self.places.get_mut(&place) {
                    if fault == Fault::Short {
                        bytes.truncate(bytes.len() / 2);
                    }
                    self.kept.insert(place);
                }
            }
        }
    }
}

/// The handle a test keeps to tell a [`FaultyDevice`] what to do.
#[derive(Clone)]
pub struct Control {
    plan: Arc<RankedMutex<Plan, 59>>,
    contents: Arc<RankedMutex<Contents, 58>>,
}

impl Control {
    /// The `n`-th call of a kind from now on goes wrong.
    pub fn on(&self, call: Call, n: u64, fault: Fault) {
        let mut plan = self.plan.lock();
        let line = plan.line(call);
        line.faults.insert(line.calls + n, fault);
    }

    /// The `n`-th write from now on goes wrong.
    pub fn on_write(&self, n: u64, fault: Fault) {
        self.on(Call::Write, n, fault);
    }

    /// The `n`-th read from now on goes wrong.
    pub fn on_read(&self, n: u64, fault: Fault) {
        self.on(Call::Read, n, fault);
    }

    /// The `n`-th discard from now on goes wrong.
    pub fn on_discard(&self, n: u64, fault: Fault) {
        self.on(Call::Discard, n, fault);
    }

    /// From now on every call fails while the device is `gone`, and takes so much longer.
    pub fn set_condition(&self, gone: bool, delay_us: u32) {
        let mut plan = self.plan.lock();
        plan.gone = gone;
        plan.delay_us = delay_us;
    }

    /// Nothing planned goes wrong any more.
    pub fn heal(&self) {
        let mut plan = self.plan.lock();
        for call in [Call::Write, Call::Read, Call::Discard] {
            plan.line(call).faults.clear();
        }
    }

    /// Places with something in them: written, and not given up since.
    #[must_use]
    pub fn stored_places(&self) -> usize {
        let contents = self.contents.lock();
        contents.places.len() - contents.kept.len()
    }

    /// Places that were given up and still take space, since the discard went wrong.
    #[must_use]
    pub fn kept_places(&self) -> usize {
        self.contents.lock().kept.len()
    }

    /// Writes and reads so far.
    #[must_use]
    pub fn calls(&self) -> (u64, u64) {
        (self.count(Call::Write), self.count(Call::Read))
    }

    /// Calls of one kind so far.
    #[must_use]
    pub fn count(&self, call: Call) -> u64 {
        self.plan.lock().line(call).calls
    }

    /// The fault of a call that begins now, after the time it takes.
    fn begin(&self, call: Call) -> Option<Fault> {
        let mut plan = self.plan.lock();
        let (fault, delay) = (plan.next(call), plan.delay_us);
        drop(plan);
        if delay > 0 {
            thread::sleep(Duration::from_micros(delay.into()));
        }
        fault
    }
}

/// A device in memory that fails as planned. Places that were given up are forgotten, and reading one, or one that was
/// never written, is an error: it shows a place given away too early.
pub struct FaultyDevice {
    places: u32,
    control: Control,
}

impl FaultyDevice {
    /// A healthy device of that many places.
    #[must_use]
    pub fn new(places: u32) -> Self {
        Self {
            places,
            control: Control {
                plan: Arc::new(RankedMutex::new(Plan::default())),
                contents: Arc::new(RankedMutex::new(Contents::default())),
            },
        }
    }

    /// The handle to plan faults with.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

impl SwapDevice for FaultyDevice {
    fn capacity_places(&self) -> u32 {
        self.places
    }

    fn write(&self, place: u32, bytes: &[u8]) -> Result<(), Errno> {
        // A place is written whole: what was there before is no part of it.
        self.control.contents.lock().give_up(place, None);
        self.write_page(place, 0, bytes)
    }

    fn write_page(&self, place: u32, offset: usize, pages: &[u8]) -> Result<(), Errno> {
        let fault = self.control.begin(Call::Write);
        let mut copy = pages.to_vec();
        match fault {
            Some(Fault::Error(errno)) => return Err(errno),
            Some(Fault::Short) => copy.truncate(pages.len() / 2),
            Some(Fault::Corrupt) => damage(&mut copy),
            None => {}
        }
        self.control.contents.lock().put(place, offset, &copy);
        if fault == Some(Fault::Short) {
            Err(Errno::EIO)
        } else {
            Ok(())
        }
    }

    fn read(&self, place: u32, offset: usize, out: &mut [u8]) -> Result<(), Errno> {
        let fault = self.control.begin(Call::Read);
        if let Some(Fault::Error(errno)) = fault {
            return Err(errno);
        }
        let contents = self.control.contents.lock();
        let bytes = contents.get(place, offset, out.len());
        out.copy_from_slice(bytes.ok_or(Errno::ENXIO)?);
        match fault {
            Some(Fault::Short) => {
                out.iter_mut().skip(PAGE_SIZE / 2).for_each(|b| *b = 0);
                Err(Errno::EIO)
            }
            Some(Fault::Corrupt) => {
                damage(out);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn discard(&self, place: u32) -> Result<(), Errno> {
        let fault = self.control.begin(Call::Discard);
        self.control.contents.lock().give_up(place, fault);
        match fault {
            Some(Fault::Error(errno)) => Err(errno),
            Some(Fault::Short) => Err(Errno::EIO),
            Some(Fault::Corrupt) | None => Ok(()),
        }
    }
}

/// Changes one bit in every 64 bytes: wherever the object lies, it is hit.
fn damage(bytes: &mut [u8]) {
    bytes
        .iter_mut()
        .skip(13)
        .step_by(64)
        .for_each(|byte| *byte ^= 0x10);
}
