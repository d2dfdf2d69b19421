//! The layer as a whole. What one part does alone is tested beside that part.

mod bytes;
mod cost;
mod dedup;
mod groups;
mod life;
mod model;
mod slots;
mod slots_failing;
mod stress;

use crate::{EntryId, LayerOptions, SwapLayer};
use vswap_store::testing::{Control, FaultyDevice};
use vswap_store::{CodecKind, Store, StoreOptions, Workspace};
use vswap_units::{Bytes, PAGE_SIZE};

/// Segments in a MiB.
const MIB: u32 = 4;
const PLACES: u32 = 4096;

/// A layer over a store of so many MiB of RAM.
fn layer(ram_mib: u32) -> SwapLayer {
    let store = Store::new(StoreOptions::new(ram_mib * MIB, 0)).unwrap();
    SwapLayer::new(
        LayerOptions {
            max_entries: 1 << 20,
        },
        store,
    )
    .unwrap()
}

/// A layer that can also write back, to a device in memory; with the handle that makes the device fail.
fn layer_with_device(ram_mib: u32) -> (SwapLayer, Control) {
    let device = FaultyDevice::new(PLACES);
    let control = device.control();
    let mut store = Store::new(StoreOptions::new(ram_mib * MIB, PLACES)).unwrap();
    store.attach(Box::new(device)).unwrap();
    (
        SwapLayer::new(
            LayerOptions {
                max_entries: 1 << 20,
            },
            store,
        )
        .unwrap(),
        control,
    )
}

fn workspace() -> Workspace {
    Workspace::new(CodecKind::Lz4).unwrap()
}

/// A page that tells from which seed it was made. Seeds divisible by 5 repeat one word; those by 7 do not compress.
fn page(seed: u64) -> Vec<u8> {
    let mut word = seed;
    let mut next = || {
        word = word
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        word
    };
    if seed.is_multiple_of(5) {
        return (seed / 5).to_ne_bytes().repeat(PAGE_SIZE / 8);
    }
    let noise = if seed.is_multiple_of(7) {
        PAGE_SIZE
    } else {
        PAGE_SIZE / 4
    };
    let mut page: Vec<u8> = (0..noise / 8).flat_map(|_| next().to_ne_bytes()).collect();
    page.resize(PAGE_SIZE, seed as u8);
    page
}

fn store_page(layer: &SwapLayer, entry: EntryId, seed: u64, workspace: &mut Workspace) {
    layer
        .pin(entry)
        .unwrap()
        .swap_out(&page(seed), workspace)
        .unwrap();
}

/// Writes everything to the device, what is in open segments too.
fn write_back(layer: &SwapLayer) {
    layer.store().seal_all();
    while let Ok(Some(_)) = layer.writeback_oldest(Bytes(1 << 30)) {}
}

fn load_page(layer: &SwapLayer, entry: EntryId, workspace: &mut Workspace) -> Vec<u8> {
    let mut out = vec![0xa5; PAGE_SIZE];
    layer.swap_in(entry, &mut out, workspace).unwrap();
    out
}

fn assert_lawful(layer: &SwapLayer) {
    let laws = layer.check(&mut workspace());
    assert!(laws.is_empty(), "{laws:#?}");
}
