//! Fork, both sides played by one process: what a child finds in its memory is
//! what its parent had there at the fork.

use super::directory::{Directory, store_on, write_all_back};
use crate::testing::FaultyDevice;
use crate::{CodecKind, Store, Workspace};

fn scene() -> (Store, Directory, Workspace) {
    let store = store_on(64, FaultyDevice::new(64));
    let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
    let owners = Directory::new(3000);
    for owner in 0..1500 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    write_all_back(&store);
    for owner in 1500..3000 {
        owners.store(&store, owner, owner, &mut ws).unwrap();
    }
    (store, owners, ws)
}

#[test]
fn the_parent_goes_on_after_a_fork() {
    let (store, owners, mut ws) = scene();
    for forked in [true, false] {
        store.fork_prepare();
        store.fork_parent(forked);
        owners.check(&store, &mut ws);
        owners.store(&store, 3, 8, &mut ws).unwrap();
        owners.verify_all(&store, &mut ws);
    }
}

#[test]
fn the_child_has_everything_and_can_go_on() {
    let (store, owners, mut ws) = scene();
    store.fork_prepare();
    store.fork_child();
    owners.check(&store, &mut ws);
    owners.verify_all(&store, &mut ws);
    for owner in 0..3000 {
        owners.store(&store, owner, owner + 1, &mut ws).unwrap();
    }
    write_all_back(&store);
    while store.clean(&owners, &mut ws).segments > 0 {}
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}

#[test]
fn the_parents_places_outlive_the_childs_frees() {
    let (store, owners, mut ws) = scene();
    let before = owners.live();
    store.fork_prepare();
    store.fork_child();
    // The child frees all it inherited...
    for owner in 0..3000 {
        owners.free(&store, owner);
    }
    store.give_back_places(usize::MAX);
    owners.check(&store, &mut ws);
    // ...and can use only places that the parent does not need.
    let needed = before.iter().filter(|(owner, _)| *owner < 1500).count();
    assert!(needed == 1500);
    for owner in 0..3000 {
        owners.store(&store, owner, owner + 7, &mut ws).unwrap();
    }
    write_all_back(&store);
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}

#[test]
fn what_other_threads_were_doing_is_undone_in_the_child() {
    let (store, owners, mut ws) = scene();
    store.seal_all();
    // A thread was writing one segment, another was cleaning one.
    store.leave_half_done_for_tests();
    // A third had freed the last object of a segment and not given it back.
    let segment = owners.at(2000).location.segment;
    for (owner, at) in owners.live() {
        if at.location.segment == segment {
            store.free_halfway_for_tests(owners.forget(owner));
        }
    }
    store.fork_prepare();
    store.fork_child();
    owners.check(&store, &mut ws);
    write_all_back(&store);
    owners.verify_all(&store, &mut ws);
    owners.check(&store, &mut ws);
}
