//! Why something cannot be done with a group.

use std::fmt;

use vswap_store::{MAX_DEPTH, MAX_GROUPS};
use vswap_units::Bytes;

/// Why something cannot be done with a group; displays as one sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupError {
    /// What was said cannot be used.
    Invalid(String),
    /// There is no such group.
    Unknown,
    /// There is one of this name.
    Exists(String),
    /// The program still holds memory of it: blocks and bytes.
    Busy(u64, u64),
    /// Others depend on it, or swapped pages do.
    InUse(String),
    /// No more fit.
    TooMany,
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(sentence) | Self::InUse(sentence) => f.write_str(sentence),
            Self::Unknown => f.write_str("there is no such group: it was closed, or never was"),
            Self::Exists(name) => {
                write!(f, "there is a group '{name}' already; choose another name")
            }
            Self::Busy(blocks, bytes) => write!(
                f,
                "{blocks} blocks of {} still live in this group; delete them first",
                Bytes(*bytes)
            ),
            Self::TooMany => write!(
                f,
                "a space has at most {} groups, {MAX_DEPTH} deep",
                MAX_GROUPS - 1
            ),
        }
    }
}

impl std::error::Error for GroupError {}

pub(super) fn invalid(sentence: String) -> GroupError {
    GroupError::Invalid(sentence)
}
