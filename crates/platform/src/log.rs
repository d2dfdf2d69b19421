//! One line on stderr, from anywhere: no allocation, no lock, the line in one write(2).

use core::ffi::CStr;
use core::sync::atomic::Ordering::Relaxed;

use crate::errno::Errno;
use crate::{fd, sys};

/// Lines longer than this are cut, so that a line stays one write.
const LINE_MAX: usize = 512;

const STDERR: i32 = 2;

/// The descriptor of the program's first thread, whoever asks.
const PROGRAMS_STDERR: &CStr = c"/proc/self/fd/2";

/// Writes `vswap: ` + the parts + newline to stderr in one system call.
/// Signal-safe.
pub fn say(parts: &[&str]) {
    let mut line = [0_u8; LINE_MAX];
    let mut used = 0;
    for part in core::iter::once(&"vswap: ").chain(parts) {
        used = append(&mut line, used, part.as_bytes());
    }
    if let Some(end) = line.get_mut(used) {
        *end = b'\n';
        used += 1;
    }
    if let Some(text) = line.get(..used) {
        let inside = crate::tls::thread().engine.load(Relaxed) != 0;
        let _ = if inside {
            write_to_program(text)
        } else {
            sys::write_all(STDERR, text)
        };
    }
}

/// Writes to the program's stderr from a thread that may have left its descriptor
/// table, as the engine's threads have: in theirs 2 is nothing, or a file of ours, and
/// a copy kept from the start would neither follow a redirection nor let whoever
/// reads the other end see that the program has closed it. So the program's is
/// looked for each time. A socket cannot be opened by name, so it is copied; that
/// may be forbidden (containers filter it), and then files, pipes and terminals are
/// still there by name. Nowhere to be found, the line is lost.
fn write_to_program(text: &[u8]) -> Result<(), Errno> {
    if fd::is_at(STDERR, PROGRAMS_STDERR) {
        return sys::write_all(STDERR, text);
    }
    let copy = fd::fd_of_program(STDERR).or_else(|_| {
        let flags = libc::O_WRONLY | libc::O_NOCTTY | libc::O_APPEND;
        fd::open(PROGRAMS_STDERR, flags, 0)
    })?;
    let written = sys::write_all(copy, text);
    fd::close(copy);
    written
}

/// Always leaves room for the newline.
fn append(line: &mut [u8; LINE_MAX], used: usize, part: &[u8]) -> usize {
    let room = (LINE_MAX - 1).saturating_sub(used).min(part.len());
    if let (Some(to), Some(from)) = (line.get_mut(used..used + room), part.get(..room)) {
        to.copy_from_slice(from);
    }
    used + room
}

/// `value` in decimal, written into `buffer`.
#[must_use]
pub fn num(value: u64, buffer: &mut [u8; 20]) -> &str {
    digits(value, 10, buffer)
}

/// `value` in hexadecimal, without a prefix, written into `buffer`.
#[must_use]
pub fn hex(value: u64, buffer: &mut [u8; 20]) -> &str {
    digits(value, 16, buffer)
}

fn digits(mut value: u64, base: u64, buffer: &mut [u8; 20]) -> &str {
    let mut start = buffer.len();
    for slot in buffer.iter_mut().rev() {
        let digit = (value % base) as u8;
        *slot = if digit < 10 {
            b'0' + digit
        } else {
            b'a' + digit - 10
        };
        start -= 1;
        value /= base;
        if value == 0 {
            break;
        }
    }
    buffer
        .get(start..)
        .and_then(|text| core::str::from_utf8(text).ok())
        .unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full() {
        let mut buffer = [0; 20];
        assert_eq!(num(0, &mut buffer), "0");
        assert_eq!(num(u64::MAX, &mut buffer), "18446744073709551615");
        assert_eq!(hex(0xdead_0000, &mut buffer), "dead0000");
    }

    #[test]
    fn a_long_line_is_cut_but_keeps_its_newline() {
        let mut line = [0_u8; LINE_MAX];
        let used = append(&mut line, 7, &[b'x'; 2 * LINE_MAX]);
        assert_eq!(used, LINE_MAX - 1);
        say(&["test line, ", "please ignore"]);
    }
}
