//! `swapon` and `swapoff` on a live engine.
//!
//! The work is the writer thread's: it has the engine's descriptor table, it is
//! the one that writes to devices, and it holds no lock of the program's. Who
//! asks only waits, outside every lock, and is told how far it is in its own
//! thread: so a caller may run an interpreter there, and may give up. The writer
//! goes on writing back and cleaning in between.
//!
//! In signal delivery the program's threads read devices themselves. They find
//! the file of a new device through the engine's table (`FileDevice`), and the
//! one who asked opens it in the program's table right away.
//!
//! A child has no writer of its parent's and nobody who waits: it finds every
//! device on, and takes them off for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use vswap_platform::sync::{Event, RankedMutex, SignalBlock};
use vswap_store::device::{Detached, DeviceInfo};
use vswap_store::{Progress, SEGMENT_BYTES};
use vswap_units::PAGE_SIZE;

use crate::delivery::Delivery;
use crate::device_spec::{DeviceError, DeviceSpec};
use crate::devices::DeviceNumber;
use crate::engine::Engine;

/// Changes that may be under way at once.
const MOST: usize = 8;
/// How long to sleep before looking again, whoever wakes us.
const LOOK_NS: u64 = 50_000_000;

/// What is to be done.
pub(crate) enum Change {
    On(DeviceSpec),
    Off { device: DeviceNumber, name: String },
}

/// What came of it.
pub(crate) enum Outcome {
    On(DeviceNumber),
    Off(Detached),
}

/// How far a swapoff is, in segments, or in pages where slots are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// How many have moved.
    pub moved: u32,
    /// How many there were.
    pub total: u32,
    /// The size of each.
    pub unit_bytes: u64,
}

impl Moved {
    /// Bytes that have moved.
    #[must_use]
    pub const fn done_bytes(&self) -> u64 {
        self.moved as u64 * self.unit_bytes
    }

    /// Bytes that were there.
    #[must_use]
    pub const fn total_bytes(&self) -> u64 {
        self.total as u64 * self.unit_bytes
    }
}

/// One change, between who asked and the writer.
pub(crate) struct Job {
    pub(crate) change: Change,
    moved: AtomicU32,
    total: AtomicU32,
    cancelled: AtomicBool,
    outcome: RankedMutex<Option<Result<Outcome, DeviceError>>, { vswap_units::rank::DEVICE }>,
}

impl Job {
    fn new(change: Change) -> Arc<Self> {
        Arc::new(Self {
            change,
            moved: AtomicU32::new(0),
            total: AtomicU32::new(0),
            cancelled: AtomicBool::new(false),
            outcome: RankedMutex::new(None),
        })
    }

    pub(crate) fn tell(&self, progress: Progress) {
        self.total.store(progress.total, Ordering::Relaxed);
        self.moved.store(progress.moved, Ordering::Relaxed);
    }

    fn progress(&self) -> Moved {
        let unit = match &self.change {
            Change::Off { device, .. } if device.is_slots => PAGE_SIZE,
            Change::On(_) | Change::Off { .. } => SEGMENT_BYTES,
        };
        Moved {
            moved: self.moved.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
            unit_bytes: unit as u64,
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Where changes are asked for.
pub(crate) struct Board {
    asked: RankedMutex<[Option<Arc<Job>>; MOST], { vswap_units::rank::DEVICE }>,
    told: Event,
    /// Forks since the engine's start: who waits notices that it is a child.
    forks: AtomicU32,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            asked: RankedMutex::new([const { None }; MOST]),
            told: Event::new(),
            forks: AtomicU32::new(0),
        }
    }
}

impl Board {
    fn post(&self, job: &Arc<Job>) -> Result<(), DeviceError> {
        let mut asked = self.asked.lock_blocking_signals();
        let free = asked.iter_mut().find(|place| place.is_none());
        *free.ok_or(DeviceError::TooMany)? = Some(Arc::clone(job));
        Ok(())
    }

    /// The next change to begin with.
    pub(crate) fn take(&self) -> Option<Arc<Job>> {
        self.asked.lock().iter_mut().find_map(Option::take)
    }

    pub(crate) fn has_any(&self) -> bool {
        self.asked.lock().iter().any(Option::is_some)
    }

    pub(crate) fn answer(&self, job: &Job, outcome: Result<Outcome, DeviceError>) {
        *job.outcome.lock() = Some(outcome);
        self.told.signal();
    }

    pub(crate) fn wake(&self) {
        self.told.signal();
    }

    pub(crate) fn reset_in_child(&self) {
        self.asked.reset_in_child();
        while self.take().is_some() {}
        self.told.after_fork_in_child();
        self.forks.fetch_add(1, Ordering::Relaxed);
    }
}

impl Engine {
    /// Attaches a device. From then on it is written to in the order of priorities.
    ///
    /// # Errors
    /// One sentence that says what to do; nothing was changed.
    pub fn swapon(&self, spec: &DeviceSpec) -> Result<DeviceInfo, DeviceError> {
        spec.check()?;
        if self.layer.is_direct() {
            return Err(DeviceError::Direct);
        }
        let job = Job::new(Change::On(spec.clone()));
        let outcome = self.have_done(&job, &mut |_| true)?;
        let _signals = SignalBlock::enter();
        if self.delivery() == Delivery::Signal {
            let _ = self.layer.store().device_fds();
        }
        let Outcome::On(number) = outcome else {
            return Err(DeviceError::Ending);
        };
        let mut devices = self.devices().into_iter();
        let info = devices.find(|info| DeviceNumber::from(info) == number);
        info.ok_or(DeviceError::Ending)
    }

    /// Takes a device off: what is there goes to other devices and to RAM. While
    /// it lasts `progress` is told now and then, in the calling thread, outside
    /// all locks; false gives up. Returns what was moved.
    ///
    /// # Errors
    /// One sentence that says what to do; the device is on and nothing is lost.
    pub fn swapoff(
        &self,
        path: &str,
        progress: &mut dyn FnMut(Moved) -> bool,
    ) -> Result<Moved, DeviceError> {
        let found = self.device_at(path);
        let device = found.ok_or_else(|| DeviceError::NotOn(path.to_owned()))?;
        let job = Job::new(Change::Off {
            device: DeviceNumber::from(&device),
            name: device.name,
        });
        if let Outcome::Off(detached) = self.have_done(&job, progress)? {
            // In this thread's table too, where it had been opened here.
            let _signals = SignalBlock::enter();
            detached.close();
        }
        Ok(job.progress())
    }

    /// The devices, the highest priority first.
    pub fn devices(&self) -> Vec<DeviceInfo> {
        let _signals = SignalBlock::enter();
        self.layer.store().devices()
    }

    /// The device that is called so, or is the file at this path.
    pub(crate) fn device_at(&self, path: &str) -> Option<DeviceInfo> {
        let mut devices = self.devices();
        let named = devices.iter().position(|info| info.name == path);
        let identity = file_identity(path);
        let same_file = |info: &DeviceInfo| info.identity.is_some() && info.identity == identity;
        let index = named.or_else(|| devices.iter().position(same_file))?;
        Some(devices.swap_remove(index))
    }

    fn have_done(
        &self,
        job: &Arc<Job>,
        progress: &mut dyn FnMut(Moved) -> bool,
    ) -> Result<Outcome, DeviceError> {
        let forks = self.board.forks.load(Ordering::Relaxed);
        self.board.post(job)?;
        loop {
            let seen = self.board.told.seen();
            self.write_event.signal();
            let outcome = job.outcome.lock_blocking_signals().take();
            if outcome.is_none() && self.is_stopping() {
                return Err(DeviceError::Ending);
            }
            let told = job.progress();
            if told.total > 0 && !job.is_cancelled() && !progress(told) {
                job.cancelled.store(true, Ordering::Relaxed);
            }
            if let Some(outcome) = outcome {
                return outcome;
            }
            if self.board.forks.load(Ordering::Relaxed) != forks {
                // The callback has forked, and this is the child.
                return Err(DeviceError::Ending);
            }
            self.board.told.wait_past(seen, LOOK_NS);
        }
    }
}

/// Which file is at a path.
pub(crate) fn file_identity(path: &str) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}
