//! Devices change: the writer thread's side of `swapon` and `swapoff`.
//!
//! Groups name the devices they may use, so a change holds their names still. They are locked before `world` is entered, as
//! everywhere: a fork takes them first, and whoever ends a group holds them while he waits to enter.

use std::sync::atomic::Ordering;

use vswap_platform::errno::Errno;

use crate::device_spec::{DeviceError, DeviceSpec};
use crate::devices::{self, DeviceNumber};
use crate::engine::Engine;
use crate::groups::NamesGuard;
use crate::leaving::{Ended, Leaving};
use crate::reclaim::TRIM_PAGES;
use crate::swapon::{Change, Outcome, file_identity};
use crate::worker::WorkerGuard;

/// What the writer holds while devices change, besides `world`.
struct Hold<'a> {
    worker: WorkerGuard<'a>,
    named: NamesGuard<'a>,
}

/// The changes under way; the writer thread's own.
#[derive(Default)]
pub(crate) struct Changes {
    leaving: Vec<Leaving>,
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

    /// Begins what was asked for and goes on with what was begun. True if something was done. **Context**: outside `world`.
    pub(crate) fn step(&mut self, engine: &Engine) -> bool {
        if !self.any() && !engine.board.has_any() {
            return false;
        }
        let Some(worker) = engine.workers.of_writer() else {
            return false;
        };
        let named = engine.groups.lock_names();
        let mut held = Hold { worker, named };
        let _inside = engine.world.enter();
        let begun = self.begin_what_was_asked(engine, &mut held);
        self.go_on(engine, &mut held) || begun
    }

    fn begin_what_was_asked(&mut self, engine: &Engine, held: &mut Hold<'_>) -> bool {
        let mut busy = false;
        while let Some(job) = engine.board.take() {
            busy = true;
            match &job.change {
                Change::On(spec) => {
                    let outcome = engine.open_and_attach(spec, held).map(Outcome::On);
                    engine.board.answer(&job, outcome);
                }
                Change::Off { device, name } => match Leaving::begin(engine, &job, *device, name) {
                    Ok(leaving) => self.leaving.push(leaving),
                    Err(error) => engine.board.answer(&job, Err(error)),
                },
            }
        }
        busy
    }

    fn go_on(&mut self, engine: &Engine, held: &mut Hold<'_>) -> bool {
        let (mut busy, mut at) = (false, 0);
        while let Some(leaving) = self.leaving.get_mut(at) {
            let before = leaving.progress();
            let ended = leaving.step(engine, &mut held.worker);
            busy |= leaving.progress() != before;
            leaving.job.tell(leaving.progress());
            match ended {
                Ended::NotYet => at += 1,
                Ended::With(result) => {
                    let leaving = self.leaving.swap_remove(at);
                    leaving.end(engine, result, &held.named, &mut held.worker);
                }
            }
            engine.board.wake();
        }
        busy
    }
}

impl Engine {
    fn open_and_attach(
        &self,
        spec: &DeviceSpec,
        held: &mut Hold<'_>,
    ) -> Result<DeviceNumber, DeviceError> {
        let named = (!spec.is_auto()).then_some(&spec.path);
        let identity = named.and_then(|path| file_identity(path));
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
        let opened = devices::open_one(spec, self.ram(), &self.auto_dirs)?;
        let number = opened.attach(store).map_err(|errno| match errno {
            Errno::ENOSPC => DeviceError::TooMany,
            Errno::EINVAL => DeviceError::TooSmall(spec.path.clone()),
            other => DeviceError::Memory(other),
        })?;
        self.renew_group_devices(&held.named, &mut held.worker);
        store.kept_by(self.threads.reclaim_tid.load(Ordering::Acquire) as i32);
        self.devices_full.clear();
        self.room_event.signal();
        Ok(number)
    }
}
