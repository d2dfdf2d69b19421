//! What a device is called, and what is told about it.

use core::fmt;

use vswap_platform::errno::Errno;
use vswap_units::Bytes;

/// What a device is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceKind {
    /// A file that grows as places are written and has holes where they are free.
    #[default]
    File,
    /// A raw block device, with discards.
    Block,
    /// Plain 4 KiB slots: ordinary swap.
    Slots,
    /// Nothing at all, for measuring and for tests.
    Null,
}

impl DeviceKind {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Block => "block",
            Self::Slots => "slots",
            Self::Null => "null",
        }
    }

    /// The kind of that word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::File, Self::Block, Self::Slots, Self::Null]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a device is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceOptions {
    /// What it is called: its path.
    pub name: String,
    /// What it is made of.
    pub kind: DeviceKind,
    /// Higher ones are written to first, equal ones in turn. `None`: below all
    /// that were attached before, as with the kernel's swapon.
    pub priority: Option<i32>,
}

/// What may be done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// Read and written.
    On,
    /// Being taken off: read, and not written any more.
    Draining,
    /// Closed for writing by this error; still read.
    Failed(Errno),
}

impl DeviceState {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Draining => "draining",
            Self::Failed(_) => "failed",
        }
    }
}

/// One device at one moment. What was counted is of this process alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its number, good while it is attached: among those for slots, or among the others.
    pub number: u8,
    /// What it is called.
    pub name: String,
    /// What it is made of.
    pub kind: DeviceKind,
    /// Its priority.
    pub priority: i32,
    /// What may be done with it.
    pub state: DeviceState,
    /// Which file it is.
    pub identity: Option<(u64, u64)>,
    /// What it holds at most.
    pub capacity: Bytes,
    /// Space this process takes on it, in whole segments or slots.
    pub used: Bytes,
    /// Bytes written to it.
    pub written: Bytes,
    /// Bytes read from it.
    pub read: Bytes,
    /// Writes to it: of a segment, or of neighbouring slots.
    pub writes: u64,
    /// Of these, right behind the one before.
    pub sequential_writes: u64,
    /// Places given back to it.
    pub discards: u64,
    /// Calls it refused.
    pub errors: u64,
}

impl DeviceInfo {
    /// Does it have slots, and not places for segments?
    #[must_use]
    pub fn is_slots(&self) -> bool {
        self.kind == DeviceKind::Slots
    }
}
