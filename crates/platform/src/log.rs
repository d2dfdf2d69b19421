//! One line on stderr, from anywhere: no allocation, no lock, one write(2).

use crate::sys;

/// Lines longer than this are cut, so that a line stays one write.
const LINE_MAX: usize = 512;

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
        // The engine's threads have left the program's descriptor table, and 2
        // may be anything in theirs; the program's stderr is still there by name.
        let away = crate::tls::thread()
            .engine
            .load(core::sync::atomic::Ordering::Relaxed)
            != 0;
        if !(away && write_by_name(text)) {
            let _ = sys::write_all(2, text);
        }
    }
}

fn write_by_name(text: &[u8]) -> bool {
    let flags = libc::O_WRONLY | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_APPEND;
    let Ok(fd) = sys::open(c"/proc/self/fd/2", flags, 0) else {
        return false;
    };
    let written = sys::write_all(fd, text).is_ok();
    // SAFETY: opened above.
    let _ = unsafe { sys::close(fd) };
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
