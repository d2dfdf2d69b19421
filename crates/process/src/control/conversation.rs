//! One client, from its first line until it leaves.

use std::sync::Arc;

use vswap_platform::clock;
use vswap_platform::unix::Stream;

use super::lines::{Line, Lines};
use super::request::{self, Request};
use super::{answer, commands};
use crate::engine::Engine;

/// A client that says nothing for so long is let go.
const SILENCE_MS: u64 = 10_000;
/// A client that does not read its answer for so long, too.
const ANSWER_MS: u32 = 5_000;
/// Between two lines of progress.
const PROGRESS_NS: u64 = 100_000_000;

/// A client, its thread's own.
pub struct Conversation {
    engine: Arc<Engine>,
    stream: Stream,
    slot: usize,
}

impl Conversation {
    /// With a client that may ask, in a slot claimed for it.
    pub fn new(engine: Arc<Engine>, stream: Stream, slot: usize) -> Self {
        Self {
            engine,
            stream,
            slot,
        }
    }

    /// Answers one line; false when the client is to be let go.
    fn answer(&self, line: &[u8], lines: &mut Lines) -> bool {
        let (text, understood) = match Request::parse(line) {
            Ok(request) => {
                let mut caller = Caller::new(self, lines);
                let outcome = commands::obey(&self.engine, request, &mut caller);
                let text = outcome.map_or_else(|sentence| answer::refused(&sentence), answer::done);
                (text, true)
            }
            Err(sentence) => (answer::refused(&sentence), false),
        };
        self.stream.send(text.as_bytes(), ANSWER_MS).is_ok() && understood
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.engine.control.release(self.slot);
    }
}

/// The body of the client's thread.
pub fn converse(with: Arc<Conversation>) {
    let mut lines = Lines::default();
    loop {
        let go_on = || !with.engine.is_stopping();
        match lines.next(&with.stream, SILENCE_MS, &go_on) {
            Line::Whole(line) => {
                if !with.answer(&line, &mut lines) {
                    return;
                }
            }
            Line::TooLong => {
                let text = answer::refused(&request::too_long());
                let _ = with.stream.send(text.as_bytes(), ANSWER_MS);
                return;
            }
            Line::End => return,
        }
    }
}

/// Who waits for something that takes long: is told how far it is, and may end it.
pub struct Caller<'a> {
    with: &'a Conversation,
    lines: &'a mut Lines,
    told_ns: u64,
    left: bool,
}

impl<'a> Caller<'a> {
    fn new(with: &'a Conversation, lines: &'a mut Lines) -> Self {
        Self {
            with,
            lines,
            told_ns: 0,
            left: false,
        }
    }

    /// Tells how far it is, now and then; false when it shall end: the client
    /// has hung up or said `cancel`, or the engine ends. A client that does not
    /// read misses lines, and is not waited for.
    pub fn go_on(&mut self, done_bytes: u64, total_bytes: u64) -> bool {
        self.left = self.left
            || self.with.engine.is_stopping()
            || self.lines.hung_up_or_sent(&self.with.stream, b"cancel");
        let now = clock::boot_ns();
        if !self.left && now - self.told_ns >= PROGRESS_NS {
            self.told_ns = now;
            let line = answer::progress(done_bytes, total_bytes);
            // So short a line goes whole or not at all.
            self.left = self.with.stream.send_now(line.as_bytes()).is_err();
        }
        !self.left
    }
}
