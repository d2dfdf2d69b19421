//! Places in a swap file: it grows as places are written, and freed places are
//! punched out of it.

use std::sync::OnceLock;

use core::sync::atomic::{AtomicI32, Ordering};

use vswap_platform::errno::Errno;
use vswap_platform::file::SwapFile;
use vswap_units::Bytes;

use super::SwapDevice;
use crate::SEGMENT_BYTES;

/// How often the file can be opened again after a program closed its descriptor.
const REOPENS: usize = 7;

/// Places in a file, at most so many bytes.
#[derive(Debug)]
pub struct FileDevice {
    /// The file as first opened, and as found again in other descriptor tables.
    files: [OnceLock<SwapFile>; 1 + REOPENS],
    places: u32,
    /// The thread that keeps the descriptor in a table of its own; 0 = none.
    keeper: AtomicI32,
}

impl FileDevice {
    /// Places in `file`, as many whole ones as `max` holds.
    #[must_use]
    pub fn new(file: SwapFile, max: Bytes) -> Self {
        let places = max.0 / SEGMENT_BYTES as u64;
        let files: [OnceLock<SwapFile>; 1 + REOPENS] = Default::default();
        if let Some(first) = files.first() {
            let _ = first.set(file);
        }
        Self {
            files,
            places: u32::try_from(places).unwrap_or(u32::MAX),
            keeper: AtomicI32::new(0),
        }
    }

    /// The file under a descriptor that still is that file *in the calling
    /// thread's table*: engine threads have tables of their own, and in the
    /// program's the number may be gone or be something else by now. Writing
    /// there would destroy somebody's file, so it is looked at every time
    /// (0.2 µs before an I/O of tens).
    fn file(&self) -> Result<&SwapFile, Errno> {
        let opened = self.files.iter().map_while(OnceLock::get);
        if let Some(ours) = opened.into_iter().find(|file| file.is_still_ours()) {
            return Ok(ours);
        }
        self.reopen()
    }

    #[cold]
    fn reopen(&self) -> Result<&SwapFile, Errno> {
        let keeper = self.keeper.load(Ordering::Acquire);
        if keeper == 0 {
            return Err(Errno::EBADF);
        }
        // Which of the numbers the keeper knows it by depends on who opened it when.
        let mut again = self
            .files
            .iter()
            .map_while(OnceLock::get)
            .map(|file| file.reopen_via_proc(keeper))
            .find(Result::is_ok)
            .unwrap_or(Err(Errno::ESTALE))?;
        for place in &self.files {
            match place.set(again) {
                Ok(()) => return place.get().ok_or(Errno::EBADF),
                Err(taken) => again = taken,
            }
        }
        Err(Errno::EMFILE)
    }
}

const fn offset_of(place: u32) -> u64 {
    place as u64 * SEGMENT_BYTES as u64
}

impl SwapDevice for FileDevice {
    fn capacity_places(&self) -> u32 {
        self.places
    }

    fn write(&self, place: u32, bytes: &[u8]) -> Result<(), Errno> {
        self.file()?.write_at(offset_of(place), bytes)
    }

    fn write_page(&self, place: u32, offset: usize, page: &[u8]) -> Result<(), Errno> {
        self.file()?
            .write_at(offset_of(place) + offset as u64, page)
    }

    fn read(&self, place: u32, offset: usize, out: &mut [u8]) -> Result<(), Errno> {
        self.file()?.read_at(offset_of(place) + offset as u64, out)
    }

    fn discard(&self, place: u32) -> Result<(), Errno> {
        self.file()?.punch(offset_of(place), SEGMENT_BYTES as u64)
    }

    fn identity(&self) -> Option<(u64, u64)> {
        self.files.first()?.get().map(SwapFile::identity)
    }

    fn free_bytes(&self) -> Option<u64> {
        let file = self.file().ok().filter(|file| !file.is_block())?;
        file.free_bytes().ok()
    }

    fn close(&self) {
        let opened = self.files.iter().map_while(OnceLock::get);
        opened.for_each(SwapFile::close_here);
    }

    fn descriptor(&self) -> Option<i32> {
        self.file().ok().map(SwapFile::raw_fd)
    }

    fn kept_by(&self, tid: i32) {
        self.keeper.store(tid, Ordering::Release);
    }
}
