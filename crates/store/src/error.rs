//! What can go wrong in the store.

use core::fmt;

use vswap_platform::errno::Errno;

use crate::location::Location;

/// Why the store could not do something. After any of these everything that
/// was stored is where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// No RAM segment is free: write back, clean, or keep the page in memory.
    NoRoom,
    /// The page shrinks too little to be worth RAM, and the workspace was told to refuse such: keep it in memory.
    Incompressible,
    /// No place on any device is free: the segment stays in RAM.
    Full,
    /// Every device is closed for writing by an earlier error, or there is none.
    Closed,
    /// The device failed.
    Io(Errno),
    /// The bytes at this location are not what was stored for the owner.
    Corrupt {
        /// Who asked.
        owner: u64,
        /// Where.
        location: Location,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom => f.write_str("no memory for compressed pages is left in the budget"),
            Self::Incompressible => {
                f.write_str("the page does not compress enough to be worth keeping in RAM")
            }
            Self::Full => f.write_str("the swap devices are full"),
            Self::Closed => f.write_str(
                "no swap device takes writes: none is attached, or an earlier write failed",
            ),
            Self::Io(errno) => write!(f, "a swap device failed: {errno}"),
            Self::Corrupt { owner, location } => write!(
                f,
                "the stored page of owner {owner:#x} (segment {}, granule {}) does not read back as it was written",
                location.segment, location.granule
            ),
        }
    }
}

impl core::error::Error for StoreError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_happened_in_one_sentence() {
        assert_eq!(
            StoreError::Io(Errno::EIO).to_string(),
            "a swap device failed: EIO: input/output error"
        );
    }
}
