//! What an append and a read cost beside the bare codec. Run by hand:
//! `cargo test --release -p vswap-store speed -- --ignored --nocapture`.

use std::hint::black_box;
use std::time::Instant;

use vswap_platform::codec::Lz4;
use vswap_units::PAGE_SIZE;

use crate::testing::text_page;
use crate::{CodecKind, Store, StoreOptions, Stored, Workspace};

/// In the log's hot segments; then in memory that is given back and taken anew.
const SETS: [usize; 2] = [1024, 4096];
const ROUNDS: usize = 25;

#[test]
#[ignore = "a measurement, not a test"]
fn append_and_read_beside_bare_lz4() {
    SETS.into_iter().for_each(measure);
}

/// Rounds alternate, and the fastest of each kind counts: other work on the
/// machine disturbs all alike.
fn measure(count: usize) {
    let pages: Vec<Vec<u8>> = (0..count as u64).map(text_page).collect();
    let mut lz4 = Lz4::new().unwrap();
    let mut packed = vec![0_u8; count * 2048];
    let mut ends = vec![(0, 0); count];
    let mut out = vec![0_u8; PAGE_SIZE];
    let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
    let store = Store::new(StoreOptions::new(64, 0)).unwrap();
    let mut stored: Vec<Stored> = Vec::with_capacity(count);
    let mut best = [f64::MAX; 6];
    let mut time = |kind: usize, work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        best[kind] = best[kind].min(start.elapsed().as_nanos() as f64 / count as f64);
    };
    for _ in 0..ROUNDS {
        time(0, &mut || {
            let mut at = 0;
            for (page, end) in pages.iter().zip(&mut ends) {
                let length = lz4.compress(page, &mut packed[at..at + 4200]).unwrap();
                *end = (at, at + length);
                at += length.next_multiple_of(16);
            }
        });
        time(1, &mut || {
            for (owner, page) in (0_u64..).zip(&pages) {
                stored.push(store.append(owner, page, &mut ws).unwrap());
            }
        });
        time(2, &mut || {
            for &(from, to) in &ends {
                black_box(Lz4::decompress(&packed[from..to], &mut out));
            }
        });
        time(3, &mut || {
            for (owner, &at) in (0_u64..).zip(&stored) {
                store.read(at, owner, black_box(&mut out), &mut ws).unwrap();
            }
        });
        time(4, &mut || {
            for &(from, to) in &ends {
                black_box(crc32c::crc32c(&packed[from..to]));
            }
        });
        time(5, &mut || stored.drain(..).for_each(|at| store.free(at)));
    }
    let [pack, append, unpack, read, crc, free] = best;
    println!(
        "{count} pages, ns per page: lz4 {pack:.0} / {unpack:.0}, append {append:.0} (x{:.3}), read {read:.0} (x{:.3}), crc {crc:.0}, free {free:.0}",
        append / pack,
        read / unpack
    );
}
