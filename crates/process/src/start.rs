//! An engine's start, in the order in which each step can still be undone.

use std::sync::Arc;

use vswap_platform::probe::taking_aside_works;

use crate::config::Config;
use crate::delivery::{Delivery, open_userfaultfd};
use crate::devices;
use crate::engine::Engine;
use crate::error::StartError;
use crate::{registry, signal};

impl Engine {
    /// Starts an engine and waits until it can serve faults.
    ///
    /// # Errors
    /// A sentence for the user; nothing was started then.
    pub fn start(config: Config) -> Result<Arc<Self>, StartError> {
        let (delivery, uffd) = open_userfaultfd(config.faults)?;
        if !uffd.has_move() {
            taking_aside_works().map_err(StartError::NoWayOut)?;
        }
        let opened = devices::open(&config).map_err(StartError::Device)?;
        let engine = Arc::new(Self::build(config, delivery, opened)?);
        engine
            .counters
            .mode
            .set(if delivery == Delivery::Thread { 1 } else { 2 });
        engine.adopt(uffd);
        registry::add(&engine)?;
        if delivery == Delivery::Signal {
            signal::install().map_err(StartError::Thread)?;
        }
        let up = engine.bring_up();
        if up.is_err() {
            registry::remove(&engine);
        }
        up?;
        let grouped = engine.make_usual_group();
        if grouped.is_err() {
            registry::remove(&engine);
            engine.shut_down();
        }
        grouped.map_err(StartError::Group).map(|()| engine)
    }
}
