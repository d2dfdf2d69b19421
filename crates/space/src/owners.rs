//! What the store's cleaner asks of this floor: to let an object move.

use crate::descriptor::Word;
use crate::entry::EntryId;
use crate::layer::SwapLayer;
use crate::shared::SharedId;
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
        if let (Some(id), Some(sharing)) = (SharedId::of_owner(owner), &self.sharing) {
            let may = || self.gate.lets_pass();
            return sharing.table.relocate(id, from, place, may);
        }
        let Some(entry) = EntryId::new(owner) else {
            return false;
        };
        for _ in 0..TRIES {
            let word = self.table.load(entry);
            if !word.is_pinned() && !is_at(word, from) {
                // Dead, or about to be given this object: then it stays where it is.
                return false;
            }
            let Some(mut pin) = self.try_pin(entry) else {
                core::hint::spin_loop();
                continue;
            };
            return is_at(pin.word, from)
                && place().is_some_and(|to| pin.apply(Step::Relocate(to)));
        }
        false
    }
}

fn is_at(word: Word, location: Location) -> bool {
    word.object()
        .is_some_and(|object| object.location == location)
}
