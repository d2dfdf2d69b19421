//! Devices of a life that fail.

use super::life::Life;
use super::oracle::Trouble;
use crate::EntryId;
use vswap_platform::errno::Errno;
use vswap_store::testing::{Call, Control, Fault};
use vswap_units::Bytes;

impl Life<'_> {
    pub(super) fn writeback(&mut self) {
        let segments = self.script.number() % 10;
        self.layer.store().seal_all();
        for _ in 0..segments {
            match self.layer.writeback_oldest(Bytes(0)) {
                Ok(Some(_)) => self.tally.written += 1,
                Ok(None) | Err(_) => break,
            }
        }
    }

    /// A device, and whether it has slots.
    fn device(&mut self) -> Option<(Control, bool)> {
        let number = self.script.number();
        let place = self.devices.get(number % self.devices.len().max(1))?;
        Some((place.control.clone(), place.is_slots()))
    }

    /// What goes wrong. A slot has no checksum: what its device changed in silence nobody could tell.
    fn fault(&mut self, is_slots: bool) -> Fault {
        match self.script.number() % 4 {
            0 => Fault::Error(Errno::EIO),
            1 => Fault::Error(Errno::ENOSPC),
            3 if !is_slots => Fault::Corrupt,
            _ => Fault::Short,
        }
    }

    /// Of what was written changed and in silence, each page has to be right or known to be lost.
    fn with_a_faulty_write(&mut self, act: impl FnOnce(&mut Self)) {
        let Some((device, is_slots)) = self.device() else {
            return;
        };
        let fault = self.fault(is_slots);
        device.on_write(self.script.number() as u64 % 3, fault);
        act(self);
        device.heal();
        if fault == Fault::Corrupt {
            self.find_the_lost();
        }
    }

    /// Each page is right, or from now on known to be lost.
    fn find_the_lost(&mut self) {
        let lossy = Trouble {
            lossy: true,
            ..Trouble::default()
        };
        let all: Vec<EntryId> = self.oracle.entries.keys().copied().collect();
        all.into_iter().for_each(|entry| self.read(entry, lossy));
    }

    pub(super) fn faulty_writeback(&mut self) {
        self.with_a_faulty_write(Self::writeback);
    }

    pub(super) fn faulty_look(&mut self) {
        if self.script.number().is_multiple_of(2) {
            self.with_a_faulty_write(Self::look);
        } else {
            self.faulty_reads(|life, _| life.look());
        }
    }

    /// What a slots device does not take goes elsewhere, or stays.
    pub(super) fn faulty_swap_out(&mut self) {
        self.with_a_faulty_write(Self::swap_out);
    }

    pub(super) fn faulty_reads(&mut self, act: impl FnOnce(&mut Self, Trouble)) {
        let Some((device, is_slots)) = self.device() else {
            return;
        };
        let faults: Vec<_> = (0..1 + self.script.number() % 4)
            .map(|_| self.fault(is_slots))
            .collect();
        for (nth, &fault) in (0..).zip(&faults) {
            device.on_read(nth, fault);
        }
        let corrupt = faults
            .iter()
            .filter(|&&fault| fault == Fault::Corrupt)
            .count();
        let trouble = Trouble {
            refused: corrupt < faults.len(),
            lossy: corrupt > 1,
        };
        act(self, trouble);
        device.heal();
        if trouble.lossy {
            // What reads damaged twice in a swapoff is moved as it is, for it cannot stay.
            self.find_the_lost();
        }
    }

    /// Space that is not given back is only reused.
    pub(super) fn faulty_discard(&mut self) {
        let Some((device, _)) = self.device() else {
            return;
        };
        let count = 1 + self.script.number() as u64 % 4;
        for nth in 0..count {
            let fault = self.fault(false);
            device.on_discard(nth, fault);
        }
        let (asked, kept) = (device.count(Call::Discard), device.kept_places());
        self.free();
        self.clean();
        self.writeback();
        device.heal();
        let came = (device.count(Call::Discard) - asked).min(count);
        assert!(device.kept_places() <= kept + came as usize);
        self.tally.kept += came;
    }

    pub(super) fn gone(&mut self) {
        let Some((device, _)) = self.device() else {
            return;
        };
        device.set_condition(true, 0);
        let refused = Trouble {
            refused: true,
            ..Trouble::default()
        };
        self.swap_in(refused);
        self.writeback();
        self.clean();
        device.set_condition(false, 0);
    }
}
