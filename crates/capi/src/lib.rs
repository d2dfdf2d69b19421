//! The C ABI of `libvswap`, declared in `include/vswap.h` (generated from here).
//!
//! A binding has five steps and no sixth: take the arguments apart, call the
//! engine, map the error, wrap the result, return. A branch here is a missing
//! function below.
#![expect(unsafe_code, reason = "a C ABI takes raw pointers from its callers")]

mod counters;
mod devices;
mod groups;
mod handle;
mod layer;
mod layer_device;
mod layer_fault;
mod layer_group;
mod layer_memory;
mod layer_state;
mod layer_tiers;
mod memory;
mod numpy;
mod text;
mod touch;
mod trace;

pub use handle::{Hooks, set_current, set_hooks, vswap_space};

use std::ffi::{CStr, c_char};

/// Changes when a function or layout of this interface does.
pub const VSWAP_ABI_VERSION: u32 = 1;

/// What this library was built from, for telling copies apart.
pub const BUILD: &str = env!("VSWAP_BUILD_ID");

const BUILD_ID: &str = concat!(env!("VSWAP_BUILD_ID"), "\0");
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// The ABI version of this library.
#[unsafe(no_mangle)]
pub extern "C" fn vswap_abi_version() -> u32 {
    VSWAP_ABI_VERSION
}

/// What this library was built from, for telling copies apart. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vswap_build_id() -> *const c_char {
    constant(BUILD_ID)
}

/// The release, such as "0.1.0". Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vswap_version() -> *const c_char {
    constant(VERSION)
}

fn constant(text: &'static str) -> *const c_char {
    CStr::from_bytes_with_nul(text.as_bytes())
        .unwrap_or_default()
        .as_ptr()
}

/// Keeps the linker from dropping this crate's exports out of the library.
pub fn exports() -> [usize; 10] {
    [
        vswap_abi_version as *const () as usize,
        counters::vswap_counters as *const () as usize,
        devices::vswap_swapon as *const () as usize,
        groups::vswap_groups as *const () as usize,
        handle::vswap_space_create as *const () as usize,
        layer::vswap_layer_create as *const () as usize,
        memory::vswap_malloc as *const () as usize,
        numpy::vswap_np_malloc as *const () as usize,
        touch::vswap_touch_pages as *const () as usize,
        memory::vswap_free as *const () as usize,
    ]
}
