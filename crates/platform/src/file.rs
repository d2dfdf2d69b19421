//! Swap files: aligned reads and writes that leave the page cache alone.
//!
//! The first page of every file is our header; offsets given to the functions
//! here start behind it. A swap file holds nothing that outlives the process,
//! so opening one empties it, but only one that is empty or carries our header:
//! somebody's data is never written. With O_DIRECT nothing piles up in the page
//! cache; where a file system has none, each write is pushed out and dropped
//! again, since cached swap would be RAM under another name.

mod auto;
mod block;
mod error;

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub use auto::{AutoPlace, auto_dirs, choose_auto, is_memory_backed};
pub use block::is_block_device;
pub use error::{FileError, Refusal};
use vswap_units::PAGE_SIZE;

use crate::errno::Errno;
use crate::fd::{self, CPath, Digits};
use crate::map::AnonMap;

/// Offsets, lengths and buffer addresses are multiples of this.
pub const ALIGN: usize = PAGE_SIZE;

const HEADER_BYTES: u64 = PAGE_SIZE as u64;
/// "VSWAPSW" and the format's number.
const MAGIC: &[u8; 8] = b"VSWAPSW1";

/// One open swap file. Dropping it closes the descriptor and nothing else: after
/// a fork the file is also somebody else's.
#[derive(Debug)]
pub struct SwapFile {
    fd: i32,
    direct: bool,
    block: bool,
    /// Where offset 0 of the functions here is.
    start: u64,
    device: u64,
    inode: u64,
}

impl SwapFile {
    /// A file without a name in `dir`: gone when the last process using it is.
    pub fn open_unnamed(dir: &Path) -> Result<SwapFile, FileError> {
        let refuse = |why| FileError::new(dir, why);
        let path = c_path(dir).map_err(|e| refuse(Refusal::Other(e)))?;
        let flags = libc::O_RDWR | libc::O_TMPFILE | libc::O_EXCL;
        let opened = match fd::open(&path, flags, 0o600) {
            // Old file systems answer in different words that they have no
            // O_TMPFILE; creating and unlinking shows the real trouble, if any.
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL | Errno::ENOENT) => {
                create_and_unlink(dir)
            }
            other => other,
        };
        let fd = opened.map_err(|e| refuse(Refusal::from_open(e)))?;
        Self::take(fd).map_err(refuse)
    }

    /// The file `path`, made if it is not there. Refused: directories and other
    /// non-files, what cannot be written, what is in RAM, what another vswap
    /// uses, and any file with contents that are not ours.
    pub fn open_named(path: &Path) -> Result<SwapFile, FileError> {
        let refuse = |why| FileError::new(path, why);
        let name = c_path(path).map_err(|e| refuse(Refusal::Other(e)))?;
        let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOCTTY;
        let (opened, created) = match fd::open(&name, flags, 0) {
            Err(Errno::ENOENT) => (
                fd::open(&name, flags | libc::O_CREAT | libc::O_EXCL, 0o600),
                true,
            ),
            other => (other, false),
        };
        let fd = opened.map_err(|e| refuse(Refusal::from_open(e)))?;
        let checked = if created { Ok(()) } else { check_contents(fd) };
        if let Err(why) = checked {
            fd::close(fd);
            return Err(refuse(why));
        }
        Self::take(fd).map_err(|why| {
            if created {
                // What we refuse we leave as we found it: absent.
                let _ = fd::unlink(&name);
            }
            refuse(why)
        })
    }

    /// Makes an open, checked file ours: lock, empty, header. Closes `fd` on error.
    fn take(fd: i32) -> Result<SwapFile, Refusal> {
        let fd = fd::lift(fd);
        let mut file = SwapFile {
            fd,
            direct: false,
            block: false,
            start: HEADER_BYTES,
            device: 0,
            inode: 0,
        };
        if is_memory_backed(fd).map_err(Refusal::Other)? {
            return Err(Refusal::InMemory);
        }
        file.lock(libc::LOCK_EX)?;
        let stat = fd::stat(fd).map_err(Refusal::Other)?;
        (file.device, file.inode) = (stat.st_dev, stat.st_ino);
        fd::set_len(fd, 0).map_err(Refusal::from_open)?;
        file.write_header().map_err(Refusal::from_open)?;
        file.lock(libc::LOCK_SH)?;
        Ok(file)
    }

    /// Keeps other programs off the file: who takes it has the lock alone for that time, who uses it has it beside those
    /// who have opened it again, in other descriptor tables. So it is kept until the last of them is gone, also where
    /// that is a forked child of a program that has taken the file off, or ended.
    fn lock(&self, how: i32) -> Result<(), Refusal> {
        fd::try_flock(self.fd, how).map_err(|e| match e {
            Errno::EAGAIN if self.block => Refusal::BlockInUse,
            Errno::EAGAIN => Refusal::InUse,
            other => Refusal::Other(other),
        })
    }

    /// Writes the header and finds out on the way whether O_DIRECT works here:
    /// some file systems accept the flag and fail at the first write.
    fn write_header(&mut self) -> Result<(), Errno> {
        let page = AnonMap::new(PAGE_SIZE, PAGE_SIZE)?;
        page.copy_in(0, MAGIC).ok_or(Errno::EINVAL)?;
        let bytes = page.slice(0, PAGE_SIZE).ok_or(Errno::EINVAL)?;
        let plain = fd::fcntl(self.fd, libc::F_GETFL, 0)? & !libc::O_NONBLOCK as usize;
        let direct = plain | libc::O_DIRECT as usize;
        self.direct = fd::fcntl(self.fd, libc::F_SETFL, direct).is_ok();
        if self.direct {
            match self.write_raw(0, bytes) {
                Err(Errno::EINVAL | Errno::EOPNOTSUPP) => self.direct = false,
                other => return other,
            }
        }
        fd::fcntl(self.fd, libc::F_SETFL, plain)?;
        self.write_raw(0, bytes)
    }

    /// Whether the page cache is bypassed by the file system itself.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// The descriptor, to keep it open.
    pub fn raw_fd(&self) -> i32 {
        self.fd
    }

    /// Writes all of `data` at `offset`. EINVAL unless address, length and
    /// offset are multiples of [`ALIGN`]; ENOSPC when the disk is full.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        check_aligned(offset, data)?;
        self.write_raw(offset + self.start, data)
    }

    fn write_raw(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut rest = data;
        let mut at = offset;
        while !rest.is_empty() {
            match fd::pwrite(self.fd, rest, at) {
                Ok(0) => return Err(Errno::EIO),
                Ok(n) => {
                    rest = rest.get(n..).ok_or(Errno::EIO)?;
                    at += n as u64;
                }
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e),
            }
        }
        if !self.direct {
            // Its error is that of the write, told late.
            fd::sync_range(self.fd, offset, data.len() as u64)?;
            fd::drop_cache(self.fd, offset, data.len() as u64);
        }
        Ok(())
    }

    /// Fills all of `out` from `offset`, aligned as in [`write_at`](Self::write_at).
    /// EIO when the file ends before: missing bytes are never read as zeros.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Errno> {
        check_aligned(offset, out)?;
        self.read_raw(offset + self.start, out)
    }

    fn read_raw(&self, start: u64, out: &mut [u8]) -> Result<(), Errno> {
        let len = out.len();
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|r| !r.is_empty()) {
            match fd::pread(self.fd, rest, start + done as u64) {
                Ok(0) => return Err(Errno::EIO),
                Ok(n) => done += n,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e),
            }
        }
        if !self.direct {
            fd::drop_cache(self.fd, start, len as u64);
        }
        Ok(())
    }

    /// Gives the disk blocks of a range back. EOPNOTSUPP where the file system or
    /// the disk cannot: the space is then only reused.
    pub fn punch(&self, offset: u64, len: u64) -> Result<(), Errno> {
        if self.block {
            return self.discard_blocks(offset + self.start, len);
        }
        fd::punch(self.fd, offset + self.start, len)
    }

    /// Makes the file end at `len` (behind the header).
    pub fn set_len(&self, len: u64) -> Result<(), Errno> {
        fd::set_len(self.fd, len + HEADER_BYTES)
    }

    /// Bytes the file takes on its disk now, header included.
    pub fn disk_bytes(&self) -> Result<u64, Errno> {
        Ok(fd::stat(self.fd)?.st_blocks as u64 * 512)
    }

    /// Bytes of the file system that this process may still take.
    pub fn free_bytes(&self) -> Result<u64, Errno> {
        auto::free_bytes(self.fd)
    }

    /// Which file it is: `st_dev` and `st_ino`.
    pub fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Whether it is a raw block device.
    pub fn is_block(&self) -> bool {
        self.block
    }

    /// Closes the descriptor in the calling thread's table, if it still is this
    /// file there. For a file nobody uses any more.
    pub fn close_here(&self) {
        if self.is_still_ours() {
            fd::close(self.fd);
        }
    }

    /// Whether the descriptor still is this file: a program may have closed it
    /// and opened something else under its number.
    pub fn is_still_ours(&self) -> bool {
        fd::stat(self.fd).is_ok_and(|s| s.st_dev == self.device && s.st_ino == self.inode)
    }

    /// The same file again, out of the descriptor table of thread `tid` of this
    /// process, for when the program has closed ours. ESTALE if it is another.
    pub fn reopen_via_proc(&self, tid: i32) -> Result<SwapFile, Errno> {
        let tid = Digits::new(u64::try_from(tid).map_err(|_| Errno::ESRCH)?);
        let number = Digits::new(u64::try_from(self.fd).map_err(|_| Errno::EBADF)?);
        let path = CPath::new(&[
            b"/proc/self/task/",
            tid.as_bytes(),
            b"/fd/",
            number.as_bytes(),
        ])?;
        // Looked at before it is opened: opening a stranger's device can do things.
        let look = self.opened_again(path.as_c_str(), libc::O_PATH)?;
        drop(look);
        let direct = if self.direct { libc::O_DIRECT } else { 0 };
        let again = self.opened_again(path.as_c_str(), libc::O_RDWR | direct)?;
        fd::try_flock(again.fd, libc::LOCK_SH)?;
        Ok(again)
    }

    fn opened_again(&self, path: &CStr, flags: i32) -> Result<SwapFile, Errno> {
        let again = SwapFile {
            fd: fd::lift(fd::open(path, flags, 0)?),
            ..*self
        };
        if again.is_still_ours() {
            Ok(again)
        } else {
            Err(Errno::ESTALE)
        }
    }
}

/// Closes a descriptor number in the calling thread's table. Contract: it is ours there.
pub fn close_number(number: i32) {
    fd::close(number);
}

impl Drop for SwapFile {
    fn drop(&mut self) {
        // In another descriptor table, or after the program closed it, the
        // number may mean somebody else's file.
        self.close_here();
    }
}

/// Whether an existing file may be emptied: a plain file, ours or empty.
fn check_contents(fd: i32) -> Result<(), Refusal> {
    let stat = fd::stat(fd).map_err(Refusal::Other)?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => {}
        libc::S_IFDIR => return Err(Refusal::IsDirectory),
        _ => return Err(Refusal::NotAFile),
    }
    // Root may write these all the same; whoever made them so did not want it.
    if stat.st_mode & 0o222 == 0 {
        return Err(Refusal::NotWritable);
    }
    if stat.st_size == 0 {
        return Ok(());
    }
    let mut start = [0u8; MAGIC.len()];
    match fd::pread(fd, &mut start, 0) {
        Ok(_) if &start == MAGIC => Ok(()),
        Ok(_) => Err(Refusal::HasData),
        Err(e) => Err(Refusal::Other(e)),
    }
}

fn check_aligned(offset: u64, buffer: &[u8]) -> Result<(), Errno> {
    let aligned = offset.is_multiple_of(ALIGN as u64)
        && buffer.len().is_multiple_of(ALIGN)
        && (buffer.as_ptr() as usize).is_multiple_of(ALIGN);
    if aligned { Ok(()) } else { Err(Errno::EINVAL) }
}

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

fn create_and_unlink(dir: &Path) -> Result<i32, Errno> {
    let start = crate::clock::now_ns();
    for attempt in 0..16 {
        let name = c_path(&dir.join(format!(".vswap-{:x}-{attempt}", start)))?;
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        match fd::open(&name, flags, 0o600) {
            Ok(fd) => {
                let _ = fd::unlink(&name);
                return Ok(fd);
            }
            Err(Errno::EEXIST) => {}
            Err(e) => return Err(e),
        }
    }
    Err(Errno::EEXIST)
}

#[cfg(test)]
mod tests;
