//! What the store's cleaner asks of this floor: to let an object move.

use crate::entry::EntryId;
use crate::layer::SwapLayer;
use crate::transition::Step;
use vswap_store::{Location, Owners};

/// Tries before an entry that others have pinned is left for another time. The cleaner never sleeps on a pin: its holder may
/// be waiting for the cleaner.
const TRIES: u32 = 200;

impl Owners for SwapLayer {
    fn relocate(
        &self,
        owner: u64,
        from: Location,
        place: &mut dyn FnMut() -> Option<Location>,
    ) -> bool {
        let Some(entry) = EntryId::new(owner) else {
            return false;
        };
        for _ in 0..TRIES {
            let Some(mut pin) = self.try_pin(entry) else {
                core::hint::spin_loop();
                continue;
            };
            if pin
                .word
                .object()
                .is_none_or(|object| object.location != from)
            {
                return false;
            }
            return place().is_some_and(|to| pin.apply(Step::Relocate(to)));
        }
        false
    }
}
