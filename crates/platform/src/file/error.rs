//! Why a swap file was refused, as one sentence that names what to do.

use core::fmt;
use std::path::{Path, PathBuf};

use crate::errno::Errno;

/// The reason alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The path is a directory.
    IsDirectory,
    /// Not a plain file: a device, a pipe, a socket.
    NotAFile,
    /// No permission to write it, or a read-only file system.
    NotWritable,
    /// The file has contents and they are not ours.
    HasData,
    /// The file system keeps its files in RAM.
    InMemory,
    /// Another running vswap program holds it.
    InUse,
    /// A directory on the way is not there.
    NoDirectory,
    /// The disk or the quota is full.
    DiskFull,
    /// Asked for as a block device, and is none.
    NotBlock,
    /// A block device that is mounted, swapped to, or held by somebody else.
    BlockInUse,
    /// A block device with contents that are not ours.
    BlockHasData,
    /// A block device without room for anything.
    TooSmall,
    /// `auto` found no place; [`FileError::tried`] says what was wrong with each.
    NoPlace,
    /// Something else; the number says what.
    Other(Errno),
}

impl Refusal {
    /// What an errno of open, truncate or the first write means here.
    pub(super) fn from_open(errno: Errno) -> Refusal {
        match errno {
            Errno::EISDIR => Refusal::IsDirectory,
            Errno::EACCES | Errno::EPERM | Errno::EROFS => Refusal::NotWritable,
            Errno::ENXIO | Errno::ENODEV => Refusal::NotAFile,
            Errno::ENOENT | Errno::ENOTDIR => Refusal::NoDirectory,
            Errno::ENOSPC | Errno::EDQUOT => Refusal::DiskFull,
            Errno::ETXTBSY => Refusal::InUse,
            other => Refusal::Other(other),
        }
    }
}

/// A swap file, or a directory for one, that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    path: PathBuf,
    why: Refusal,
    tried: Vec<FileError>,
}

impl FileError {
    pub(super) fn new(path: &Path, why: Refusal) -> FileError {
        FileError {
            path: path.to_owned(),
            why,
            tried: Vec::new(),
        }
    }

    pub(super) fn no_place(tried: Vec<FileError>) -> FileError {
        FileError {
            path: PathBuf::new(),
            why: Refusal::NoPlace,
            tried,
        }
    }

    /// The places looked at, where the place was to be chosen.
    pub fn tried(&self) -> &[FileError] {
        &self.tried
    }

    fn write_tried(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no place for a swap file (")?;
        for (index, error) in self.tried.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let why = match error.why {
                Refusal::InMemory => "is in RAM",
                Refusal::DiskFull => "has no free space",
                Refusal::NoDirectory => "is not there",
                Refusal::NotWritable => "cannot be written",
                _ => "cannot be used",
            };
            write!(f, "{comma}{} {why}", error.path.display())?;
        }
        f.write_str("); name one with --swap PATH, or choose --swap none")
    }

    /// The reason alone.
    pub fn why(&self) -> Refusal {
        self.why
    }

    /// What was refused.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.why {
            Refusal::IsDirectory => {
                write!(f, "swap file {path} is a directory; name a file inside it")
            }
            Refusal::NotAFile => write!(
                f,
                "swap file {path} is not a plain file; name a file on a disk"
            ),
            Refusal::NotWritable => write!(
                f,
                "swap file {path} cannot be written; make it writable or name another place"
            ),
            Refusal::HasData => write!(
                f,
                "swap file {path} holds data that is not vswap's and is left alone; \
                 remove it or name another file"
            ),
            Refusal::InMemory => write!(
                f,
                "swap file {path} is on a file system in RAM, where swap would save nothing; \
                 name a place on a disk"
            ),
            Refusal::InUse => write!(
                f,
                "swap file {path} is in use by another program, or by a child of this one that still has pages on it; \
                 name another file"
            ),
            Refusal::NoDirectory => write!(
                f,
                "swap file {path} is in a directory that does not exist; make it or name another place"
            ),
            Refusal::DiskFull => write!(
                f,
                "swap file {path} is on a full disk; free some space or name another place"
            ),
            Refusal::NotBlock => write!(
                f,
                "{path} is not a block device; name one, or leave the kind out"
            ),
            Refusal::BlockInUse => write!(
                f,
                "block device {path} is in use: mounted, used as swap, or opened by another program; \
                 take it out of use or name another"
            ),
            Refusal::BlockHasData => write!(
                f,
                "block device {path} holds data that is not vswap's and is left alone; \
                 clear its beginning ('blkdiscard' or 'wipefs' and zeros) or name another"
            ),
            Refusal::TooSmall => write!(
                f,
                "block device {path} has no room for a segment; name a larger one"
            ),
            Refusal::NoPlace => self.write_tried(f),
            Refusal::Other(errno) => write!(
                f,
                "swap file {path} cannot be used ({errno}); name another place"
            ),
        }
    }
}

impl core::error::Error for FileError {}
