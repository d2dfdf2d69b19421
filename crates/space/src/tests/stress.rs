//! All at once: workers that swap, read, duplicate and free; a cleaner; a writer; a checker; forks that only pretend.

use super::*;
use crate::{Dedup, GroupId, SwapInError};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use vswap_platform::sync::RankedMutex;
use vswap_store::Resource;

const WORKERS: u64 = 3;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// One worker's pages: entry, count, and the seed of what it must read back (none: cached in the frame of that number).
struct Mine {
    entry: EntryId,
    count: u64,
    seed: Option<u64>,
}

fn work(layer: &SwapLayer, groups: &[GroupId], number: u64, seeds: u64, stop: &AtomicBool) {
    let _stop = StopWhenDone(stop);
    let (mut random, mut workspace) = (Random(number + 1), workspace());
    let mut mine: Vec<Mine> = Vec::new();
    while !stop.load(Relaxed) {
        match random.below(10) {
            0..=2 if mine.len() < 1500 => {
                let group = groups[random.below(groups.len() as u64) as usize];
                bring_in(layer, group, &mut mine, &mut random, number);
            }
            3..=6 => swap_one(layer, &mut mine, &mut random, seeds, &mut workspace),
            7 => duplicate_one(layer, &mut mine, &mut random),
            8 => free_some(layer, &mut mine, &mut random),
            _ => read_block(layer, &mine, &mut random, &mut workspace),
        }
    }
    for one in mine {
        for _ in 0..one.count {
            layer.free_into(&[one.entry], &mut |_, _| {});
        }
    }
}

fn bring_in(
    layer: &SwapLayer,
    group: GroupId,
    mine: &mut Vec<Mine>,
    random: &mut Random,
    number: u64,
) {
    let n = if random.below(2) == 0 {
        16
    } else {
        1 + random.below(20)
    };
    for entry in layer.allocate_for(group, n as usize).unwrap().iter() {
        let frame = (entry.get() << 2 | number) as u32;
        assert!(
            layer.cache(entry, frame),
            "{entry:?} was handed out with bytes in it"
        );
        mine.push(Mine {
            entry,
            count: 1,
            seed: None,
        });
    }
}

fn swap_one(
    layer: &SwapLayer,
    mine: &mut [Mine],
    random: &mut Random,
    seeds: u64,
    workspace: &mut Workspace,
) {
    let len = mine.len() as u64;
    let Some(one) = mine.get_mut(random.below(len.max(1)) as usize) else {
        return;
    };
    match one.seed {
        Some(seed) => assert_eq!(
            load_page(layer, one.entry, workspace),
            page(seed),
            "{:?}",
            one.entry
        ),
        None => {
            let seed = random.below(seeds);
            if layer
                .pin(one.entry)
                .unwrap()
                .swap_out(&page(seed), workspace)
                .is_ok()
            {
                one.seed = Some(seed);
            }
        }
    }
}

fn duplicate_one(layer: &SwapLayer, mine: &mut [Mine], random: &mut Random) {
    let len = mine.len() as u64;
    if let Some(one) = mine.get_mut(random.below(len.max(1)) as usize) {
        one.count += 1;
        assert_eq!(layer.duplicate(one.entry), Ok(one.count));
    }
}

fn free_some(layer: &SwapLayer, mine: &mut Vec<Mine>, random: &mut Random) {
    let mut entries = Vec::new();
    for _ in 0..random.below(200).min(mine.len() as u64) {
        let at = random.below(mine.len() as u64) as usize;
        entries.push(mine[at].entry);
        mine[at].count -= 1;
        if mine[at].count == 0 {
            mine.swap_remove(at);
        }
    }
    entries.sort_unstable();
    let freed = layer.free_into(&entries, &mut |_, _| {});
    assert_eq!((freed.dead, freed.still_cached), (0, 0));
}

fn read_block(layer: &SwapLayer, mine: &[Mine], random: &mut Random, workspace: &mut Workspace) {
    let from = random.below(mine.len() as u64 + 1) as usize;
    let block: Vec<_> = mine[from..].iter().take(16).collect();
    let entries: Vec<_> = block.iter().map(|one| one.entry).collect();
    let mut pages = vec![vec![0; PAGE_SIZE]; block.len()];
    let mut outs: Vec<&mut [u8]> = pages.iter_mut().map(Vec::as_mut_slice).collect();
    let mut results = vec![Ok(()); block.len()];
    layer.swap_in_block(&entries, &mut outs, &mut results, workspace);
    for ((one, out), result) in block.iter().zip(&pages).zip(results) {
        match (one.seed, result) {
            (_, Err(SwapInError::Busy)) | (None, Err(SwapInError::Cached(_))) => {}
            (Some(seed), Ok(())) => assert_eq!(out, &page(seed)),
            (seed, result) => panic!("{seed:?} read as {result:?}"),
        }
    }
}

/// Stops the others also when a thread panics, so that its words are seen.
struct StopWhenDone<'a>(&'a AtomicBool);

impl Drop for StopWhenDone<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn until(stop: &AtomicBool, pause: Duration, mut act: impl FnMut()) {
    while !stop.load(Relaxed) {
        act();
        std::thread::sleep(pause);
    }
}

/// The root, one with limits and a child, and one whose bytes stay in RAM.
fn groups(layer: &SwapLayer) -> [GroupId; 4] {
    let groups = layer.store().groups();
    let tight = groups.create(GroupId::ROOT).unwrap();
    let below = groups.create(tight).unwrap();
    let private = groups.create(GroupId::ROOT).unwrap();
    groups.set_limit(tight, Resource::Ram, Some(4)).unwrap();
    groups.set_limit(below, Resource::Device, Some(5)).unwrap();
    groups.set_limit(private, Resource::Ram, Some(6)).unwrap();
    groups.set_rules(private, false, 0);
    [GroupId::ROOT, tight, below, private]
}

fn assert_within_limits(layer: &SwapLayer, groups: &[GroupId]) {
    for &group in groups {
        let held = layer.charge(group).unwrap().store;
        for (what, held) in [(Resource::Ram, held.ram), (Resource::Device, held.device)] {
            let limit = layer.store().groups().limit(group, what);
            assert!(
                limit.is_none_or(|most| held <= most + 1),
                "{group:?} {what:?} {held}"
            );
        }
    }
    assert_eq!(layer.charge(groups[3]).unwrap().store.device, 0);
}

#[test]
fn nothing_is_lost_while_everything_moves() {
    run(&layer_with_device(8).0, 1 << 40);
}

#[test]
fn nothing_is_lost_while_everything_moves_and_most_pages_are_equal() {
    for scope in [Dedup::Group, Dedup::Space] {
        let layer = dedup::sharing(layer_with_device(8).0, scope, dedup::mostly_alike);
        run(&layer, 400);
        assert!(layer.gauges().dedup_hits > 0);
        assert_eq!(layer.gauges().shared_objects, 0);
    }
}

/// Pages are made from this many seeds.
fn run(layer: &SwapLayer, seeds: u64) {
    let groups = groups(layer);
    let store_at_rest = RankedMutex::<(), 1>::new(());
    let stop = AtomicBool::new(false);
    let seconds = std::env::var("VSWAP_TEST_STRESS_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2);
    std::thread::scope(|scope| {
        for number in 0..WORKERS {
            scope.spawn({
                let (groups, stop) = (&groups, &stop);
                move || work(layer, groups, number, seeds, stop)
            });
        }
        scope.spawn(|| {
            let mut workspace = workspace();
            until(&stop, Duration::from_micros(100), || {
                let _moving = store_at_rest.lock();
                layer.clean(&mut workspace);
            });
        });
        scope.spawn(|| {
            until(&stop, Duration::from_micros(300), || {
                let _moving = store_at_rest.lock();
                layer.store().seal_all();
                let _ = layer.writeback_oldest(Bytes(1 << 20));
                let _ = layer.store().writeback_group(groups[1], Bytes(0), true);
            });
        });
        scope.spawn(|| {
            until(&stop, Duration::from_millis(20), || {
                let _moving = store_at_rest.lock();
                layer.trim();
            });
        });
        scope.spawn(|| {
            until(&stop, Duration::from_millis(7), || {
                let _alone = store_at_rest.lock();
                layer.fork_prepare();
                layer.fork_parent(false);
            });
        });
        let _stop = StopWhenDone(&stop);
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
            let _resting = store_at_rest.lock();
            assert_lawful(layer);
            assert_within_limits(layer, &groups);
        }
    });
    groups[1..]
        .iter()
        .rev()
        .for_each(|&group| _ = super::groups::end(layer, group).unwrap());
    assert_eq!(layer.gauges().entries, 0);
    assert_lawful(layer);
}
