//! Opens what the configuration names, and builds the swap layer over it.

use std::path::{Path, PathBuf};

use vswap_platform::errno::Errno;
use vswap_platform::file::{self, FileError, SwapFile};
use vswap_space::{LayerOptions, SwapLayer};
use vswap_store::device::{FileDevice, SwapDevice};
use vswap_store::{SEGMENT_BYTES, Store, StoreOptions};
use vswap_units::Bytes;

use crate::config::{Config, SwapSpec};
use crate::error::StartError;
use crate::region::Region;

/// A swap file may be at most this many times the budget unless a size is given.
const FILE_PER_RAM: u64 = 4;

/// This part of the budget may hold segments read ahead.
const READAHEAD_PART: u64 = 64;

/// Devices opened in the calling thread's descriptor table.
#[derive(Default)]
pub struct Opened {
    devices: Vec<Box<dyn SwapDevice>>,
    slots: Vec<Box<dyn SwapDevice>>,
    /// What devices for segments hold together.
    pub bytes: u64,
    /// Their descriptors.
    pub fds: Vec<i32>,
}

/// Opens every device of the configuration.
///
/// # Errors
/// A sentence naming the path and what to do.
pub fn open(config: &Config) -> Result<Opened, StartError> {
    let mut opened = Opened::default();
    for spec in &config.swap {
        let (file_spec, for_slots) = match spec {
            SwapSpec::Slots(file) => (&**file, true),
            file => (file, false),
        };
        let Some((file, bytes)) = open_file(file_spec, config.ram)? else {
            continue;
        };
        opened.fds.push(file.raw_fd());
        let device = Box::new(FileDevice::new(file, Bytes(bytes)));
        if for_slots {
            opened.slots.push(device);
        } else {
            opened.bytes += bytes;
            opened.devices.push(device);
        }
    }
    Ok(opened)
}

/// `None` where no file was asked for by name and none can be had: RAM alone is a
/// way to work, and the report shows that nothing was written.
fn open_file(spec: &SwapSpec, ram: u64) -> Result<Option<(SwapFile, u64)>, StartError> {
    match spec {
        SwapSpec::Path(path, size) => open_path(path, *size, ram)
            .map(Some)
            .map_err(StartError::Device),
        SwapSpec::Auto | SwapSpec::Slots(_) => Ok(open_auto(ram).ok()),
    }
}

fn open_auto(ram: u64) -> Result<(SwapFile, u64), FileError> {
    let place = file::choose_auto(ram)?;
    let file = SwapFile::open_unnamed(&place.dir)?;
    Ok((file, place.max_bytes))
}

fn open_path(path: &str, size: Option<u64>, ram: u64) -> Result<(SwapFile, u64), FileError> {
    let file = SwapFile::open_named(Path::new(&PathBuf::from(path)))?;
    let half_free = file.free_bytes().unwrap_or(0) / 2;
    Ok((
        file,
        size.unwrap_or_else(|| half_free.min(ram.saturating_mul(FILE_PER_RAM))),
    ))
}

/// The swap layer for a region of this size.
///
/// # Errors
/// The kernel's, when its tables cannot be reserved.
pub fn layer(region: &Region, ram: u64, opened: Opened) -> Result<SwapLayer, Errno> {
    let segment = SEGMENT_BYTES as u64;
    // The budget limits RAM segments, through reclaim; this only bounds the table.
    let ram_segments = (ram.max(1 << 30) * 4 / segment).min(1 << 20) as u32;
    let places = (opened.bytes / segment).min(1 << 26) as u32;
    let readahead_segments = if places == 0 {
        0
    } else {
        (ram / READAHEAD_PART / segment).clamp(2, 32) as u32
    };
    let options = StoreOptions {
        readahead_segments,
        ..StoreOptions::new(ram_segments, places)
    };
    let mut store = Store::new(options)?;
    for device in opened.devices {
        store.attach(device)?;
    }
    for device in opened.slots {
        store.slots().attach(device)?;
    }
    SwapLayer::new(
        LayerOptions {
            max_entries: region.pages(),
        },
        store,
    )
}
