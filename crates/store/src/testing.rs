//! For tests of this floor and those above: pages of several kinds, a device
//! in memory, and a device that fails when told to.

use std::collections::BTreeMap;
use std::sync::Arc;

use vswap_platform::errno::Errno;
use vswap_platform::sync::RankedMutex;
use vswap_units::PAGE_SIZE;

use crate::device::SwapDevice;

/// A small generator of numbers, the same ones for the same seed.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Begins from a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next number below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A page that does not compress.
#[must_use]
pub fn noise_page(seed: u64) -> Vec<u8> {
    let mut numbers = Numbers::new(seed);
    (0..PAGE_SIZE / 8)
        .flat_map(|_| numbers.next().to_le_bytes())
        .collect()
}

/// A page that compresses about four to one, with the seed in it.
#[must_use]
pub fn text_page(seed: u64) -> Vec<u8> {
    let mut numbers = Numbers::new(seed);
    let words = [
        "page ", "swap ", "segment ", "of the ", "log ", "entry ", "device\n", "kernel ",
    ];
    let mut page = format!("{seed} ").into_bytes();
    while page.len() < PAGE_SIZE {
        let pick = numbers.below(words.len() as u64 * 4) as usize;
        match words.get(pick) {
            Some(word) => page.extend_from_slice(word.as_bytes()),
            None => page.extend_from_slice(b"and so on, and so on, "),
        }
    }
    page.truncate(PAGE_SIZE);
    page
}

/// A page of some kind: mostly compressible, sometimes noise, sometimes half.
#[must_use]
pub fn any_page(seed: u64) -> Vec<u8> {
    match seed % 8 {
        0 => noise_page(seed),
        1 => {
            let mut page = text_page(seed);
            page.splice(
                1024..2048 + (seed % 1024) as usize,
                noise_page(seed)
                    .into_iter()
                    .take(1024 + (seed % 1024) as usize),
            );
            page
        }
        _ => text_page(seed),
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails.
    Error(Errno),
    /// Only half of the bytes arrive, then the call fails.
    Short,
    /// One byte is changed on the way, and the call succeeds.
    Corrupt,
}

/// Which calls go wrong, counted from 0 for each direction.
#[derive(Default)]
struct Plan {
    writes: u64,
    reads: u64,
    write_faults: BTreeMap<u64, Fault>,
    read_faults: BTreeMap<u64, Fault>,
    gone: bool,
    delay_us: u32,
}

impl Plan {
    /// The fault of this call, counting it.
    fn next(&mut self, write: bool) -> Option<Fault> {
        let (calls, faults) = match write {
            true => (&mut self.writes, &mut self.write_faults),
            false => (&mut self.reads, &mut self.read_faults),
        };
        *calls += 1;
        let planned = faults.remove(&(*calls - 1));
        if self.gone {
            return Some(Fault::Error(Errno::ENODEV));
        }
        planned
    }
}

/// What is stored where.
type Contents = Arc<RankedMutex<BTreeMap<u32, Vec<u8>>, 58>>;

/// The handle a test keeps to tell a [`FaultyDevice`] what to do.
#[derive(Clone)]
pub struct Control(Arc<RankedMutex<Plan, 59>>, Contents);

impl Control {
    /// The `n`-th write from now on goes wrong.
    pub fn on_write(&self, n: u64, fault: Fault) {
        let mut plan = self.0.lock();
        let call = plan.writes + n;
        plan.write_faults.insert(call, fault);
    }

    /// The `n`-th read from now on goes wrong.
    pub fn on_read(&self, n: u64, fault: Fault) {
        let mut plan = self.0.lock();
        let call = plan.reads + n;
        plan.read_faults.insert(call, fault);
    }

    /// From now on every call fails while the device is `gone`, and takes so much longer.
    pub fn set_condition(&self, gone: bool, delay_us: u32) {
        let mut plan = self.0.lock();
        plan.gone = gone;
        plan.delay_us = delay_us;
    }

    fn next(&self, write: bool) -> Option<Fault> {
        let mut plan = self.0.lock();
        let fault = plan.next(write);
        let delay = plan.delay_us;
        drop(plan);
        if delay > 0 {
            std::thread::sleep(std::time::Duration::from_micros(delay.into()));
        }
        fault
    }

    /// Nothing planned goes wrong any more.
    pub fn heal(&self) {
        let mut plan = self.0.lock();
        plan.write_faults.clear();
        plan.read_faults.clear();
    }

    /// Places with something in them: written and not discarded.
    #[must_use]
    pub fn stored_places(&self) -> usize {
        self.1.lock().len()
    }

    /// Calls so far: (writes, reads).
    #[must_use]
    pub fn calls(&self) -> (u64, u64) {
        let plan = self.0.lock();
        (plan.writes, plan.reads)
    }
}

/// A device in memory that fails as planned. Discarded places are forgotten,
/// and reading one that was never written is an error: it shows a place given
/// away too early.
pub struct FaultyDevice {
    places: u32,
    contents: Contents,
    control: Control,
}

impl FaultyDevice {
    /// A healthy device of that many places.
    #[must_use]
    pub fn new(places: u32) -> Self {
        let contents = Contents::new(RankedMutex::new(BTreeMap::new()));
        Self {
            places,
            contents: Arc::clone(&contents),
            control: Control(Arc::new(RankedMutex::new(Plan::default())), contents),
        }
    }

    /// The handle to plan faults with.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

impl FaultyDevice {
    /// Writes bytes as the plan has it.
    fn put(
        &self,
        bytes: &[u8],
        put: impl FnOnce(&mut BTreeMap<u32, Vec<u8>>, Vec<u8>),
    ) -> Result<(), Errno> {
        let fault = self.control.next(true);
        let mut copy = bytes.to_vec();
        match fault {
            Some(Fault::Error(errno)) => return Err(errno),
            Some(Fault::Short) => copy.truncate(bytes.len() / 2),
            Some(Fault::Corrupt) => damage(&mut copy),
            None => {}
        }
        put(&mut self.contents.lock(), copy);
        if fault == Some(Fault::Short) {
            Err(Errno::EIO)
        } else {
            Ok(())
        }
    }
}

impl SwapDevice for FaultyDevice {
    fn capacity_places(&self) -> u32 {
        self.places
    }

    fn write(&self, place: u32, bytes: &[u8]) -> Result<(), Errno> {
        self.put(bytes, |contents, copy| {
            contents.insert(place, copy);
        })
    }

    /// What else is in the place stays, whoever writes there at the same time.
    fn write_page(&self, place: u32, offset: usize, page: &[u8]) -> Result<(), Errno> {
        self.put(page, |contents, copy| {
            let whole = contents.entry(place).or_default();
            let end = offset + copy.len();
            whole.resize(whole.len().max(end), 0);
            if let Some(part) = whole.get_mut(offset..end) {
                part.copy_from_slice(&copy);
            }
        })
    }

    fn read(&self, place: u32, offset: usize, out: &mut [u8]) -> Result<(), Errno> {
        let fault = self.control.next(false);
        if let Some(Fault::Error(errno)) = fault {
            return Err(errno);
        }
        let contents = self.contents.lock();
        let bytes = contents
            .get(&place)
            .and_then(|all| all.get(offset..offset + out.len()));
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
        self.contents.lock().remove(&place);
        Ok(())
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
