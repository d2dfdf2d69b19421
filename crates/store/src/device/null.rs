//! The device that keeps nothing: for measuring everything above it.

use vswap_platform::errno::Errno;

use super::SwapDevice;

/// Takes any write and refuses every read, so that nothing read "from" it can
/// be mistaken for data.
#[derive(Debug)]
pub struct NullDevice {
    places: u32,
}

impl NullDevice {
    /// A device of that many places.
    #[must_use]
    pub const fn new(places: u32) -> Self {
        Self { places }
    }
}

impl SwapDevice for NullDevice {
    fn capacity_places(&self) -> u32 {
        self.places
    }

    fn write(&self, _place: u32, _bytes: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn write_page(&self, _place: u32, _offset: usize, _page: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn read(&self, _place: u32, _offset: usize, _out: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::ENXIO)
    }

    fn discard(&self, _place: u32) -> Result<(), Errno> {
        Ok(())
    }
}
