//! The legal life of a descriptor. Every change of a descriptor goes through [`step`]; what it refuses does not happen.
//!
//! ```text
//!            Allocate          Cache            SwapOut
//!   FREE ───────────► NONE ──────────► CACHED ──────────► SAME | SLOT | SHARED | STORED ⟲ Relocate
//!    ▲                 ▲ ◄──────────────┘ │ Orphan (count 0, frame still bound)
//!    └──── Release ────┴──── Drop (backing given up: from anything) ───► POISONED on Poison
//! ```
//!
//! STORED also becomes SHARED in place, when another entry turns out to have the same bytes. A shared object moves without its
//! sharers: `shared` has its place. All steps but `Allocate` need the pin; `Allocate` needs the cluster's lock, and so does `Release`, so an entry is free
//! exactly when its bit in the cluster says so.

use crate::descriptor::{Tag, Word};
use crate::shared::SharedId;
use vswap_store::{Location, Slot, Stored};

/// One change of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Hand the entry out.
    Allocate,
    /// Bind a frame.
    Cache(u32),
    /// The last owner left a cached entry: its frame keeps it alive.
    Orphan,
    /// Give the frame back to its taker.
    TakeFrame,
    /// The page is one repeated word (packed).
    SwapOutSame(u64),
    /// The page is an object of the store.
    SwapOutStored(Stored),
    /// The page is in a plain slot, as it is.
    SwapOutSlot(Slot),
    /// The page is a share in an object.
    SwapOutShared(SharedId),
    /// The cleaner moved the object.
    Relocate(Location),
    /// The bytes are lost.
    Poison,
    /// Give the backing up, whatever it is.
    Drop,
    /// Take the entry out of use.
    Release,
    /// The count went above one, or back to one.
    Count(bool),
}

/// The word after `what` happens to `word`, or `None` if that may not happen to it.
#[inline]
pub(crate) fn step(word: Word, what: Step) -> Option<Word> {
    if !is_legal(word, what) {
        return None;
    }
    match what {
        Step::Allocate | Step::TakeFrame | Step::Drop => Some(word.plain(Tag::None)),
        Step::Cache(frame) => Some(word.cached(frame, false)),
        Step::Orphan => word.frame().map(|frame| word.cached(frame, true)),
        Step::SwapOutSame(packed) => Some(word.same(packed)),
        Step::SwapOutStored(object) => word.stored(object),
        Step::SwapOutSlot(slot) => Some(word.slot(slot)),
        Step::SwapOutShared(id) => Some(word.share_of(id)),
        Step::Relocate(location) => word
            .object()
            .and_then(|object| word.stored(Stored { location, ..object })),
        Step::Poison => Some(word.plain(Tag::Poisoned)),
        Step::Release => Some(Word::FREE),
        Step::Count(counted) => Some(word.counted(counted)),
    }
}

/// Whether the entry may lose its backing and then go out of use.
pub(crate) fn can_end(word: Word) -> bool {
    step(word, Step::Drop).and_then(|bare| step(bare, Step::Release)) == Some(Word::FREE)
}

/// The table: what the descriptor is now, and what may happen to it.
#[inline]
fn is_legal(word: Word, what: Step) -> bool {
    if word.is_pinned() == matches!(what, Step::Allocate) {
        return false;
    }
    if word.is_cached_only() {
        return matches!(what, Step::TakeFrame | Step::Drop);
    }
    match (word.tag(), what) {
        (Tag::Free, Step::Allocate)
        | (Tag::None, Step::Cache(_))
        | (Tag::Cached, Step::TakeFrame)
        | (Tag::Stored, Step::Relocate(_)) => true,
        (Tag::None, Step::Release) | (Tag::Cached, Step::Orphan) => !word.is_counted(),
        (Tag::Free, _) => false,
        _ => happens_to_all(what),
    }
}

/// What may happen to every entry in use: new bytes, or the loss of those it has, or another owner.
const fn happens_to_all(what: Step) -> bool {
    matches!(
        what,
        Step::SwapOutSame(_)
            | Step::SwapOutStored(_)
            | Step::SwapOutSlot(_)
            | Step::SwapOutShared(_)
            | Step::Poison
            | Step::Drop
            | Step::Count(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::Backing;
    use proptest::prelude::*;

    fn place() -> impl Strategy<Value = Location> {
        (0u32..1 << 30, any::<u16>()).prop_map(|(segment, granule)| Location { segment, granule })
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Allocate),
            any::<u32>().prop_map(Step::Cache),
            Just(Step::Orphan),
            Just(Step::TakeFrame),
            (0u64..1 << 58).prop_map(Step::SwapOutSame),
            (place(), 1u16..=4096).prop_map(|(location, stored_bytes)| Step::SwapOutStored(
                Stored {
                    location,
                    stored_bytes
                }
            )),
            any::<u32>().prop_map(|id| Step::SwapOutShared(SharedId(id))),
            place().prop_map(Step::Relocate),
            Just(Step::Poison),
            Just(Step::Drop),
            Just(Step::Release),
            any::<bool>().prop_map(Step::Count),
        ]
    }

    fn word(tag: Tag) -> Word {
        Word::FREE.plain(tag)
    }

    #[test]
    fn nothing_but_a_hand_out_happens_to_a_free_entry() {
        assert!(step(Word::FREE, Step::Allocate).is_some());
        for what in [
            Step::Cache(1),
            Step::TakeFrame,
            Step::Poison,
            Step::Drop,
            Step::Release,
            Step::Count(true),
            Step::SwapOutSame(0),
            Step::SwapOutShared(SharedId(0)),
        ] {
            assert_eq!(step(Word::FREE.pinned(), what), None, "{what:?}");
        }
    }

    #[test]
    fn nothing_changes_without_the_pin() {
        for tag in Tag::ALL.into_iter().filter(|&tag| tag != Tag::Free) {
            for what in [
                Step::Cache(1),
                Step::TakeFrame,
                Step::Poison,
                Step::Drop,
                Step::Release,
                Step::Count(true),
                Step::SwapOutSame(0),
                Step::SwapOutShared(SharedId(0)),
            ] {
                assert_eq!(step(word(tag), what), None, "{tag:?} {what:?}");
            }
        }
    }

    #[test]
    fn an_orphan_only_waits_for_its_frame_to_be_taken() {
        let orphan = step(word(Tag::None).cached(5, false).pinned(), Step::Orphan).unwrap();
        assert!(orphan.is_cached_only());
        assert_eq!(step(orphan, Step::SwapOutSame(0)), None);
        assert_eq!(step(orphan, Step::Count(true)), None);
        assert_eq!(
            step(orphan, Step::TakeFrame).map(Word::tag),
            Some(Tag::None)
        );
    }

    #[test]
    fn an_entry_with_a_backing_or_a_count_is_not_released() {
        assert_eq!(step(word(Tag::Same).pinned(), Step::Release), None);
        assert_eq!(
            step(word(Tag::None).counted(true).pinned(), Step::Release),
            None
        );
        assert_eq!(
            step(word(Tag::None).pinned(), Step::Release),
            Some(Word::FREE)
        );
    }

    #[test]
    fn only_a_stored_object_moves() {
        let to = Location {
            segment: 9,
            granule: 9,
        };
        for tag in Tag::ALL.into_iter().filter(|&tag| tag != Tag::Stored) {
            assert_eq!(step(word(tag).pinned(), Step::Relocate(to)), None);
        }
        let stored = word(Tag::None)
            .pinned()
            .stored(Stored {
                location: Location {
                    segment: 1,
                    granule: 1,
                },
                stored_bytes: 77,
            })
            .unwrap();
        let moved = Stored {
            location: to,
            stored_bytes: 77,
        };
        assert_eq!(
            step(stored, Step::Relocate(to)).map(Word::backing),
            Some(Backing::Stored(moved))
        );
    }

    proptest! {
        #[test]
        fn random_lives_keep_the_laws(steps in prop::collection::vec(any_step(), 1..200)) {
            let mut now = Word::FREE;
            for what in steps {
                let Some(next) = step(now, what) else { continue };
                if next == Word::FREE {
                    prop_assert_eq!(now.tag(), Tag::None);
                } else {
                    prop_assert!(!now.is_pinned() || next.is_pinned(), "a step never drops the pin");
                }
                prop_assert!(!(next.is_counted() && next.is_cached_only()));
                prop_assert!(next.tag() != Tag::Free || next == Word::FREE);
                now = if next == Word::FREE { next } else { next.pinned() };
            }
        }
    }
}
