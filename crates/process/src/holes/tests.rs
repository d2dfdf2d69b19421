//! An engine whose threads do not run, so that the test says when the writer works.

use super::*;
use vswap_store::Resource;
use vswap_units::{BLOCK_PAGES, PAGE_SIZE};

use crate::config::Config;
use crate::delivery::Delivery;
use crate::evict::Patience;
use crate::page_state::{Name, Tag};

/// Segments the group may have: half of them are given up below.
const MOST: u32 = 8;

struct Limited {
    engine: Engine,
    group: GroupId,
    blocks: usize,
}

impl Limited {
    fn new() -> Self {
        let config = Config::from_text("ram=64M\nswap=none\ndedup=off").unwrap();
        let engine = Engine::build(config, Delivery::Thread, Vec::new()).unwrap();
        let tree = engine.layer.store().groups();
        let group = tree.create(GroupId::ROOT).unwrap();
        tree.set_limit(group, Resource::Ram, Some(MOST)).unwrap();
        tree.set_rules(group, false, 0);
        Self {
            engine,
            group,
            blocks: 0,
        }
    }

    /// The next block is moved to frames, as if it had been in memory.
    fn cache_next(&mut self) {
        let (engine, block) = (&self.engine, self.blocks);
        let run = engine.frames.pop_empty().unwrap();
        engine.frames.set_present(run, u16::MAX);
        let mut guard = engine.region.lock(block).unwrap();
        guard.set_group(self.group);
        let mut reserved = engine.layer.reserve(self.group, BLOCK_PAGES).unwrap();
        for slot in 0..BLOCK_PAGES {
            let page = engine.frames.page_mut(run, slot).unwrap();
            page.copy_from_slice(&content(block, slot));
            let frame = run * BLOCK_PAGES as u32 + slot as u32;
            let name = engine.layer.bind(&mut reserved, frame).unwrap();
            let state = guard.state(slot).to_swapped(name);
            guard.set(slot, state);
        }
        engine.layer.end_binding(reserved);
        guard.set_frame_run(Some(run));
        engine.frames.put_cached(run, block);
        self.blocks += 1;
    }

    /// Writes blocks out until one is refused; true if that called the writer.
    fn fill(&mut self) -> bool {
        let before = self.engine.write_event.seen();
        loop {
            if self.engine.frames.cached_runs() == 0 {
                self.cache_next();
            }
            let mut worker = self.engine.workers.take(1).unwrap();
            let written = self
                .engine
                .write_out_oldest(&mut worker, Patience::Background);
            match written {
                Some(run) => self.engine.frames.put(run),
                None => return self.engine.write_event.seen() != before,
            }
        }
    }

    /// Gives up every page but each fourth of the first `blocks` blocks.
    fn give_up(&self, blocks: std::ops::Range<usize>) {
        for block in blocks {
            let mut guard = self.engine.region.lock(block).unwrap();
            let mut names = [None; BLOCK_PAGES];
            for slot in (0..BLOCK_PAGES).filter(|slot| slot % 4 != 0) {
                names[slot] = guard.state(slot).name();
                guard.retag(slot, Tag::Empty);
            }
            self.engine.layer.release(&names);
        }
    }

    /// Compares every page that is out, and checks the layer's laws.
    fn verify(&self) {
        let mut worker = self.engine.workers.take(1).unwrap();
        let layer = self.engine.layer.virtual_layer().unwrap();
        let mut out: Vec<Name> = Vec::new();
        for block in 0..self.blocks {
            let guard = self.engine.region.lock(block).unwrap();
            for slot in 0..BLOCK_PAGES {
                let Some(name) = guard.state(slot).name() else {
                    continue;
                };
                out.push(name);
                if guard.frame_run().is_some() {
                    continue;
                }
                let entry = vswap_space::EntryId::new(name.get()).unwrap();
                let mut page = [0; PAGE_SIZE];
                layer.swap_in(entry, &mut page, &mut worker.codec).unwrap();
                assert_eq!(page, content(block, slot), "{block}/{slot}");
            }
        }
        assert!(out.len() > BLOCK_PAGES);
        let problems = self.engine.layer.check(&out, &mut worker.codec);
        assert_eq!(problems, Vec::<String>::new());
    }
}

/// A page half of which does not compress.
fn content(block: usize, slot: usize) -> [u8; PAGE_SIZE] {
    let mut state = (block * BLOCK_PAGES + slot) as u64 + 1;
    let mut page = [0; PAGE_SIZE];
    for word in page[..PAGE_SIZE / 2].chunks_exact_mut(8) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        word.copy_from_slice(&(state ^ state >> 29).to_le_bytes());
    }
    page
}

#[test]
fn a_page_refused_room_calls_the_cleaner_when_that_may_gain_something_and_only_then() {
    let mut limited = Limited::new();
    limited.fill();
    let refused = limited.blocks;
    while limited.engine.write_back_step() {}
    assert!(!limited.fill(), "a look in vain has just been taken");
    limited.give_up(0..refused / 2);
    assert!(limited.fill(), "holes, and nobody called the writer");
    assert!(limited.engine.cleaning_may_pay());
    while limited.engine.write_back_step() {}
    assert!(!limited.engine.cleaning_may_pay());
    limited.fill();
    assert!(limited.blocks > refused + 4, "the cleaner made no room");
    limited.verify();
}

#[test]
fn a_look_in_vain_is_not_repeated_before_the_log_has_changed() {
    let holes = Holes::default();
    assert!(holes.may_be_there(100, 100));
    holes.note_vain(100);
    assert!(!holes.may_be_there(199, 100));
    assert!(holes.may_be_there(200, 100));
    assert!(!holes.may_be_there(50, 100));
}
