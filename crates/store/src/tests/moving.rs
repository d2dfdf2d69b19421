//! Segments that move while they are read.

use std::sync::{Arc, OnceLock, Weak};

use vswap_platform::errno::Errno;
use vswap_platform::sync::RankedMutex;
use vswap_units::Bytes;

use super::directory::Directory;
use crate::device::{DeviceOptions, SwapDevice};
use crate::moving::{Carrier, Choice};
use crate::testing::FaultyDevice;
use crate::{CodecKind, Store, StoreOptions, Workspace};

type Happening = Box<dyn FnOnce() + Send>;

/// A device whose next read fails, after something else has happened.
struct Interrupted {
    device: FaultyDevice,
    meanwhile: Arc<RankedMutex<Option<Happening>, 59>>,
}

impl SwapDevice for Interrupted {
    fn capacity_places(&self) -> u32 {
        self.device.capacity_places()
    }

    fn write(&self, place: u32, bytes: &[u8]) -> Result<(), Errno> {
        self.device.write(place, bytes)
    }

    fn read(&self, place: u32, offset: usize, out: &mut [u8]) -> Result<(), Errno> {
        let meanwhile = self.meanwhile.lock().take();
        match meanwhile {
            Some(happens) => {
                happens();
                Err(Errno::ENODEV)
            }
            None => self.device.read(place, offset, out),
        }
    }

    fn discard(&self, place: u32) -> Result<(), Errno> {
        self.device.discard(place)
    }
}

/// Moves the only segment to the other device.
fn carry(store: &Store) {
    let (row, place) = store.claim_stored(0).unwrap();
    let mut choice = Choice {
        forbidden: 0,
        ram: &mut || false,
        young: false,
        damaged: false,
    };
    let carrier = Carrier::new().unwrap();
    store.carry(0, row, place, &carrier, &mut choice).unwrap();
}

#[test]
fn a_read_that_fails_is_repeated_when_its_segment_went_away_and_came_back_meanwhile() {
    let store = Arc::new(Store::new(StoreOptions::new(8, 0)).unwrap());
    let meanwhile = Arc::new(RankedMutex::new(None));
    let first = Interrupted {
        device: FaultyDevice::new(1),
        meanwhile: Arc::clone(&meanwhile),
    };
    let options = DeviceOptions::default;
    store.swapon(Box::new(first), options()).unwrap();
    let (owners, mut ws) = (Directory::new(20), Workspace::new(CodecKind::Lz4).unwrap());
    for owner in 0..20 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    store.seal_all();
    store.writeback_oldest(Bytes(0)).unwrap().unwrap();
    store
        .swapon(Box::new(FaultyDevice::new(1)), options())
        .unwrap();

    let ran = Arc::new(OnceLock::new());
    let (weak, done): (Weak<Store>, _) = (Arc::downgrade(&store), Arc::clone(&ran));
    *meanwhile.lock() = Some(Box::new(move || {
        let store = weak.upgrade().unwrap();
        carry(&store);
        carry(&store);
        done.set(()).unwrap();
    }));
    owners.verify(&store, 7, &mut ws).unwrap();
    assert!(ran.get().is_some(), "the read was not interrupted");
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}
