//! Where the swap file goes when nobody said: `--swap auto`.

use std::path::{Path, PathBuf};

use super::error::{FileError, Refusal};
use super::{SwapFile, c_path};
use crate::errno::Errno;
use crate::fd;

const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;
const HUGETLBFS: u64 = 0x9584_58f6;

/// Less room than this on a disk is no place for a swap file.
const LEAST_ROOM: u64 = 16 << 20;

/// A directory on a disk and how large the file in it may grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoPlace {
    /// The directory for [`SwapFile::open_unnamed`].
    pub dir: PathBuf,
    /// What was asked for; else half of the disk's free space, and at most four times
    /// the RAM budget.
    pub max_bytes: u64,
}

/// The usual places: /var/tmp, else $TMPDIR. Asks the environment, which a running
/// program may change under us: to be called at the start, and kept.
#[must_use]
pub fn auto_dirs() -> Vec<PathBuf> {
    let mut dirs = vec![PathBuf::from("/var/tmp")];
    dirs.extend(
        std::env::var_os("TMPDIR")
            .filter(|d| !d.is_empty())
            .map(PathBuf::from),
    );
    dirs
}

/// The first of `dirs` that is a writable directory on a disk with room for `wanted`
/// bytes, or where none has so much, with any room. Found out by making a file
/// there, which is gone again on return.
///
/// # Errors
/// What stands against each of them.
pub fn choose_auto(
    dirs: &[PathBuf],
    ram_bytes: u64,
    wanted: Option<u64>,
) -> Result<AutoPlace, FileError> {
    let (mut second_best, mut refused) = (None, Vec::new());
    for dir in dirs {
        match room_in(dir) {
            Ok(free) => {
                let usual = (free / 2).min(ram_bytes.saturating_mul(4));
                let place = AutoPlace {
                    dir: dir.clone(),
                    max_bytes: wanted.unwrap_or(usual),
                };
                if wanted.is_none_or(|wanted| wanted <= free) {
                    return Ok(place);
                }
                second_best.get_or_insert(place);
            }
            Err(error) => refused.push(error),
        }
    }
    second_best.ok_or_else(|| FileError::no_place(refused))
}

fn room_in(dir: &Path) -> Result<u64, FileError> {
    // Looked at first, so that the common refusal leaves the directory untouched.
    let path = c_path(dir).map_err(|e| FileError::new(dir, Refusal::Other(e)))?;
    let opened = fd::open(&path, libc::O_RDONLY | libc::O_DIRECTORY, 0)
        .map_err(|e| FileError::new(dir, Refusal::from_open(e)))?;
    let in_memory = is_memory_backed(opened);
    fd::close(opened);
    if in_memory == Ok(true) {
        return Err(FileError::new(dir, Refusal::InMemory));
    }
    let file = SwapFile::open_unnamed(dir)?;
    match file.free_bytes() {
        Ok(free) if free >= LEAST_ROOM => Ok(free),
        Ok(_) => Err(FileError::new(dir, Refusal::DiskFull)),
        Err(e) => Err(FileError::new(dir, Refusal::Other(e))),
    }
}

/// Whether the file behind a descriptor is kept in RAM by its file system.
pub fn is_memory_backed(fd: i32) -> Result<bool, Errno> {
    // The field's type differs between machines; the magic numbers are 32 bits.
    let kind = fd::statfs(fd)?.f_type as u64 & 0xffff_ffff;
    Ok([TMPFS, RAMFS, HUGETLBFS].contains(&kind))
}

pub(super) fn free_bytes(fd: i32) -> Result<u64, Errno> {
    let stat = fd::statfs(fd)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_bsize as u64))
}
