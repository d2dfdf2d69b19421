//! What every attached device has, whatever it is cut into: its name and priority, whether it takes writes, who is
//! inside, what it did.
//!
//! **Coming and going.** Whoever touches a device is counted in (`Pinned`), and a device is let go only when nobody is.
//! Whoever writes is counted before it looks whether the device is open: who drains it then waits for the writer, or the
//! writer sees it.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use vswap_platform::errno::Errno;
use vswap_platform::sync;
use vswap_units::{Bytes, Counter};

use super::SwapDevice;
use super::info::{DeviceInfo, DeviceKind, DeviceOptions, DeviceState};
use super::latched::Latched;

/// How long to leave the CPU to somebody who is inside: an I/O takes longer.
const PAUSE_NS: u64 = 100_000;

/// What a device did for this process.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) written_bytes: Counter,
    pub(crate) read_bytes: Counter,
    pub(crate) writes: Counter,
    pub(crate) sequential_writes: Counter,
    pub(crate) discards: Counter,
    pub(crate) errors: Counter,
}

/// A device, and all that is known of it beside its places.
pub(crate) struct Standing {
    pub(crate) name: String,
    kind: DeviceKind,
    pub(crate) priority: i32,
    pub(crate) device: Latched<Box<dyn SwapDevice>>,
    /// Takes no more writes: it is about to go.
    draining: AtomicBool,
    /// Threads that may call the device.
    inside: AtomicU32,
    /// The last place that was given back took its space along.
    keeps_space: AtomicBool,
    pub(crate) tally: Tally,
}

impl Standing {
    pub(crate) fn new(device: Box<dyn SwapDevice>, options: DeviceOptions, priority: i32) -> Self {
        Self {
            name: options.name,
            kind: options.kind,
            priority,
            device: Latched::new(device),
            draining: AtomicBool::new(false),
            inside: AtomicU32::new(0),
            keeps_space: AtomicBool::new(false),
            tally: Tally::default(),
        }
    }

    pub(super) fn enter(&self) {
        self.inside.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn exit(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn is_nobody_inside(&self) -> bool {
        self.inside.load(Ordering::SeqCst) == 0
    }

    pub(super) fn wait_until_nobody_is_inside(&self) {
        wait_for_none(&self.inside);
    }

    pub(crate) fn error(&self) -> Option<Errno> {
        self.device.error()
    }

    /// Does it take writes?
    pub(crate) fn is_open(&self) -> bool {
        !self.draining.load(Ordering::SeqCst) && self.error().is_none()
    }

    /// It takes no more writes from now on. False: it was so already.
    pub(crate) fn begin_draining(&self) -> bool {
        !self.draining.swap(true, Ordering::SeqCst)
    }

    /// It takes writes again.
    pub(crate) fn end_draining(&self) {
        self.draining.store(false, Ordering::SeqCst);
    }

    fn file_system(&self) -> Option<u64> {
        self.device.identity().map(|(file_system, _)| file_system)
    }

    /// The file system on which space comes free as this device is emptied: none where the last place given back took its
    /// space along.
    pub(crate) fn frees_space_on(&self) -> Option<u64> {
        let keeps = self.keeps_space.load(Ordering::Relaxed);
        self.file_system().filter(|_| !keeps)
    }

    /// How many of `free` places of `bytes` each its file system has room for; on `leaving` space comes free as another
    /// device is emptied.
    pub(crate) fn room(&self, free: u64, bytes: usize, leaving: Option<u64>) -> u64 {
        if leaving.is_some() && self.file_system() == leaving {
            return free;
        }
        let left = self.device.free_bytes().unwrap_or(u64::MAX);
        free.min(left / bytes as u64)
    }

    pub(crate) fn count_write(&self, bytes: usize, is_sequential: bool) {
        self.tally.writes.inc();
        self.tally.written_bytes.add(bytes as u64);
        if is_sequential {
            self.tally.sequential_writes.inc();
        }
    }

    pub(crate) fn read(&self, place: u32, offset: usize, out: &mut [u8]) -> Result<(), Errno> {
        let read = self.device.read(place, offset, out);
        if read.is_ok() {
            self.tally.read_bytes.add(out.len() as u64);
        }
        read
    }

    /// Gives the space of a free place back. Where that fails the place is free all the same, and its space only
    /// reused: the device stays open, since nothing is known to be wrong with what is there.
    pub(crate) fn discard(&self, place: u32) {
        let given_back = self.device.discard(place);
        self.keeps_space
            .store(given_back.is_err(), Ordering::Relaxed);
        match given_back {
            Ok(()) => self.tally.discards.inc(),
            // It gives nothing back at all: nothing was refused that it could have done.
            Err(Errno::EOPNOTSUPP) => {}
            Err(_) => self.tally.errors.inc(),
        }
    }

    /// In a forked child: threads that were inside, and whoever was taking it off, are not here.
    pub(super) fn child_after_fork(&self) {
        self.inside.store(0, Ordering::SeqCst);
        self.end_draining();
    }

    pub(super) fn info(&self, number: u8, capacity: Bytes, used: Bytes) -> DeviceInfo {
        let state = match self.error() {
            _ if self.draining.load(Ordering::Relaxed) => DeviceState::Draining,
            Some(errno) => DeviceState::Failed(errno),
            None => DeviceState::On,
        };
        DeviceInfo {
            number,
            name: self.name.clone(),
            kind: self.kind,
            priority: self.priority,
            state,
            identity: self.device.identity(),
            capacity,
            used,
            written: Bytes(self.tally.written_bytes.get()),
            read: Bytes(self.tally.read_bytes.get()),
            writes: self.tally.writes.get(),
            sequential_writes: self.tally.sequential_writes.get(),
            discards: self.tally.discards.get(),
            errors: self.tally.errors.get(),
        }
    }
}

/// Waits until a count is zero. Nobody wakes us: those counted are in an I/O.
pub(super) fn wait_for_none(count: &AtomicU32) {
    loop {
        let now = count.load(Ordering::SeqCst);
        if now == 0 {
            return;
        }
        let _ = sync::wait(count, now, Some(PAUSE_NS));
    }
}
