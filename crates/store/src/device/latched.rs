//! The first write error closes a device for writing and is remembered: after
//! it nobody knows what later writes would do. What is there is still read.

use core::sync::atomic::{AtomicI32, Ordering};

use vswap_platform::errno::Errno;

use super::SwapDevice;

/// A device with the memory of its first write error.
pub(crate) struct Latched<D> {
    device: D,
    /// The error number, 0 while there is none.
    error: AtomicI32,
}

impl<D> Latched<D> {
    pub(crate) const fn new(device: D) -> Self {
        Self {
            device,
            error: AtomicI32::new(0),
        }
    }

    /// The first write error.
    pub(crate) fn error(&self) -> Option<Errno> {
        match self.error.load(Ordering::Acquire) {
            0 => None,
            number => Some(Errno(number)),
        }
    }
}

/// Errors that say nothing of the device: it is full for now, or the program
/// has closed our descriptor and it could not be had back yet.
pub(crate) fn passes(errno: Errno) -> bool {
    is_full(errno)
        || matches!(
            errno,
            Errno::EBADF | Errno::EMFILE | Errno::ENFILE | Errno::ESTALE
        )
}

/// Errors that mean "no space for now": they pass when space is given back.
pub(crate) fn is_full(errno: Errno) -> bool {
    matches!(errno, Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG)
}

impl<D: SwapDevice + ?Sized> Latched<Box<D>> {
    pub(crate) fn write(&self, place: u32, bytes: &[u8]) -> Result<(), Errno> {
        if let Some(earlier) = self.error() {
            return Err(earlier);
        }
        self.remember(self.device.write(place, bytes))
    }

    pub(crate) fn write_page(&self, place: u32, offset: usize, page: &[u8]) -> Result<(), Errno> {
        if let Some(earlier) = self.error() {
            return Err(earlier);
        }
        self.remember(self.device.write_page(place, offset, page))
    }

    fn remember(&self, written: Result<(), Errno>) -> Result<(), Errno> {
        if let Err(errno) = written
            && !passes(errno)
        {
            // The first one stays: it is the one that tells.
            let _ = self
                .error
                .compare_exchange(0, errno.0, Ordering::AcqRel, Ordering::Relaxed);
        }
        written
    }

    pub(crate) fn read(&self, place: u32, offset: usize, out: &mut [u8]) -> Result<(), Errno> {
        self.device.read(place, offset, out)
    }

    pub(crate) fn discard(&self, place: u32) -> Result<(), Errno> {
        self.device.discard(place)
    }

    pub(crate) fn identity(&self) -> Option<(u64, u64)> {
        self.device.identity()
    }

    pub(crate) fn free_bytes(&self) -> Option<u64> {
        self.device.free_bytes()
    }

    pub(crate) fn close(&self) {
        self.device.close();
    }

    pub(crate) fn descriptor(&self) -> Option<i32> {
        self.device.descriptor()
    }

    pub(crate) fn kept_by(&self, tid: i32) {
        self.device.kept_by(tid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fault, FaultyDevice};

    #[test]
    fn the_first_write_error_closes_for_writing_but_not_for_reading() {
        let faulty = FaultyDevice::new(4);
        faulty.control().on_write(1, Fault::Error(Errno::EIO));
        let device = Latched::new(Box::new(faulty));
        let mut page = [7_u8; 4096];
        device.write(0, &page).unwrap();
        assert_eq!(device.write(1, &page), Err(Errno::EIO));
        assert_eq!(device.write(2, &page), Err(Errno::EIO));
        assert_eq!(device.error(), Some(Errno::EIO));
        page.fill(0);
        device.read(0, 0, &mut page).unwrap();
        assert!(page.iter().all(|&b| b == 7));
    }

    #[test]
    fn a_full_disk_closes_nothing() {
        let faulty = FaultyDevice::new(4);
        faulty.control().on_write(0, Fault::Error(Errno::ENOSPC));
        let device = Latched::new(Box::new(faulty));
        assert_eq!(device.write(0, &[0; 4096]), Err(Errno::ENOSPC));
        assert_eq!(device.error(), None);
        device.write(0, &[0; 4096]).unwrap();
    }
}
