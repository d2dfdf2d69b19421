//! Opens what the configuration or `swapon` names, and builds the swap layer
//! over it.

use std::path::{Path, PathBuf};

use vswap_platform::errno::Errno;
use vswap_platform::file::{self, SwapFile};
use vswap_store::device::{DeviceInfo, DeviceKind, DeviceOptions, FileDevice, SwapDevice};
use vswap_store::{SEGMENT_BYTES, Store, StoreOptions};
use vswap_units::Bytes;

use crate::config::{Config, SwapSpec};
use crate::device_spec::{DeviceError, DeviceSpec};
use crate::names::Names;
use crate::region::Region;

/// A swap file may be at most this many times the budget unless a size is given.
const FILE_PER_RAM: u64 = 4;

/// This part of the budget may hold segments read ahead.
const READAHEAD_PART: u64 = 64;

/// Segments that devices attached later may have (a terabyte). Address space only.
const LATER_PLACES: u64 = 1 << 22;

const SEGMENT: u64 = SEGMENT_BYTES as u64;

/// A device opened in the calling thread's descriptor table, not yet attached.
pub struct Opened {
    pub(crate) device: Box<dyn SwapDevice>,
    pub(crate) options: DeviceOptions,
}

/// An attached device: its number, and of which numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DeviceNumber {
    pub(crate) number: u8,
    pub(crate) is_slots: bool,
}

impl From<&DeviceInfo> for DeviceNumber {
    fn from(info: &DeviceInfo) -> Self {
        Self {
            number: info.number,
            is_slots: info.is_slots(),
        }
    }
}

impl Opened {
    /// Attaches it.
    ///
    /// # Errors
    /// ENOSPC when there are too many, ENOMEM for its tables.
    pub(crate) fn attach(self, store: &Store) -> Result<DeviceNumber, Errno> {
        let is_slots = self.options.kind == DeviceKind::Slots;
        let number = if is_slots {
            store.slots().attach(self.device, self.options)?
        } else {
            store.swapon(self.device, self.options)?
        };
        Ok(DeviceNumber { number, is_slots })
    }
}

/// Opens every device of the configuration.
///
/// # Errors
/// A sentence naming the path and what to do.
pub fn open(config: &Config) -> Result<Vec<Opened>, DeviceError> {
    let (mut opened, auto_dirs) = (Vec::new(), file::auto_dirs());
    for spec in &config.swap {
        opened.extend(open_spec(spec, config.ram, &auto_dirs)?);
    }
    if config.direct && opened.is_empty() {
        return Err(DeviceError::NoSlots);
    }
    Ok(opened)
}

/// `None` where no file was asked for by name and none can be had: RAM alone is a
/// way to work, and the report shows that nothing was written.
fn open_spec(
    spec: &SwapSpec,
    ram: u64,
    auto_dirs: &[PathBuf],
) -> Result<Option<Opened>, DeviceError> {
    match spec {
        SwapSpec::Device(spec) if spec.is_auto() => Ok(open_one(spec, ram, auto_dirs).ok()),
        SwapSpec::Device(spec) => open_one(spec, ram, auto_dirs).map(Some),
        SwapSpec::Slots(file) => {
            let mut opened = open_spec(file, ram, auto_dirs)?;
            if let Some(opened) = &mut opened {
                opened.options.kind = DeviceKind::Slots;
            }
            Ok(opened)
        }
    }
}

/// Opens one device for a budget of `ram` bytes; `auto_dirs`: where one without a name may be.
///
/// # Errors
/// A sentence naming the path and what to do.
pub fn open_one(spec: &DeviceSpec, ram: u64, auto_dirs: &[PathBuf]) -> Result<Opened, DeviceError> {
    spec.check()?;
    if spec.is_auto() {
        return open_auto(spec, ram, auto_dirs);
    }
    let path = Path::new(&spec.path);
    let kind = spec.kind.unwrap_or_else(|| kind_of(path));
    // Slots are cut into whatever is there.
    let made_of = match kind {
        DeviceKind::Slots => kind_of(path),
        other => other,
    };
    let (file, most) = match made_of {
        DeviceKind::File => {
            let file = SwapFile::open_named(path).map_err(DeviceError::File)?;
            let half_free = file.free_bytes().unwrap_or(0) / 2;
            (file, half_free.min(ram.saturating_mul(FILE_PER_RAM)))
        }
        DeviceKind::Block => {
            let file = SwapFile::open_block(path).map_err(DeviceError::File)?;
            let bytes = file.block_bytes().unwrap_or(0);
            (file, bytes)
        }
        DeviceKind::Slots | DeviceKind::Null => return Err(DeviceError::Kind(kind)),
    };
    let bytes = match (spec.size, made_of) {
        (Some(size), DeviceKind::Block) if size > most => {
            return Err(DeviceError::TooLarge {
                path: spec.path.clone(),
                bytes: most,
            });
        }
        (size, _) => size.unwrap_or(most),
    };
    Ok(opened(file, bytes, spec.options(kind)))
}

fn open_auto(spec: &DeviceSpec, ram: u64, auto_dirs: &[PathBuf]) -> Result<Opened, DeviceError> {
    let kind = spec.kind.unwrap_or(DeviceKind::File);
    if !matches!(kind, DeviceKind::File | DeviceKind::Slots) {
        return Err(DeviceError::Kind(kind));
    }
    let place = file::choose_auto(auto_dirs, ram, spec.size).map_err(DeviceError::File)?;
    let file = SwapFile::open_unnamed(&place.dir).map_err(DeviceError::File)?;
    Ok(opened(file, place.max_bytes, spec.options(kind)))
}

/// What is there says what it is; what is not there yet becomes a file.
fn kind_of(path: &Path) -> DeviceKind {
    if file::is_block_device(path) {
        DeviceKind::Block
    } else {
        DeviceKind::File
    }
}

fn opened(file: SwapFile, bytes: u64, options: DeviceOptions) -> Opened {
    Opened {
        device: Box::new(FileDevice::new(file, Bytes(bytes))),
        options,
    }
}

/// The swap layer for a region of this size, or slots in its place.
///
/// # Errors
/// The kernel's, when its tables cannot be reserved.
pub fn names(region: &Region, config: &Config, opened: Vec<Opened>) -> Result<Names, Errno> {
    let ram = config.ram;
    // The budget limits RAM segments, through reclaim; this only bounds the table.
    let ram_segments = (ram.max(1 << 30) * 4 / SEGMENT).min(1 << 20) as u32;
    let for_slots = |opened: &Opened| opened.options.kind == DeviceKind::Slots;
    let places: u64 = opened
        .iter()
        .filter(|opened| !for_slots(opened))
        .map(|opened| u64::from(opened.device.capacity_places()))
        .sum();
    let options = StoreOptions {
        readahead_segments: (ram / READAHEAD_PART / SEGMENT).clamp(2, 32) as u32,
        ..StoreOptions::new(ram_segments, (places + LATER_PLACES).min(1 << 26) as u32)
    };
    let store = Store::new(options)?;
    for opened in opened {
        opened.attach(&store)?;
    }
    Names::new(store, region.pages(), config.direct)
}
