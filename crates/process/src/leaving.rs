//! A device on its way off: the writer thread's side of `swapoff`.
//!
//! Segments move as they are, by the segment table alone. Slots are emptied page by page, through the entries that name them.
//! Both go bit by bit, because the writer has other work too, and wait for reclaim where RAM is short.

use std::sync::Arc;

use vswap_platform::clock;
use vswap_space::Emptying;
use vswap_store::device::Detached;
use vswap_store::{Progress, SEGMENT_BYTES, Step, StoreError, Swapoff, SwapoffError};
use vswap_units::{Bytes, PAGE_SHIFT, PAGE_SIZE};

use crate::device_spec::DeviceError;
use crate::devices::DeviceNumber;
use crate::engine::Engine;
use crate::groups::Named;
use crate::swapon::{Job, Outcome};
use crate::worker::Worker;

const SEGMENT_PAGES: u32 = (SEGMENT_BYTES >> PAGE_SHIFT) as u32;
/// Reclaim has this long to make room for one segment, or page, before it fits nowhere.
const PATIENCE_NS: u64 = 10_000_000_000;
/// Segments, or batches of pages, moved per turn: the writer has other work too.
const STEPS: usize = 4;

/// What is being emptied.
enum Off {
    Segments(Swapoff),
    Slots(Emptying),
}

/// A device on its way off.
pub(crate) struct Leaving {
    pub(crate) job: Arc<Job>,
    name: String,
    off: Off,
    /// Since when nothing moves.
    stuck_since_ns: u64,
}

/// How a turn of one device ended.
pub(crate) enum Ended {
    NotYet,
    With(Result<(), DeviceError>),
}

impl Leaving {
    /// Begins, if what is there fits elsewhere.
    ///
    /// # Errors
    /// One sentence; nothing was changed.
    pub(crate) fn begin(
        engine: &Engine,
        job: &Arc<Job>,
        device: DeviceNumber,
        name: &str,
    ) -> Result<Self, DeviceError> {
        let off = engine.begin_off(device).map_err(|e| error_of(e, name))?;
        Ok(Self {
            job: Arc::clone(job),
            name: name.to_owned(),
            off,
            stuck_since_ns: clock::now_ns(),
        })
    }

    pub(crate) const fn progress(&self) -> Progress {
        match &self.off {
            Off::Segments(off) => off.progress(),
            Off::Slots(off) => off.progress(),
        }
    }

    pub(crate) fn step(&mut self, engine: &Engine, worker: &mut Worker) -> Ended {
        for _ in 0..STEPS {
            if self.job.is_cancelled() {
                return Ended::With(Err(DeviceError::Cancelled(self.name.clone())));
            }
            match engine.step_off(&mut self.off, worker) {
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
        let progress = self.progress();
        let left = u64::from(progress.total.saturating_sub(progress.moved));
        let unit = match self.off {
            Off::Segments(_) => SEGMENT_BYTES,
            Off::Slots(_) => PAGE_SIZE,
        };
        Ended::With(Err(DeviceError::DoesNotFit {
            path: self.name.clone(),
            excess: Bytes(left * unit as u64),
        }))
    }

    pub(crate) fn end(
        self,
        engine: &Engine,
        result: Result<(), DeviceError>,
        named: &[Named],
        worker: &mut Worker,
    ) {
        let outcome = match result {
            Ok(()) => {
                let gone = engine.end_off(self.off);
                engine.renew_group_devices(named, worker);
                // In the engine's table; who asked closes it in the program's.
                gone.map(|gone| {
                    gone.close();
                    Outcome::Off(gone)
                })
                .ok_or(DeviceError::NotOn(self.name))
            }
            Err(error) => {
                engine.cancel_off(self.off);
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
    fn begin_off(&self, device: DeviceNumber) -> Result<Off, SwapoffError> {
        while self.drop_spare() {}
        let ram = Bytes(self.room_for_segments());
        if !device.is_slots {
            let store = self.layer.store();
            return store.swapoff_begin(device.number, ram).map(Off::Segments);
        }
        let layer = self.layer.virtual_layer().ok_or(SwapoffError::NotOn)?;
        layer.slots_off_begin(device.number, ram).map(Off::Slots)
    }

    fn step_off(&self, off: &mut Off, worker: &mut Worker) -> Result<Step, SwapoffError> {
        let off = match off {
            Off::Segments(off) => {
                let has_room = &mut || self.has_room(SEGMENT_PAGES);
                return self.layer.store().swapoff_step(off, has_room);
            }
            Off::Slots(off) => off,
        };
        let layer = self.layer.virtual_layer().ok_or(SwapoffError::NotOn)?;
        let (scratch, codec) = worker.parts();
        let page = scratch.slice_mut(0, PAGE_SIZE);
        let page = page.ok_or(SwapoffError::Store(StoreError::NoRoom))?;
        layer.slots_off_step(off, page, codec, &mut || self.has_room(1))
    }

    fn end_off(&self, off: Off) -> Option<Detached> {
        Some(match off {
            Off::Segments(off) => self.layer.store().swapoff_end(off),
            Off::Slots(off) => self.layer.virtual_layer()?.slots_off_end(off),
        })
    }

    fn cancel_off(&self, off: Off) {
        match off {
            Off::Segments(off) => self.layer.store().swapoff_cancel(off),
            Off::Slots(off) => {
                if let Some(layer) = self.layer.virtual_layer() {
                    layer.slots_off_cancel(&off);
                }
            }
        }
    }
}
