//! `libvswap.so.1`: the library that is preloaded into any program.
//!
//! It interposes the malloc family and the calls that map memory, and exports
//! the C ABI. Where there is no budget for the process (`VSWAP_RAM` unset,
//! `VSWAP=off`, or the library merely imported) every call passes straight
//! through, but for what spaces of signal delivery need ([`attach`]). Start reading at [`state`]; the table of interposed calls is in
//! `docs/interposed.md`.
#![expect(unsafe_code, reason = "this floor is the C library's interface")]
#![cfg_attr(
    test,
    allow(dead_code, reason = "under test the C names are not exported")
)]

mod advice;
mod attach;
mod blocks;
mod bridge;
mod descriptors;
mod errno;
mod fork;
mod heap;
mod io;
mod linkage;
mod malloc;
mod mapping;
mod mark;
mod net;
mod next;
mod presence;
mod real;
mod remap;
mod resident;
mod rules;
mod signals;
mod spawn;
mod state;
mod stdio;
mod waiting;

/// The C ABI is exported from here; a reference keeps the linker from dropping it.
#[used]
static C_ABI: fn() -> [usize; 10] = vswap_capi::exports;

/// The engine's own memory: never the exported malloc.
#[global_allocator]
static ARENA: vswap_platform::arena::Arena = vswap_platform::arena::Arena::new();

/// Runs when the library is loaded; must do almost nothing, since many
/// programs exec another at once.
#[cfg_attr(not(test), unsafe(link_section = ".init_array"))]
#[used]
static CONSTRUCTOR: extern "C" fn() = constructor;

extern "C" fn constructor() {
    fork::register();
    attach::register();
    vswap_platform::thread::find_count();
    state::read_environment();
}
