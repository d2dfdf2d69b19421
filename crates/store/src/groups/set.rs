//! A set of groups, by value: what a search for segments may take from.

use super::{GroupId, MAX_GROUPS};

/// Some of the groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupSet([u64; MAX_GROUPS / 64]);

impl GroupSet {
    /// Every group there can be.
    pub(crate) const ALL: Self = Self([u64::MAX; MAX_GROUPS / 64]);

    pub(crate) fn contains(&self, group: GroupId) -> bool {
        let word = self.0.get(group.index() / 64).copied().unwrap_or_default();
        word >> (group.index() % 64) & 1 != 0
    }

    pub(crate) fn insert(&mut self, group: GroupId) {
        if let Some(word) = self.0.get_mut(group.index() / 64) {
            *word |= 1 << (group.index() % 64);
        }
    }

    pub(crate) fn remove(&mut self, group: GroupId) {
        if let Some(word) = self.0.get_mut(group.index() / 64) {
            *word &= !(1 << (group.index() % 64));
        }
    }

    /// The members, lowest number first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            let mut rest = word;
            core::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest.checked_sub(1)?;
                GroupId::new(at * 64 + bit)
            })
        })
    }
}
