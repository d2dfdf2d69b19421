//! How faults reach the engine: what is asked for, and what this kernel gives.

use std::sync::Arc;

use vswap_platform::uffd::{UffdMode, Userfaultfd};

use crate::config::Faults;
use crate::error::StartError;

/// How faults are delivered, once decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// Handler threads read them from the userfaultfd.
    Thread,
    /// The faulting thread gets SIGBUS and serves itself.
    Signal,
}

/// The delivery that is possible, with its userfaultfd: thread wherever a
/// privileged one can be had, never chosen by speed.
///
/// # Errors
/// When no userfaultfd can be had that way.
pub fn open_userfaultfd(faults: Faults) -> Result<(Delivery, Arc<Userfaultfd>), StartError> {
    let signal =
        || Userfaultfd::open(UffdMode::UserOnly, true).map(|uffd| (Delivery::Signal, uffd));
    let opened = match faults {
        Faults::Signal => signal(),
        Faults::Thread => {
            Userfaultfd::open(UffdMode::Kernel, false).map(|uffd| (Delivery::Thread, uffd))
        }
        Faults::Auto => Userfaultfd::open(UffdMode::Kernel, false)
            .map(|uffd| (Delivery::Thread, uffd))
            .or_else(|_| signal()),
    };
    let (delivery, uffd) = opened.map_err(StartError::Userfaultfd)?;
    Ok((delivery, Arc::new(uffd)))
}
