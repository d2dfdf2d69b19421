//! Devices change: the writer thread's side of `swapon` and `swapoff`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use vswap_platform::clock;
use vswap_platform::errno::Errno;
use vswap_store::{SEGMENT_BYTES, Step, StoreError, Swapoff, SwapoffError};
use vswap_units::{Bytes, PAGE_SHIFT};

use crate::device_spec::{DeviceError, DeviceSpec};
use crate::devices;
use crate::engine::Engine;
use crate::reclaim::TRIM_PAGES;
use crate::swapon::{Change, Job, Outcome, file_identity};

const SEGMENT: u64 = SEGMENT_BYTES as u64;
/// Reclaim has this long to make room for one segment before it fits nowhere.
const PATIENCE_NS: u64 = 10_000_000_000;
/// Segments moved per step: the writer has other work too.
const SEGMENTS_PER_STEP: usize = 4;
/// A part of the budget stays for resident pages, whatever comes back to RAM.
const RESIDENT_PART: u64 = 8;
/// Compressed pages are counted as taking a sixth more than their bytes: headers,
/// padding, holes.
const OVERHEAD_PART: u64 = 6;

/// A device on its way off.
struct Leaving {
    job: Arc<Job>,
    name: String,
    off: Swapoff,
    /// Since when nothing moves.
    stuck_since_ns: u64,
}

/// The changes under way; the writer thread's own.
#[derive(Default)]
pub(crate) struct Changes {
    leaving: Vec<Leaving>,
}

/// How a step of one device ended.
enum Ended {
    NotYet,
    With(Result<(), DeviceError>),
}

impl Changes {
    /// Are there any? Then the writer looks again soon.
    pub(crate) fn any(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// What the program has freed is room for what comes back from a device. **Context**: outside `world`.
    pub(crate) fn gather_room(engine: &Engine) {
        if engine.board.has_any() {
            while engine.trim_kept(TRIM_PAGES) > 0 {}
        }
    }

    /// Begins what was asked for and goes on with what was begun. True if something was done.
    pub(crate) fn step(&mut self, engine: &Engine) -> bool {
        let mut busy = false;
        while let Some(job) = engine.board.take() {
            busy = true;
            match &job.change {
                Change::On(spec) => {
                    let outcome = engine.open_and_attach(spec).map(Outcome::On);
                    engine.board.answer(&job, outcome);
                }
                Change::Off { number, name } => match engine.begin_off(*number, name) {
                    Ok(off) => self.leaving.push(Leaving {
                        name: name.clone(),
                        off,
                        stuck_since_ns: clock::now_ns(),
                        job,
                    }),
                    Err(error) => engine.board.answer(&job, Err(error)),
                },
            }
        }
        let mut at = 0;
        while let Some(leaving) = self.leaving.get_mut(at) {
            let before = leaving.off.progress();
            let ended = leaving.step(engine);
            busy |= leaving.off.progress() != before;
            leaving.job.tell(leaving.off.progress());
            match ended {
                Ended::NotYet => at += 1,
                Ended::With(result) => {
                    let leaving = self.leaving.swap_remove(at);
                    leaving.end(engine, result);
                }
            }
            engine.board.wake();
        }
        busy
    }
}

impl Leaving {
    fn step(&mut self, engine: &Engine) -> Ended {
        let store = engine.layer.store();
        for _ in 0..SEGMENTS_PER_STEP {
            if self.job.is_cancelled() {
                return Ended::With(Err(DeviceError::Cancelled(self.name.clone())));
            }
            match store.swapoff_step(&mut self.off, &mut || engine.has_room_for_segment()) {
                Ok(Step::Moved) => self.stuck_since_ns = clock::now_ns(),
                Ok(Step::Waiting) => return Ended::NotYet,
                Ok(Step::Empty) => return Ended::With(Ok(())),
                Err(SwapoffError::Store(
                    StoreError::Full | StoreError::Closed | StoreError::NoRoom,
                )) => return self.wait_for_room(engine),
                Err(error) => return Ended::With(Err(error_of(error, &self.name))),
            }
        }
        Ended::NotYet
    }

    /// Reclaim makes room in RAM, unless there is nothing left to move out.
    fn wait_for_room(&self, engine: &Engine) -> Ended {
        if clock::now_ns().saturating_sub(self.stuck_since_ns) < PATIENCE_NS {
            engine.reclaim_event.signal();
            return Ended::NotYet;
        }
        let progress = self.off.progress();
        let excess = Bytes(u64::from(progress.total.saturating_sub(progress.moved)) * SEGMENT);
        Ended::With(Err(DeviceError::DoesNotFit {
            path: self.name.clone(),
            excess,
        }))
    }

    fn end(self, engine: &Engine, result: Result<(), DeviceError>) {
        let store = engine.layer.store();
        let outcome = match result {
            Ok(()) => {
                let detached = store.swapoff_end(self.off);
                engine.renew_group_devices();
                // In the engine's table; who asked closes it in the program's.
                detached.close();
                Ok(Outcome::Off(detached))
            }
            Err(error) => {
                store.swapoff_cancel(self.off);
                Err(error)
            }
        };
        engine.board.answer(&self.job, outcome);
    }
}

fn error_of(error: SwapoffError, name: &str) -> DeviceError {
    let path = name.to_owned();
    match error {
        SwapoffError::NotOn => DeviceError::NotOn(path),
        SwapoffError::Draining => DeviceError::Draining(path),
        SwapoffError::DoesNotFit { excess } => DeviceError::DoesNotFit { path, excess },
        SwapoffError::Store(why) => DeviceError::Failed { path, why },
        SwapoffError::Memory(errno) => DeviceError::Memory(errno),
        _ => DeviceError::Cancelled(path),
    }
}

impl Engine {
    fn open_and_attach(&self, spec: &DeviceSpec) -> Result<u8, DeviceError> {
        let identity = file_identity(&spec.path);
        let same = |name: &str, at: Option<(u64, u64)>| {
            name == spec.path || (at.is_some() && at == identity)
        };
        let store = self.layer.store();
        if store
            .devices()
            .iter()
            .any(|info| same(&info.name, info.identity))
        {
            return Err(DeviceError::Twice(spec.path.clone()));
        }
        let opened = devices::open_one(spec, self.ram())?;
        let attached = store.swapon(opened.device, opened.options);
        let number = attached.map_err(|errno| match errno {
            Errno::ENOSPC => DeviceError::TooMany,
            other => DeviceError::Memory(other),
        })?;
        self.renew_group_devices();
        store.kept_by(self.threads.reclaim_tid.load(Ordering::Acquire) as i32);
        self.devices_full.clear();
        self.room_event.signal();
        Ok(number)
    }

    fn begin_off(&self, number: u8, name: &str) -> Result<Swapoff, DeviceError> {
        while self.drop_spare() {}
        let ram = Bytes(self.ram_for_segments());
        let begun = self.layer.store().swapoff_begin(number, ram);
        begun.map_err(|error| error_of(error, name))
    }

    fn has_room_for_segment(&self) -> bool {
        self.has_room((SEGMENT >> PAGE_SHIFT) as u32)
    }

    /// RAM that segments coming back could have: what is free, and what is gained
    /// when resident pages are compressed, at the ratio seen so far, until an
    /// eighth of the budget is left of them.
    fn ram_for_segments(&self) -> u64 {
        let free = self.budget.high().saturating_sub(self.held());
        let resident = self.counters.resident_pages.get() << PAGE_SHIFT;
        let spare = resident.saturating_sub(self.budget.ram() / RESIDENT_PART);
        let seen = self.layer.gauges();
        let raw = seen.swap_out_pages << PAGE_SHIFT;
        let stored = seen.swap_out_bytes + seen.swap_out_bytes / OVERHEAD_PART;
        let gained = u128::from(spare) * u128::from(raw.saturating_sub(stored));
        free + gained.checked_div(u128::from(raw)).unwrap_or(0) as u64
    }
}
