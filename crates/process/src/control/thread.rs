//! The thread that waits for clients and decides who may ask.

use std::sync::Arc;

use vswap_platform::errno::Errno;
use vswap_platform::sync::Event;
use vswap_platform::unix::{Listener, Stream};
use vswap_platform::{log, proc};

use super::answer;
use super::conversation::{self, Conversation};
use super::slots::MOST;
use crate::engine::Engine;

/// Names tried: twice the engines a process may have, since somebody else may sit
/// on a name of ours.
const NAMES_MOST: u32 = 128;
/// Clients that may wait to be looked at.
const BACKLOG: i32 = 16;
/// How long a client may take to read why it is refused.
const REFUSAL_MS: u32 = 100;
/// After a client that may not ask, and after an error: who comes in a loop
/// takes next to nothing of the program's time.
const PAUSE_NS: u64 = 20_000_000;

impl Engine {
    /// Opens the socket, in the engine's private table. Without one the program
    /// runs on, and that is said.
    pub(crate) fn open_control(&self) {
        match self.listen() {
            Ok((listener, number)) => self.control.opened(listener.into_fd(), number),
            Err(error) => self.without_control(error),
        }
    }

    /// Says that nobody can ask this engine.
    pub(crate) fn without_control(&self, error: Errno) {
        log::say(&[
            "'vswap swapon' and 'vswap check' will not reach this process: no socket (",
            error.name(),
            ")",
        ]);
    }

    /// The first free name of this process.
    fn listen(&self) -> Result<(Listener, u32), Errno> {
        let base = format!("vswap/{}/{}", std::process::id(), proc::start_ticks()?);
        let mut last = Errno::EADDRINUSE;
        for number in 0..NAMES_MOST {
            let name = if number == 0 {
                base.clone()
            } else {
                format!("{base}/{number}")
            };
            match Listener::bind(name.as_bytes(), BACKLOG) {
                Ok(listener) => return Ok((listener, number)),
                Err(Errno::EADDRINUSE) => {}
                Err(error) => {
                    last = error;
                    break;
                }
            }
        }
        Err(last)
    }

    fn admit(self: &Arc<Self>, stream: Stream) {
        let allowed = stream
            .peer()
            .is_ok_and(|peer| peer.uid == 0 || peer.uid == proc::effective_uid());
        if !allowed {
            refuse(&stream, "only this program's user and root may ask it");
            self.control_pause();
            return;
        }
        let Some(slot) = self.control.claim() else {
            let sentence = format!("{MOST} others are asking this program; try again");
            refuse(&stream, &sentence);
            return;
        };
        let conversation = Arc::new(Conversation::new(Arc::clone(self), stream, slot));
        let thread = vswap_platform::thread::spawn_with(
            "vswap-client",
            None,
            conversation::converse,
            conversation,
        );
        if let Ok(thread) = thread {
            self.control.keep(slot, thread);
        }
    }

    fn control_pause(&self) {
        if !self.is_stopping() {
            Event::new().wait(PAUSE_NS);
        }
    }
}

/// The thread's body: until the engine stops.
pub(crate) fn control_main(engine: Arc<Engine>) {
    let Some(fd) = engine.control.listener() else {
        return;
    };
    let listener = Listener::from_fd(fd);
    while !engine.is_stopping() {
        match listener.accept() {
            Ok(Some(stream)) => engine.admit(stream),
            Ok(None) => {}
            // Out of descriptors, most likely; whoever waits is asked in again.
            Err(_) => engine.control_pause(),
        }
    }
    engine.control.closed();
    drop(listener);
    engine.control.join_all();
}

fn refuse(stream: &Stream, sentence: &str) {
    let _ = stream.send(answer::refused(sentence).as_bytes(), REFUSAL_MS);
}
