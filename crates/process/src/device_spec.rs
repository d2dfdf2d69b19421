//! What a swap device is asked for with, and why it cannot be had.

use std::fmt;

use vswap_platform::errno::Errno;
use vswap_platform::file::FileError;
use vswap_store::device::{DeviceKind, DeviceOptions};
use vswap_store::{SEGMENT_BYTES, StoreError};
use vswap_units::Bytes;

/// Priorities that may be given, as with the kernel's swapon.
const PRIORITIES: std::ops::RangeInclusive<i32> = 0..=32767;

/// What the file without a name is called. A file truly called so is `./auto`.
const AUTO: &str = "auto";

/// A device to be attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Where it is; `auto`: a file without a name in the usual places.
    pub path: String,
    /// Bytes it may hold; `None`: what there is room for.
    pub size: Option<u64>,
    /// Higher ones are filled first, equal ones in turn; `None`: below all others.
    pub priority: Option<i32>,
    /// What it is; `None`: what is found at the path, or a file.
    pub kind: Option<DeviceKind>,
}

impl DeviceSpec {
    /// The file without a name, as large as is usual.
    #[must_use]
    pub fn auto() -> Self {
        Self::from_word(AUTO)
    }

    /// Whether this is the file without a name.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        self.path == AUTO
    }

    /// Reads `key=value` lines: `path`, `size`, `priority`, `kind`.
    ///
    /// # Errors
    /// A sentence naming what was not understood.
    pub fn from_text(text: &str) -> Result<Self, DeviceError> {
        let mut spec = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            spec.set(key.trim(), value)
                .ok_or_else(|| DeviceError::Words(line.to_owned()))?;
        }
        spec.check().map(|()| spec)
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "path" => self.path = value.to_owned(),
            "size" => self.size = Some(size(value.trim())?),
            "priority" => self.priority = Some(value.trim().parse().ok()?),
            "kind" => self.kind = Some(DeviceKind::from_name(value.trim())?),
            _ => return None,
        }
        Some(())
    }

    /// Reads `PATH[:SIZE][@PRIORITY]`. A tail that is neither belongs to the path.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        let (rest, priority) = split_tail(word, '@', |tail| tail.parse::<u16>().ok());
        let (path, size) = split_tail(rest, ':', size);
        Self {
            path: path.to_owned(),
            size,
            priority: priority.map(i32::from),
            kind: None,
        }
    }

    /// What the store is told of it.
    pub(crate) fn options(&self, kind: DeviceKind) -> DeviceOptions {
        DeviceOptions {
            name: self.path.clone(),
            kind,
            priority: self.priority,
        }
    }

    /// What no device may be asked for with.
    ///
    /// # Errors
    /// A sentence that says what to give.
    pub fn check(&self) -> Result<(), DeviceError> {
        if self.path.is_empty() || self.path.contains(['\n', '\0']) {
            return Err(DeviceError::NoPath);
        }
        if self.size.is_some_and(|size| size < SEGMENT_BYTES as u64) {
            return Err(DeviceError::TooSmall(self.path.clone()));
        }
        match self.priority {
            Some(priority) if !PRIORITIES.contains(&priority) => {
                Err(DeviceError::Priority(priority))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(size) = self.size {
            write!(f, ":{size}")?;
        }
        if let Some(priority) = self.priority {
            write!(f, "@{priority}")?;
        }
        Ok(())
    }
}

fn size(value: &str) -> Option<u64> {
    Bytes::parse(value).ok().map(|bytes| bytes.0)
}

fn split_tail<T>(word: &str, mark: char, read: fn(&str) -> Option<T>) -> (&str, Option<T>) {
    match word.rsplit_once(mark) {
        Some((head, tail)) if !head.is_empty() => match read(tail) {
            Some(value) => (head, Some(value)),
            None => (word, None),
        },
        _ => (word, None),
    }
}

/// Why a device could not be attached or taken off; displays as one sentence
/// that says what to do. Nothing was changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceError {
    /// A line of the specification.
    Words(String),
    /// No usable path.
    NoPath,
    /// The size is 0, or less than a segment.
    TooSmall(String),
    /// More was asked for than a block device has.
    TooLarge {
        /// Which.
        path: String,
        /// What it has.
        bytes: u64,
    },
    /// The priority is out of range.
    Priority(i32),
    /// No device of that kind can be made this way.
    Kind(DeviceKind),
    /// It is attached already.
    Twice(String),
    /// There are as many devices as there may be.
    TooMany,
    /// It cannot be opened, or is somebody else's.
    File(FileError),
    /// Not attached.
    NotOn(String),
    /// It is being taken off already.
    Draining(String),
    /// What is on it fits nowhere else.
    DoesNotFit {
        /// Which.
        path: String,
        /// How much of it.
        excess: Bytes,
    },
    /// A segment could not be moved.
    Failed {
        /// Which.
        path: String,
        /// Why.
        why: StoreError,
    },
    /// Given up by whoever asked.
    Cancelled(String),
    /// No memory for the tables of it.
    Memory(Errno),
    /// The engine is ending.
    Ending,
    /// The engine has no virtual layer that could use one.
    Direct,
    /// Without a virtual layer, and no file for slots can be had.
    NoSlots,
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = Bytes(SEGMENT_BYTES as u64);
        match self {
            Self::Words(line) => write!(
                f,
                "'{line}' is not understood; give path=, size=, priority= or kind=, one a line"
            ),
            Self::NoPath => {
                f.write_str("no path of a swap device is given; name a file or a block device")
            }
            Self::TooSmall(path) => write!(
                f,
                "swap device {path} of that size holds nothing; give at least {least}"
            ),
            Self::TooLarge { path, bytes } => write!(
                f,
                "block device {path} is smaller than that; give at most {}",
                Bytes(*bytes)
            ),
            Self::Priority(priority) => write!(
                f,
                "a priority of {priority} cannot be; give 0 to {}, or none",
                PRIORITIES.end()
            ),
            Self::Kind(kind) => write!(
                f,
                "a swap device of kind '{kind}' cannot be attached here; use file, block or slots"
            ),
            Self::Twice(path) => write!(f, "{path} is on already; name another"),
            Self::TooMany => f.write_str("there are too many swap devices; take one off first"),
            Self::File(error) => error.fmt(f),
            Self::NotOn(path) => write!(
                f,
                "{path} is not a swap device of this program; see which are on"
            ),
            Self::Draining(path) => write!(f, "{path} is being taken off already; wait for it"),
            Self::DoesNotFit { path, excess } => write!(
                f,
                "{excess} of what is on {path} fit nowhere else; add a device, raise the budget or free memory"
            ),
            Self::Failed { path, why } => write!(
                f,
                "{path} could not be taken off and is still on: {why}; try again, or add a device first"
            ),
            Self::Cancelled(path) => write!(f, "taking {path} off was given up; it is still on"),
            Self::Memory(errno) => write!(
                f,
                "no memory for the tables of a swap device ({errno}); free some"
            ),
            Self::Ending => f.write_str("the engine is ending and changes no devices"),
            Self::Direct => f.write_str(
                "this space has no virtual layer: its devices stay as they were at its start",
            ),
            Self::NoSlots => f.write_str(
                "without the virtual layer pages need a slots device, and no place for its file was found; name one: slots:PATH",
            ),
        }
    }
}

impl std::error::Error for DeviceError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_may_end_in_a_size_and_a_priority() {
        let spec = |path: &str, size, priority| DeviceSpec {
            path: path.to_owned(),
            size,
            priority,
            kind: None,
        };
        for (word, wanted) in [
            ("/a", spec("/a", None, None)),
            ("/a:2G", spec("/a", Some(2 << 30), None)),
            ("/a@7", spec("/a", None, Some(7))),
            ("/a:1M@0", spec("/a", Some(1 << 20), Some(0))),
            ("/a:b@c", spec("/a:b@c", None, None)),
            ("/a@7:1M", spec("/a@7", Some(1 << 20), None)),
        ] {
            let found = DeviceSpec::from_word(word);
            assert_eq!(found, wanted);
            assert_eq!(DeviceSpec::from_word(&found.to_string()), wanted);
        }
    }

    #[test]
    fn a_text_says_everything() {
        let spec = DeviceSpec::from_text("path=/a b:c=d\nsize=1G\npriority=5\nkind=block").unwrap();
        assert_eq!(spec.path, "/a b:c=d");
        assert_eq!((spec.size, spec.priority), (Some(1 << 30), Some(5)));
        assert_eq!(spec.kind, Some(DeviceKind::Block));
    }

    #[test]
    fn a_wrong_word_is_named_with_what_to_give() {
        for (text, word) in [
            ("path=/a\nsize=0", "256.0 KiB"),
            ("path=/a\nsize=many", "size=many"),
            ("path=/a\npriority=-1", "-1"),
            ("path=/a\npriority=99999", "32767"),
            ("path=/a\nkind=tape", "kind=tape"),
            ("size=1G", "path"),
            ("path=/a\nspeed=11", "speed=11"),
        ] {
            let error = DeviceSpec::from_text(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
