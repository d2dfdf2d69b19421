//! The only floor that speaks to the kernel.
//!
//! One module per kernel facility; each public function states its contract
//! first. Raw system calls throughout, because the preload layer interposes
//! the C library's.
#![expect(
    unsafe_code,
    reason = "this floor wraps the kernel's and the codecs' C interfaces"
)]

pub mod arena;
pub mod cache;
pub mod clock;
pub mod codec;
pub mod errno;
mod fd;
pub mod file;
pub mod lazy;
pub mod loader;
pub mod log;
pub mod map;
pub mod memfd;
pub mod pagemap;
pub mod probe;
pub mod proc;
pub mod signal;
pub mod stdio;
pub mod sync;
pub mod sys;
pub mod thread;
pub mod tls;
pub mod uffd;
pub mod unix;
