//! Random lives against a model in plain maps: every byte compared, every law checked after each step.

use super::*;
use crate::{Backing, SwapInError, SwapOut};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Op {
    Allocate(usize),
    Free(Vec<prop::sample::Index>),
    FreeInto(prop::sample::Index),
    Duplicate(prop::sample::Index),
    Cache(prop::sample::Index),
    SwapOut(prop::sample::Index, u64),
    SwapIn(prop::sample::Index),
    TakeFrame(prop::sample::Index),
    FreePinned(prop::sample::Index),
    Poison(prop::sample::Index),
    Clean,
    Writeback,
    Trim,
    Fork(bool),
}

fn ops() -> impl Strategy<Value = Op> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => prop_oneof![1usize..=32, Just(1), Just(16), Just(512)].prop_map(Op::Allocate),
        4 => prop::collection::vec(at(), 1..100).prop_map(Op::Free),
        1 => at().prop_map(Op::FreeInto),
        2 => at().prop_map(Op::Duplicate),
        6 => at().prop_map(Op::Cache),
        12 => (at(), 0u64..1000).prop_map(|(at, seed)| Op::SwapOut(at, seed)),
        6 => at().prop_map(Op::SwapIn),
        2 => at().prop_map(Op::TakeFrame),
        2 => at().prop_map(Op::FreePinned),
        1 => at().prop_map(Op::Poison),
        2 => Just(Op::Clean),
        2 => Just(Op::Writeback),
        1 => Just(Op::Trim),
        1 => Just(Op::Fork(false)),
        1 => Just(Op::Fork(true)),
    ]
}

/// What the model knows of an entry.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Page {
    None,
    Cached(u32),
    Bytes(u64),
    Poisoned,
}

struct Model {
    layer: SwapLayer,
    workspace: Workspace,
    /// Count and page of every entry. Count 0: only cached.
    entries: BTreeMap<EntryId, (u64, Page)>,
    frames: u32,
}

impl Model {
    fn new(layer: SwapLayer) -> Self {
        Self {
            layer,
            workspace: workspace(),
            entries: BTreeMap::new(),
            frames: 0,
        }
    }

    fn pick(&self, at: prop::sample::Index) -> Option<EntryId> {
        (!self.entries.is_empty()).then(|| {
            *self
                .entries
                .keys()
                .nth(at.index(self.entries.len()))
                .unwrap()
        })
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Allocate(n) => self.allocate(n),
            Op::Free(picks) => self.free(&picks),
            Op::FreeInto(at) => self.on(at, Self::free_into),
            Op::Duplicate(at) => self.on(at, Self::duplicate),
            Op::Cache(at) => self.on(at, Self::cache),
            Op::SwapOut(at, seed) => self.on(at, |model, entry| model.swap_out(entry, seed)),
            Op::SwapIn(at) => self.on(at, Self::swap_in),
            Op::TakeFrame(at) => self.on(at, Self::take_frame),
            Op::FreePinned(at) => self.on(at, Self::free_pinned),
            Op::Poison(at) => self.on(at, Self::poison),
            Op::Clean => drop(self.layer.clean(&mut self.workspace)),
            Op::Writeback => write_back(&self.layer),
            Op::Trim => self.layer.trim(),
            Op::Fork(child) => {
                self.layer.fork_prepare();
                if child {
                    self.layer.fork_child()
                } else {
                    self.layer.fork_parent(false)
                }
            }
        }
    }

    fn on(&mut self, at: prop::sample::Index, act: impl FnOnce(&mut Self, EntryId)) {
        if let Some(entry) = self.pick(at) {
            act(self, entry);
        }
    }

    fn allocate(&mut self, n: usize) {
        for entry in self.layer.allocate(n).unwrap().iter() {
            assert_eq!(
                self.entries.insert(entry, (1, Page::None)),
                None,
                "handed out twice"
            );
        }
    }

    fn free(&mut self, picks: &[prop::sample::Index]) {
        let entries: Vec<_> = picks.iter().filter_map(|&at| self.pick(at)).collect();
        let freed = self.layer.free(&entries);
        let mut expected = crate::Freed::default();
        for entry in entries {
            match self.entries.get_mut(&entry) {
                None | Some((0, _)) => expected.dead += 1,
                Some((1, Page::Cached(_))) => {
                    expected.still_cached += 1;
                    self.entries.get_mut(&entry).unwrap().0 = 0;
                }
                Some((1, _)) => {
                    expected.freed += 1;
                    self.entries.remove(&entry);
                }
                Some((count, _)) => {
                    expected.still_counted += 1;
                    *count -= 1;
                }
            }
        }
        assert_eq!(freed, expected);
    }

    fn free_into(&mut self, entry: EntryId) {
        let mut frames = Vec::new();
        self.layer
            .free_into(&[entry], &mut |_, frame| frames.push(frame));
        self.ended(entry, frames.first().copied());
    }

    fn free_pinned(&mut self, entry: EntryId) {
        let frame = self.layer.pin(entry).unwrap().free();
        self.ended(entry, frame);
    }

    fn ended(&mut self, entry: EntryId, frame: Option<u32>) {
        let (count, page) = self.entries[&entry];
        if count > 1 {
            assert_eq!(frame, None);
            self.entries.insert(entry, (count - 1, page));
            return;
        }
        self.entries.remove(&entry);
        assert_eq!(
            frame,
            if let Page::Cached(frame) = page {
                Some(frame)
            } else {
                None
            }
        );
    }

    fn duplicate(&mut self, entry: EntryId) {
        let (count, _) = self.entries[&entry];
        let now = self.layer.duplicate(entry);
        assert_eq!(now.ok(), (count > 0).then_some(count + 1));
        self.entries.get_mut(&entry).unwrap().0 = now.unwrap_or(0);
    }

    fn cache(&mut self, entry: EntryId) {
        let page = &mut self.entries.get_mut(&entry).unwrap().1;
        self.frames += 1;
        assert_eq!(self.layer.cache(entry, self.frames), *page == Page::None);
        if *page == Page::None {
            *page = Page::Cached(self.frames);
        }
    }

    fn swap_out(&mut self, entry: EntryId, seed: u64) {
        let (count, _) = self.entries[&entry];
        let result = self
            .layer
            .pin(entry)
            .unwrap()
            .swap_out(&page(seed), &mut self.workspace);
        match result {
            Ok(SwapOut::Unneeded) => {
                assert_eq!(count, 0);
                self.entries.remove(&entry);
            }
            Ok(_) => self.entries.get_mut(&entry).unwrap().1 = Page::Bytes(seed),
            Err(error) => assert_eq!(error, vswap_store::StoreError::NoRoom),
        }
    }

    fn swap_in(&mut self, entry: EntryId) {
        let mut out = vec![0x5a; PAGE_SIZE];
        let result = self.layer.swap_in(entry, &mut out, &mut self.workspace);
        match self.entries[&entry].1 {
            Page::None => assert_eq!(result, Err(SwapInError::Empty)),
            Page::Cached(frame) => assert_eq!(result, Err(SwapInError::Cached(frame))),
            Page::Poisoned => assert_eq!(result, Err(SwapInError::Poisoned)),
            Page::Bytes(seed) => assert_eq!((result, out), (Ok(()), page(seed))),
        }
    }

    fn take_frame(&mut self, entry: EntryId) {
        let taken = self.layer.pin(entry).unwrap().take_frame();
        let (count, page) = self.entries[&entry];
        let Page::Cached(frame) = page else {
            assert_eq!(taken, None);
            return;
        };
        assert_eq!(taken, Some(frame));
        match count {
            0 => drop(self.entries.remove(&entry)),
            _ => drop(self.entries.insert(entry, (count, Page::None))),
        }
    }

    fn poison(&mut self, entry: EntryId) {
        self.layer.pin(entry).unwrap().poison();
        let (count, page) = self.entries.get_mut(&entry).unwrap();
        if *count > 0 {
            *page = Page::Poisoned;
        }
    }

    /// Everything the model knows, asked of the layer.
    fn compare(&mut self) {
        assert_lawful(&self.layer);
        let entries: Vec<_> = self
            .entries
            .iter()
            .map(|(&entry, &state)| (entry, state))
            .collect();
        assert_eq!(self.layer.gauges().entries, entries.len() as u64);
        for (entry, (count, expected)) in entries {
            assert_eq!(self.layer.count(entry), count, "{entry:?}");
            match (expected, self.layer.hint(entry)) {
                (Page::None, Backing::None) | (Page::Poisoned, Backing::Poisoned) => {}
                (Page::Cached(frame), Backing::Cached(found)) => assert_eq!(frame, found),
                (Page::Bytes(seed), Backing::Same(_) | Backing::Stored(_)) => {
                    assert_eq!(
                        load_page(&self.layer, entry, &mut self.workspace),
                        page(seed),
                        "{entry:?}"
                    );
                }
                (expected, found) => panic!("{entry:?}: {expected:?} expected, {found:?} found"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_lives_keep_every_byte_and_every_law(ops in prop::collection::vec(ops(), 1..80)) {
        let mut model = Model::new(layer_with_device(2).0);
        for op in ops {
            model.run(op);
            model.compare();
        }
        let entries: Vec<_> = model.entries.iter().flat_map(|(&entry, &(count, _))| vec![entry; count.max(1) as usize]).collect();
        model.layer.free_into(&entries, &mut |_, _| {});
        prop_assert_eq!(model.layer.gauges().entries, 0);
        assert_lawful(&model.layer);
    }
}
