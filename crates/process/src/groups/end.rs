//! The end of a group.
//!
//! Nothing bears its number afterwards: the number is used again, and the next group begins with nothing charged to it. Blocks
//! that its memory was in are given back and go to whoever pays for everything else. A fault that was read from the
//! userfaultfd and answered late, after its page was freed, may put zeros there still: they are his then.

use vswap_platform::sync::SignalBlock;
use vswap_space::{GroupId, StillInUse};
use vswap_units::BLOCK_SIZE;

use super::error::{GroupError, invalid};
use super::named::{GroupKey, Named, find};
use crate::engine::Engine;
use crate::runs::RunAllocator;

impl Engine {
    /// Ends a group without live blocks and children: everything it held is
    /// given back, or goes to its parent (places on devices until they are free).
    ///
    /// # Errors
    /// Why it cannot end; it is as it was.
    pub fn end_group(&self, key: GroupKey) -> Result<(), GroupError> {
        let _signals = SignalBlock::enter();
        let mut worker = self.workers.of_caller();
        let mut named = self.groups.named.lock();
        let group = self.may_end(&named, key)?;
        self.groups.set_ending(group, true);
        if let Err(why) = self.give_everything_back(group) {
            self.groups.set_ending(group, false);
            return Err(why);
        }
        if let Some(worker) = worker.as_mut() {
            self.part_guests_with(worker, || Some(self.world.enter()));
        }
        self.layer.finish_end(group);
        self.groups.end(group);
        named.retain(|other| other.key != key.0);
        self.counters.groups.set(named.len() as u64);
        drop(named);
        self.write_event.signal();
        Ok(())
    }

    fn may_end(&self, named: &[Named], key: GroupKey) -> Result<GroupId, GroupError> {
        let group = find(named, key)?;
        if key.0 == 0 || key == self.groups.usual() {
            return Err(invalid(
                "the group of everything ends with its space".into(),
            ));
        }
        match named.iter().find(|other| other.parent == key.0) {
            Some(child) => Err(GroupError::InUse(format!(
                "group '{}' is still below this one; close it first",
                child.name
            ))),
            None => Ok(group),
        }
    }

    /// From here on the group has no memory and no entry, or it is as it was.
    fn give_everything_back(&self, group: GroupId) -> Result<(), GroupError> {
        // Whoever was allocating holds this lock until the block is counted.
        let mut runs = self.runs.lock();
        let (blocks, bytes) = self.groups.live(group);
        if blocks != 0 {
            return Err(GroupError::Busy(blocks, bytes));
        }
        // Freed runs are kept warm, and may be this group's.
        self.trim_runs(&mut runs, u64::MAX);
        self.leave_blocks(&runs, group);
        drop(runs);
        self.layer.begin_end(group).map_err(still_in_use)
    }

    /// Empties the blocks of a group that has nothing handed out, as `_held` keeps it, and gives them to another payer.
    fn leave_blocks(&self, _held: &RunAllocator, group: GroupId) {
        let payer = self.groups.payer(GroupId::ROOT);
        let _inside = self.world.enter();
        let blocks = 0..self.high_water_bytes().div_ceil(BLOCK_SIZE);
        for block in blocks.filter(|&block| self.region.group_of(block) == group) {
            if let Some(mut guard) = self.region.lock(block) {
                // What cannot be given back is charged to the other one.
                let _ = self.empty_slots(&mut guard, u16::MAX);
                self.give_block_to(payer, &mut guard);
            }
        }
    }
}

fn still_in_use(why: StillInUse) -> GroupError {
    GroupError::InUse(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocate::AllocKind;
    use crate::config::{Config, Faults};
    use crate::delivery::open_userfaultfd;
    use crate::fault::Outcome;
    use crate::groups::Held;

    /// An engine whose threads do not run, so that the test says when a fault is answered.
    fn engine() -> Engine {
        let config = Config::from_text("ram=64M\nswap=none").unwrap();
        let (delivery, uffd) = open_userfaultfd(Faults::Auto).unwrap();
        let engine = Engine::build(config, delivery, Vec::new()).unwrap();
        assert!(engine.arm(&uffd));
        engine.adopt(uffd);
        engine
    }

    fn touch(engine: &Engine, addr: usize) {
        let mut worker = engine.workers.claim(1).unwrap();
        assert_eq!(engine.resolve(&mut worker, addr), Outcome::Resolved);
    }

    #[test]
    fn a_fault_answered_after_its_page_was_freed_leaves_nothing_of_a_group_that_ends() {
        let engine = engine();
        let allocate = |key| {
            let addr = engine.allocate_in(key, BLOCK_SIZE, 1, AllocKind::Malloc);
            touch(&engine, addr.unwrap());
            addr.unwrap()
        };
        let root = GroupKey(0);
        let key = engine.create_group(root, "first", "").unwrap();
        let group = engine.groups.by_key(key).unwrap();
        let addr = allocate(key);
        assert!(engine.release(addr));
        assert!(engine.trim_kept(u64::MAX) > 0);
        touch(&engine, addr);
        assert!(engine.groups.own_pages(group, Held::Resident) > 0);
        engine.end_group(key).unwrap();
        // And once more, when nobody has the number.
        touch(&engine, addr);
        let key = engine.create_group(root, "second", "").unwrap();
        assert_eq!(engine.groups.by_key(key), Some(group));
        assert_eq!(engine.groups.own_pages(group, Held::Resident), 0);
        let addr = allocate(key);
        assert_eq!(engine.check(), Vec::<String>::new());
        assert!(engine.release(addr));
        engine.end_group(key).unwrap();
        assert_eq!(engine.check(), Vec::<String>::new());
    }
}
