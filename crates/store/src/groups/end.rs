//! The end of a group.
//!
//! What it still pays for goes to its parent, as the kernel does it: segments
//! being written or cleaned just then, places of dead segments that wait to be
//! given back, and objects that others share. That is one walk over the segment
//! table and no I/O. What others share goes where the parent may from then on,
//! so between the beginning and the end those who may not go there get bytes of
//! their own (`vswap_space::SwapLayer::end_group`).

use core::sync::atomic::AtomicU32;

use vswap_platform::sync;

use super::{GroupId, Resource};
use crate::segment::Segment;
use crate::store::Store;
use crate::word::{Rest, State};

/// Looks for a charge that is on its way, and how long between two of them.
const LOOKS: u32 = 2000;
const PAUSE_NS: u64 = 1_000_000;

impl Store {
    /// Begins the end of a group whose owners are gone: it pays for nothing new,
    /// and what it holds is looked at as its parent's
    /// ([`Groups::forbidden_to_come`](super::Groups::forbidden_to_come)). False,
    /// and nothing changed: it has children, is the root, or is none.
    /// **Context**: nobody makes a group or ends one until [`Store::finish_end`].
    pub fn begin_end(&self, group: GroupId) -> bool {
        self.groups.begin_end(group)
    }

    /// Ends what [`Store::begin_end`] began. **Context**: no lock of rank SEGMENT
    /// or above.
    pub fn finish_end(&self, group: GroupId) {
        // Whoever opens a segment from here on is refused, under the same lock.
        self.seal_group(group);
        for _ in 0..LOOKS {
            self.hand_up_segments(group);
            let left = self.groups.usage(group);
            if left.own_ram == 0 && left.own_device == 0 {
                break;
            }
            // A write to a device is under way, or a segment is being opened.
            let _ = sync::wait(&AtomicU32::new(0), 0, Some(PAUSE_NS));
        }
        self.groups.finish_end(group);
    }

    /// Both at once, for a group that shares nothing with others.
    pub fn end_group(&self, group: GroupId) -> bool {
        let begun = self.begin_end(group);
        if begun {
            self.finish_end(group);
        }
        begun
    }

    fn hand_up_segments(&self, group: GroupId) {
        let parent = self.groups.parent(group).unwrap_or(GroupId::ROOT);
        let mut lists = self.table.lock();
        for (number, row) in self.table.walk() {
            let Some(what) = charged_as(row).filter(|_| row.group() == group) else {
                continue;
            };
            let listed = row.word.load().state() == State::Sealed;
            if listed {
                self.table.take_from_ages(&mut lists, number);
            }
            row.set_group(parent);
            self.groups.hand_up(group, what);
            if listed {
                self.table.make_youngest(&mut lists, number);
            }
        }
    }
}

fn charged_as(row: &Segment) -> Option<Resource> {
    match row.word.load().rest() {
        Rest::Nowhere => None,
        Rest::Ram(_) => Some(Resource::Ram),
        Rest::Device(_) => Some(Resource::Device),
    }
}
