//! The policy without memory: sequences of touched blocks, driven through the
//! real queues, clock and window as the engine drives them, beside plain FIFO.

use std::collections::VecDeque;

use vswap_units::{BLOCK_PAGES, BLOCK_SIZE};

use crate::victims::{Policy, Victims};
use crate::window::{Bounds, Window};
use crate::workingset::{Clock, Stamp, most_active};

const PAGES: u64 = BLOCK_PAGES as u64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Resident,
    Cached,
    Out(Stamp),
}

/// A memory of so many blocks; blocks beyond are out.
struct Replay {
    capacity: usize,
    bounds: Bounds,
    victims: Victims,
    clock: Clock,
    window: Window,
    places: Vec<Place>,
    cached: VecDeque<usize>,
    resident: usize,
    swap_ins: u64,
    activated: u64,
}

impl Replay {
    fn new(policy: Policy, capacity: usize, blocks: usize) -> Self {
        let ram = (capacity * BLOCK_SIZE) as u64;
        Self {
            capacity,
            bounds: Bounds::new(ram, capacity / 8, policy == Policy::Fifo),
            victims: Victims::new(blocks, policy).unwrap(),
            clock: Clock::default(),
            window: Window::default(),
            places: vec![Place::Nowhere; blocks],
            cached: VecDeque::new(),
            resident: 0,
            swap_ins: 0,
            activated: 0,
        }
    }

    fn most(&self) -> usize {
        let cached = self.cached.len() as u64;
        most_active(self.resident as u64 * PAGES, cached * PAGES)
    }

    fn touch(&mut self, block: usize) {
        match self.places[block] {
            Place::Resident => return,
            Place::Nowhere => {}
            Place::Cached => {
                self.cached.retain(|&cached| cached != block);
                self.window.hit(PAGES);
                self.victims.used(block, self.most());
            }
            Place::Out(stamp) => {
                self.swap_ins += 1;
                let distance = self.clock.since(stamp);
                self.window.refaulted(distance, PAGES, self.bounds);
                if distance <= self.resident as u64 * PAGES {
                    self.activated += u64::from(self.victims.used(block, self.most()));
                }
            }
        }
        self.victims.push(block);
        self.places[block] = Place::Resident;
        self.resident += 1;
        self.reclaim();
    }

    fn reclaim(&mut self) {
        while self.resident + self.cached.len() > self.capacity {
            if self.cached.len() < self.window.runs(self.bounds) {
                let block = self.victims.pop(self.most()).unwrap();
                assert!(self.places[block] == Place::Resident);
                self.places[block] = Place::Cached;
                self.resident -= 1;
                self.cached.push_back(block);
            } else {
                let block = self.cached.pop_front().unwrap();
                self.places[block] = Place::Out(self.clock.advance(BLOCK_PAGES as u32));
                self.window.written(PAGES);
                self.victims.written_out(block);
                self.window.adapt(self.bounds);
            }
        }
        let mut problems = Vec::new();
        if self.swap_ins % 512 == 1 {
            self.victims.check(&mut problems);
        }
        assert_eq!(problems, Vec::<String>::new());
    }

    /// Swap-ins that touching these blocks costs.
    fn run(&mut self, touches: impl Iterator<Item = usize>) -> u64 {
        let before = self.swap_ins;
        touches.for_each(|block| self.touch(block));
        self.swap_ins - before
    }
}

fn rounds(count: usize, blocks: usize) -> impl Iterator<Item = usize> {
    (0..count).flat_map(move |_| 0..blocks)
}

fn random(count: usize, from: usize, blocks: usize) -> impl Iterator<Item = usize> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        from + (state >> 20) as usize % blocks
    })
}

const MEMORY: usize = 1000;

fn both(blocks: usize, touches: impl Fn(&mut Replay) -> u64) -> (u64, u64) {
    let of = |policy| touches(&mut Replay::new(policy, MEMORY, blocks));
    (of(Policy::Fifo), of(Policy::Workingset))
}

#[test]
fn of_a_loop_slightly_larger_than_memory_most_stays() {
    for (blocks, most_percent) in [(1050, 30), (1100, 35), (1250, 50), (1500, 70)] {
        let (fifo, ours) = both(blocks, |memory| {
            memory.run(rounds(5, blocks));
            memory.run(rounds(20, blocks))
        });
        println!("loop of {blocks} in {MEMORY}: fifo {fifo}, workingset {ours}");
        assert_eq!(fifo, 20 * blocks as u64);
        assert!(ours * 100 < fifo * most_percent, "{blocks}: {ours}");
    }
}

#[test]
fn a_hot_set_survives_one_long_scan() {
    let (fifo, ours) = both(12_000, |memory| {
        memory.run(random(20_000, 0, 600));
        // One block of the scan to two touches of the hot set.
        let hot = random(20_000, 0, 600);
        let mut scan = 2_000..;
        let mixed: Vec<_> = hot
            .enumerate()
            .flat_map(|(index, block)| {
                let next = (index % 2 == 0).then(|| scan.next()).flatten();
                [Some(block), next].into_iter().flatten()
            })
            .collect();
        memory.run(mixed.into_iter())
    });
    println!("scan: fifo {fifo}, workingset {ours}");
    assert!(ours * 2 < fifo, "fifo {fifo}, workingset {ours}");
}

#[test]
fn a_program_that_moved_on_has_its_new_working_set_in_memory_soon() {
    let mut memory = Replay::new(Policy::Workingset, MEMORY, 4_000);
    memory.run(rounds(30, 1_200));
    let settling = memory.run((0..10).flat_map(|_| 2_000..2_900));
    let settled = memory.run((0..10).flat_map(|_| 2_000..2_900));
    println!("moved on: settling {settling}, settled {settled}");
    assert_eq!(settled, 0);
    assert!(settling < 5 * 900, "{settling}");
}

#[test]
fn what_a_random_job_costs_is_what_it_costs_by_arrival() {
    for blocks in [1_200, 2_000, 4_000] {
        let (fifo, ours) = both(blocks, |memory| memory.run(random(60_000, 0, blocks)));
        println!("random over {blocks}: fifo {fifo}, workingset {ours}");
        assert!(ours * 100 < fifo * 104, "fifo {fifo}, workingset {ours}");
    }
}

#[test]
fn a_loop_that_does_not_come_back_in_time_activates_nothing() {
    let blocks = 3 * MEMORY;
    let mut memory = Replay::new(Policy::Workingset, MEMORY, blocks);
    assert_eq!(memory.run(rounds(4, blocks)), 3 * blocks as u64);
    assert_eq!(memory.activated, 0);
}
