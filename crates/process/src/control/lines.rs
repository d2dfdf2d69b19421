//! Lines from a client, with limits in length and time.

use vswap_platform::clock;
use vswap_platform::unix::Stream;

use super::request::LINE_MOST;

/// Bytes taken from the socket at a time.
const PIECE: usize = 2048;
/// Between two looks at whether the engine ends.
const SLICE_MS: i32 = 200;

/// What came.
#[derive(PartialEq, Eq, Debug)]
pub enum Line {
    /// A line, without its end.
    Whole(Vec<u8>),
    /// More bytes than a request has, and no end yet.
    TooLong,
    /// Nothing in time, or the client or the engine has gone.
    End,
}

/// What has come from a client and is not read yet.
#[derive(Default)]
pub struct Lines {
    held: Vec<u8>,
    hung_up: bool,
}

impl Lines {
    /// Waits up to `wait_ms` for a line, as long as `go_on` says so.
    pub fn next(&mut self, stream: &Stream, wait_ms: u64, go_on: &dyn Fn() -> bool) -> Line {
        let until = clock::boot_ns() + wait_ms * 1_000_000;
        loop {
            if let Some(line) = self.take() {
                return Line::Whole(line);
            }
            if self.held.len() > LINE_MOST {
                return Line::TooLong;
            }
            if self.hung_up || clock::boot_ns() >= until || !go_on() {
                return Line::End;
            }
            self.read(stream, SLICE_MS);
        }
    }

    /// Without waiting: has the client hung up, or sent this line?
    pub fn hung_up_or_sent(&mut self, stream: &Stream, wanted: &[u8]) -> bool {
        if self.held.len() <= LINE_MOST {
            self.read(stream, 0);
        }
        let sent = self.held.strip_prefix(wanted);
        if sent.is_some_and(|rest| rest.first() == Some(&b'\n')) {
            self.held.drain(..=wanted.len());
            return true;
        }
        self.hung_up
    }

    fn read(&mut self, stream: &Stream, wait_ms: i32) {
        let mut piece = [0u8; PIECE];
        match stream.receive(&mut piece, wait_ms) {
            Ok(None) => {}
            Ok(Some(0)) | Err(_) => self.hung_up = true,
            Ok(Some(got)) => self
                .held
                .extend_from_slice(piece.get(..got).unwrap_or_default()),
        }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let end = self.held.iter().position(|byte| *byte == b'\n')?;
        let mut line: Vec<u8> = self.held.drain(..=end).collect();
        line.pop();
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswap_platform::unix::Listener;

    fn pair(what: &str) -> (Stream, Stream) {
        let name = format!("vswap-lines/{}/{what}", std::process::id()).into_bytes();
        let listener = Listener::bind(&name, 1).unwrap();
        let client = Stream::connect(&name).unwrap();
        (client, listener.accept().unwrap().unwrap())
    }

    fn whole(text: &[u8]) -> Line {
        Line::Whole(text.to_vec())
    }

    #[test]
    fn lines_come_whole_however_they_were_cut() {
        let (client, server) = pair("cut");
        let mut lines = Lines::default();
        client.send(b"one\ntw", 100).unwrap();
        assert_eq!(lines.next(&server, 5000, &|| true), whole(b"one"));
        client.send(b"o\n\n", 100).unwrap();
        assert_eq!(lines.next(&server, 5000, &|| true), whole(b"two"));
        assert_eq!(lines.next(&server, 5000, &|| true), whole(b""));
        client.send(b"unfinished", 100).unwrap();
        drop(client);
        assert_eq!(lines.next(&server, 5000, &|| true), Line::End);
    }

    #[test]
    fn a_line_without_an_end_is_not_kept() {
        let (client, server) = pair("long");
        let mut lines = Lines::default();
        client.send(&vec![b'x'; 8 * LINE_MOST], 100).unwrap();
        assert_eq!(lines.next(&server, 5000, &|| true), Line::TooLong);
        assert!(lines.held.len() <= LINE_MOST + PIECE);
        assert!(!lines.hung_up_or_sent(&server, b"cancel"));
        assert!(lines.held.len() <= LINE_MOST + PIECE);
    }

    #[test]
    fn silence_and_the_engines_end_are_not_waited_out() {
        let (_client, server) = pair("silent");
        let mut lines = Lines::default();
        assert_eq!(lines.next(&server, 10, &|| true), Line::End);
        assert_eq!(
            lines.next(&server, u64::MAX / 2_000_000, &|| false),
            Line::End
        );
    }

    #[test]
    fn a_cancel_and_a_hang_up_are_noticed_without_waiting() {
        let (client, server) = pair("cancel");
        let mut lines = Lines::default();
        assert!(!lines.hung_up_or_sent(&server, b"cancel"));
        client.send(b"can", 100).unwrap();
        assert!(!lines.hung_up_or_sent(&server, b"cancel"));
        client.send(b"cel\nping\n", 100).unwrap();
        assert!(lines.hung_up_or_sent(&server, b"cancel"));
        assert!(!lines.hung_up_or_sent(&server, b"cancel"));
        assert_eq!(lines.next(&server, 5000, &|| true), whole(b"ping"));
        drop(client);
        assert!(lines.hung_up_or_sent(&server, b"cancel"));
    }
}
