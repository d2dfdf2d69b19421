//! Devices of a layer under test: in memory, for segments or for slots, and failing when told to.
//!
//! They are `vswap_store::testing`'s. A layer without a device of these has nothing to do with them, and no program's
//! memory is ever in such a layer.

use std::ffi::c_int;

use vswap_platform::errno::Errno;
use vswap_platform::thread;
use vswap_space::{EntryId, OnDevice, SwapLayer};
use vswap_store::device::{DeviceInfo, DeviceKind, DeviceOptions, DeviceState, SwapDevice};
use vswap_store::testing::{Control, FaultyDevice};
use vswap_store::{Progress, SEGMENT_BYTES, Step, StoreError, SwapoffError};
use vswap_units::{Bytes, PAGE_SIZE};

use crate::layer::{layer_of, vswap_layer};

/// What the store calls the `number`-th attached device.
fn name_of(number: usize) -> String {
    format!("memory {number}")
}

/// What it is cut into: places for segments, or slots for pages.
fn units(info: &DeviceInfo, bytes: Bytes) -> i64 {
    let unit = if info.is_slots() {
        PAGE_SIZE
    } else {
        SEGMENT_BYTES
    };
    i64::try_from(bytes.0 / unit as u64).unwrap_or(i64::MAX)
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl vswap_layer {
    /// What the store says of the `number`-th attached device, and its handle; ENOENT when it is off, EINVAL if there is none.
    fn device(&self, number: usize) -> Result<(DeviceInfo, Control), Errno> {
        let control = self.control(number).ok_or(Errno::EINVAL)?;
        let name = name_of(number);
        let mut all = self.layer.store().devices().into_iter();
        let info = all.find(|info| info.name == name).ok_or(Errno::ENOENT)?;
        Ok((info, control))
    }

    pub(crate) fn control(&self, number: usize) -> Option<Control> {
        self.controls.lock().get(number).cloned()
    }

    fn attach(&self, places: u32, options: DeviceOptions) -> Result<usize, Errno> {
        let mut controls = self.controls.lock();
        let device = FaultyDevice::new(places);
        let control = device.control();
        let options = DeviceOptions {
            name: name_of(controls.len()),
            ..options
        };
        attach_to(&self.layer, Box::new(device), options)?;
        controls.push(control);
        Ok(controls.len() - 1)
    }

    fn swapoff(&self, number: usize, ram: Bytes, most: u32) -> Result<(), SwapoffError> {
        let (info, _) = self.device(number).map_err(|_| SwapoffError::NotOn)?;
        if info.is_slots() {
            return self.swapoff_slots(info.number, ram, most);
        }
        let mut go_on = |at: Progress| at.moved < most;
        let store = self.layer.store();
        store.swapoff(&info.name, ram, &mut go_on).map(drop)
    }

    /// Page by page, and where RAM is full segments are written back, as the engine's writer does.
    fn swapoff_slots(&self, number: u8, ram: Bytes, most: u32) -> Result<(), SwapoffError> {
        let mut off = self.layer.slots_off_begin(number, ram)?;
        let mut page = vec![0; PAGE_SIZE];
        loop {
            let mut workspace = self.workspace();
            let step = self
                .layer
                .slots_off_step(&mut off, &mut page, &mut workspace, &mut || true);
            drop(workspace);
            let ended = match step {
                Ok(Step::Empty) => {
                    self.layer.slots_off_end(off).close();
                    return Ok(());
                }
                Ok(_) if off.progress().moved >= most => Err(SwapoffError::Cancelled),
                Ok(Step::Moved) => Ok(()),
                Ok(Step::Waiting) => {
                    thread::yield_now();
                    Ok(())
                }
                Err(SwapoffError::Store(StoreError::NoRoom)) if self.wrote_back() => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                self.layer.slots_off_cancel(&off);
                return Err(error);
            }
        }
    }

    fn wrote_back(&self) -> bool {
        matches!(self.layer.writeback_oldest(Bytes(0)), Ok(Some(_)))
    }
}

fn attach_to(
    layer: &SwapLayer,
    device: Box<dyn SwapDevice>,
    options: DeviceOptions,
) -> Result<u8, Errno> {
    let store = layer.store();
    match options.kind {
        DeviceKind::Slots => store.slots().attach(device, options),
        _ => store.swapon(device, options),
    }
}

/// Attaches a device in memory of `places` segments, or of 64 times as many slots (`slots` not 0; the first is never used),
/// which fails when told to, at any time. It is filled before those of its sort with lower priority; -1 is below all that
/// are attached. Returns its number, or -errno.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_attach(
    layer: *mut vswap_layer,
    places: u32,
    priority: c_int,
    slots: c_int,
) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -libc::EINVAL;
    };
    let options = DeviceOptions {
        priority: (priority >= 0).then_some(priority),
        kind: if slots == 0 {
            DeviceKind::File
        } else {
            DeviceKind::Slots
        },
        ..DeviceOptions::default()
    };
    match layer.attach(places, options) {
        Ok(number) => c_int::try_from(number).unwrap_or(c_int::MAX),
        Err(errno) => -errno.0,
    }
}

/// Takes an attached device off, using up to `ram_segments` of RAM, and gives up after `most` segments, or pages in slots
/// (some more, since they are moved several at once). Returns 0, or -ENOENT (not on), -EBUSY (being taken off), -ENOSPC
/// (what is there does not fit elsewhere; nothing was moved), -ECANCELED (given up), -EIO (a segment or page could not be
/// moved); -EINVAL. Whatever it is but 0, the device is on.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_swapoff(
    layer: *mut vswap_layer,
    device: usize,
    ram_segments: u32,
    most: u32,
) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -libc::EINVAL;
    };
    let ram = Bytes(u64::from(ram_segments) * SEGMENT_BYTES as u64);
    match layer.swapoff(device, ram, most) {
        Ok(()) => 0,
        Err(SwapoffError::NotOn) => -libc::ENOENT,
        Err(SwapoffError::Draining) => -libc::EBUSY,
        Err(SwapoffError::DoesNotFit { .. }) => -libc::ENOSPC,
        Err(SwapoffError::Cancelled) => -libc::ECANCELED,
        Err(_) => -libc::EIO,
    }
}

/// How an attached device is, in this order, as much as fits: 1 if it has slots and 0 if it has places for segments; the
/// number by which groups forbid it, among those of its sort; its priority; 0 on or 1 draining or 2 closed for writing; its
/// places, or slots; those taken; places with something in them that was not given up; places that were given up and could
/// not be given back; how many it gave back; how many calls it refused. Returns how many values there are, or -ENOENT (it
/// is off); -EINVAL.
///
/// # Safety
/// `layer` is valid, `values` has room for `count` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_device(
    layer: *mut vswap_layer,
    device: usize,
    values: *mut i64,
    count: usize,
) -> c_int {
    // SAFETY: the caller's.
    let Some(layer) = (unsafe { layer_of(layer) }) else {
        return -libc::EINVAL;
    };
    let all = match layer.device(device) {
        Ok((info, control)) => values_of(&info, &control),
        Err(errno) => return -errno.0,
    };
    if !values.is_null() {
        // SAFETY: the caller's.
        let out = unsafe { std::slice::from_raw_parts_mut(values, count) };
        for (to, from) in out.iter_mut().zip(all) {
            *to = from;
        }
    }
    all.len() as c_int
}

fn values_of(info: &DeviceInfo, control: &Control) -> [i64; 10] {
    let state = match info.state {
        DeviceState::On => 0,
        DeviceState::Draining => 1,
        DeviceState::Failed(_) => 2,
    };
    [
        info.is_slots().into(),
        info.number.into(),
        info.priority.into(),
        state,
        units(info, info.capacity),
        units(info, info.used),
        whole(control.stored_places()),
        whole(control.kept_places()),
        i64::try_from(info.discards).unwrap_or(i64::MAX),
        i64::try_from(info.errors).unwrap_or(i64::MAX),
    ]
}

/// The attached device that an entry's page is on, in a segment or in a slot; -ENOENT if it is on none; -EINVAL.
///
/// # Safety
/// `layer` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vswap_layer_device_of(layer: *mut vswap_layer, entry: u64) -> c_int {
    // SAFETY: the caller's.
    let found = unsafe { layer_of(layer) }.zip(EntryId::new(entry));
    let Some((layer, entry)) = found else {
        return -libc::EINVAL;
    };
    let Some(on) = layer.layer.device_of(entry) else {
        return -libc::ENOENT;
    };
    let (number, is_slots) = match on {
        OnDevice::Segments(number) => (number, false),
        OnDevice::Slots(number) => (number, true),
    };
    let devices = layer.layer.store().devices();
    let mut names = devices
        .iter()
        .filter(|info| (info.number, info.is_slots()) == (number, is_slots))
        .filter_map(|info| info.name.strip_prefix("memory ")?.parse().ok());
    names.next().unwrap_or(-libc::ENOENT)
}
