//! The control socket: how `vswap swapon`, `check` and their like speak to a
//! running engine.
//!
//! Every engine listens at the abstract name `vswap/PID/START` (START: when the
//! process began, in clock ticks, so that a number used again is another name),
//! further engines of the process at `vswap/PID/START/1` and so on. The name
//! vanishes with the process, however that ends, and a forked child listens at
//! its own. The socket is in the engine's private descriptor table.
//!
//! One thread, `vswap-control`, waits for clients and looks at who they are;
//! each that may ask gets a thread for as long as it stays, so none waits for
//! another. Nothing here is on a fault's path, and nothing of the program waits
//! for it.

mod answer;
mod commands;
mod conversation;
mod lines;
mod request;
pub mod slots;
pub mod thread;
mod turns;

pub use answer::Json;
