//! The arena as the allocator of a whole program, as the shared library uses it.

use std::collections::HashMap;
use vswap_platform::arena::{self, Arena};

#[global_allocator]
static ARENA: Arena = Arena::new();

fn work(seed: usize) -> usize {
    let mut map = HashMap::new();
    for i in 0..5_000_usize {
        map.insert(i.wrapping_mul(seed | 1), vec![i as u8; i % 3000]);
        if i % 3 == 0 {
            map.remove(&(i / 2).wrapping_mul(seed | 1));
        }
    }
    map.values().map(Vec::len).sum()
}

#[test]
fn a_program_runs_on_the_arena_in_several_threads() {
    let expected = work(17);
    let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(|| work(17))).collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), expected);
    }
    assert!(arena::held_bytes() > 1 << 20);
}

#[test]
fn large_memory_is_given_back_to_the_kernel() {
    let before = arena::held_bytes();
    let large = vec![1_u8; 64 << 20];
    assert!(arena::held_bytes() >= before + large.len());
    let len = large.len();
    drop(large);
    // Other tests allocate meanwhile, but nothing near this size.
    assert!(arena::held_bytes() < before + len / 2);
}
