//! Process memory: a managed range of addresses whose pages can be elsewhere.
//!
//! A page's way out: `victims` (whom) → `reclaim` (when) → `evict` (take a
//! block, write a run out; several by `together`) → `mover` (`aside` where it may not write) and
//! `frames` (the staging area). Its way back: `handlers` (threads) or `signal` → `fault` (the one door) → `room` → `swap_in`.
//! Before it is missed: `ahead`, told by `streams` and `areas`, and `prefetch`.
//! What that says about its block: `refault` → `workingset` and `window`.
//! What the program does with its memory: `allocate` (as far as there is
//! `capacity`) and `ranges`. When any of it is on at all: `arm`. Devices that
//! come and go: `swapon` (who asks), `change` (who does it) and `leaving` (how
//! one goes). Around a fork: `fork`.

mod ahead;
mod allocate;
mod areas;
mod arm;
mod aside;
mod average;
pub mod budget;
mod capacity;
mod change;
mod check;
pub mod config;
mod control;
mod delivery;
mod device_json;
mod device_spec;
mod devices;
mod direct;
mod empty_runs;
mod engine;
mod error;
mod evict;
pub mod fault;
pub mod fork;
mod frames;
mod groups;
mod handlers;
mod holes;
mod leaving;
mod mover;
mod names;
mod nearness;
mod page_state;
mod prefetch;
mod publish;
mod queues;
mod ranges;
mod reclaim;
mod recording;
mod recycle;
mod refault;
mod region;
pub mod registry;
#[cfg(test)]
mod replay;
mod room;
pub mod runs;
mod service;
mod signal;
mod start;
mod streams;
mod swap_in;
mod swapon;
mod tick;
mod together;
pub mod trace;
mod tree;
mod values;
mod victims;
mod window;
mod worker;
mod workingset;
mod world;
mod writeback;

pub use allocate::AllocKind;
pub use config::Config;
pub use delivery::Delivery;
pub use device_json::devices_json;
pub use device_spec::{DeviceError, DeviceSpec};
pub use engine::Engine;
pub use error::StartError;
pub use groups::{GroupError, GroupKey};
pub use names::Names;
