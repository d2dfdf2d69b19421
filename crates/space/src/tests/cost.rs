//! What the layer costs beyond the codec. Run with `--release -- --ignored --nocapture costs`.

use super::*;
use std::hint::black_box;
use vswap_platform::clock::thread_cpu_ns;
use vswap_platform::map::AnonMap;

const PAGES: usize = 16 * 4096;

/// Prints nanoseconds of this thread per page: other load on the machine does not count, though it costs caches.
fn timed(what: &str, act: impl FnOnce()) {
    let start = thread_cpu_ns();
    act();
    let each = (thread_cpu_ns() - start) as f64 / PAGES as f64;
    println!("{what:<28}{each:8.1} ns/page");
}

/// Page-aligned, as frames are.
struct Pages(AnonMap);

impl Pages {
    fn of(contents: &[u8]) -> Self {
        let map = AnonMap::new(2 * PAGE_SIZE, PAGE_SIZE).unwrap();
        map.copy_in(0, contents).unwrap();
        Self(map)
    }

    fn contents(&self) -> &[u8] {
        self.0.slice(0, PAGE_SIZE).unwrap()
    }

    fn out(&self) -> &mut [u8] {
        self.0.slice_mut(PAGE_SIZE, PAGE_SIZE).unwrap()
    }
}

fn round(layer: &SwapLayer, pages: &Pages, workspace: &mut Workspace) {
    let (contents, out) = (pages.contents(), pages.out());
    timed("(memcpy of 4 KiB)", || {
        for _ in 0..PAGES {
            black_box(&mut *out).copy_from_slice(black_box(contents));
        }
    });
    let mut entries = vec![EntryId::new(512).unwrap(); PAGES];
    timed("allocate, 16 at a time", || {
        for block in entries.chunks_mut(16) {
            let range = layer.allocate(16).unwrap();
            block
                .iter_mut()
                .zip(range.iter())
                .for_each(|(slot, entry)| *slot = entry);
        }
    });
    timed("cache", || {
        for (i, &entry) in entries.iter().enumerate() {
            assert!(layer.cache(entry, i as u32));
        }
    });
    timed("pin and unpin", || {
        entries
            .iter()
            .for_each(|&entry| drop(layer.pin(entry).unwrap()))
    });
    timed("pin, swap_out", || {
        for &entry in &entries {
            layer
                .pin(entry)
                .unwrap()
                .swap_out(contents, workspace)
                .unwrap();
        }
    });
    timed("swap_in", || {
        for &entry in &entries {
            layer.swap_in(entry, out, workspace).unwrap();
        }
    });
    timed("free, 16 at a time", || {
        for batch in entries.chunks(16) {
            layer.free(batch);
        }
    });
}

fn store_alone(layer: &SwapLayer, pages: &Pages, workspace: &mut Workspace) {
    let store = layer.store();
    let mut objects = Vec::with_capacity(PAGES);
    timed("append", || {
        for owner in 1..=PAGES as u64 {
            objects.push(store.append(owner, pages.contents(), workspace).unwrap());
        }
    });
    timed("read", || {
        for (owner, &object) in (1..).zip(&objects) {
            store.read(object, owner, pages.out(), workspace).unwrap();
        }
    });
    timed("free", || {
        objects.iter().for_each(|&object| store.free(object))
    });
}

#[test]
#[ignore = "a measurement, not a check"]
fn costs() {
    let (layer, mut workspace) = (layer(300), workspace());
    let (zeros, quarter) = (Pages::of(&[0; PAGE_SIZE]), Pages::of(&page(1)));
    for _ in 0..2 {
        println!("-- a page of zeros");
        round(&layer, &zeros, &mut workspace);
        println!("-- a page that compresses to a quarter");
        round(&layer, &quarter, &mut workspace);
        println!("-- the store alone, same page");
        store_alone(&layer, &quarter, &mut workspace);
    }
}
