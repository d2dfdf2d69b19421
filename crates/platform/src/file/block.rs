//! Raw block devices as swap: opened exclusively, empty or ours, with discards.
//!
//! A device has no length to grow and no file system to ask. The kernel lets one
//! opener have it with O_EXCL, and counts a mount, a swap area and a volume
//! manager as such an opener: so nobody's mounted file system is ever written.
//! What is not in use may still be somebody's: anything but zeros at its
//! beginning is left alone, unless it is our header.

use std::path::Path;

use super::{ALIGN, FileError, MAGIC, Refusal, SwapFile, c_path};
use crate::errno::Errno;
use crate::fd;
use crate::map::AnonMap;

/// Where places begin: at a multiple of what flash erases at once.
pub(super) const START: u64 = 256 << 10;
/// What is looked at: every file system, partition table and volume manager has
/// its mark here, but those that also have one at the beginning.
const LOOKED_AT: usize = 64 << 10;

const BLKGETSIZE64: usize = 0x8008_1272;
const BLKDISCARD: usize = 0x1277;

impl SwapFile {
    /// The block device `path`. Refused: what is no block device, what is
    /// mounted, swapped to or otherwise in use, and any with contents that are
    /// not ours.
    pub fn open_block(path: &Path) -> Result<SwapFile, FileError> {
        let refuse = |why| FileError::new(path, why);
        let name = c_path(path).map_err(|e| refuse(Refusal::Other(e)))?;
        // Looked at before it is opened: opening a stranger's device can do things.
        if !is_block_device(path) {
            return Err(refuse(Refusal::NotBlock));
        }
        let flags = libc::O_RDWR | libc::O_EXCL | libc::O_DIRECT;
        let fd = fd::open(&name, flags, 0).map_err(|errno| {
            refuse(match errno {
                Errno::EBUSY => Refusal::BlockInUse,
                other => Refusal::from_open(other),
            })
        })?;
        Self::take_block(fd::lift(fd)).map_err(refuse)
    }

    fn take_block(fd: i32) -> Result<SwapFile, Refusal> {
        let stat = fd::stat(fd).map_err(Refusal::Other)?;
        let file = SwapFile {
            fd,
            direct: true,
            block: true,
            start: START,
            device: stat.st_dev,
            inode: stat.st_ino,
        };
        if file.block_bytes().map_err(Refusal::Other)? == 0 {
            return Err(Refusal::TooSmall);
        }
        file.lock(libc::LOCK_EX)?;
        file.check_beginning()?;
        let page = AnonMap::new(ALIGN, ALIGN).map_err(Refusal::Other)?;
        let header = page.slice_mut(0, ALIGN).ok_or(Refusal::TooSmall)?;
        header
            .iter_mut()
            .zip(MAGIC)
            .for_each(|(to, from)| *to = *from);
        file.write_raw(0, header).map_err(Refusal::from_open)?;
        file.lock(libc::LOCK_SH)?;
        Ok(file)
    }

    fn check_beginning(&self) -> Result<(), Refusal> {
        let map = AnonMap::new(LOOKED_AT, ALIGN).map_err(Refusal::Other)?;
        let bytes = map.slice_mut(0, LOOKED_AT).ok_or(Refusal::TooSmall)?;
        self.read_raw(0, bytes).map_err(Refusal::Other)?;
        if bytes.starts_with(MAGIC) || bytes.iter().all(|&byte| byte == 0) {
            Ok(())
        } else {
            Err(Refusal::BlockHasData)
        }
    }

    /// Bytes behind the header on a block device.
    pub fn block_bytes(&self) -> Result<u64, Errno> {
        let mut bytes = 0_u64;
        // SAFETY: BLKGETSIZE64 writes one u64.
        unsafe { fd::ioctl(self.fd, BLKGETSIZE64, (&raw mut bytes) as usize) }?;
        Ok(bytes.saturating_sub(START))
    }

    pub(super) fn discard_blocks(&self, start: u64, len: u64) -> Result<(), Errno> {
        let range = [start, len];
        // SAFETY: BLKDISCARD reads two u64: where and how much.
        unsafe { fd::ioctl(self.fd, BLKDISCARD, range.as_ptr() as usize) }.map(drop)
    }
}

/// Whether a path names a block device, without opening it.
pub fn is_block_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device())
}
