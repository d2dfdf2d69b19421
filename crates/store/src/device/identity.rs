//! Which process is meant by a number, so that a number used again, or another
//! program under the same number, is not taken for it.
//!
//! Places of a process that is gone are given away, so every doubt means alive:
//! another pid namespace, a /proc that shows others, a leader that has exited
//! while its threads go on.

use core::ffi::CStr;

use vswap_platform::errno::Errno;
use vswap_platform::proc;

/// A process as /proc knows it: when it started, and where its stack begins.
/// The stack tells a program from the one it was before exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) started: u64,
    /// 0 where it may not be seen.
    pub(crate) stack: u64,
    /// The pid namespace its number is from.
    pub(crate) namespace: u64,
}

/// Fields of /proc/PID/stat behind the name's closing bracket, from 0.
const STATE: usize = 0;
const THREADS: usize = 17;
const STARTED: usize = 19;
const STACK: usize = 25;

impl Identity {
    /// Nobody that could be told from anybody.
    pub(crate) const UNKNOWN: Self = Self {
        started: 0,
        stack: 0,
        namespace: 0,
    };

    /// Of this process; unknown where /proc is not ours.
    pub(crate) fn own() -> Self {
        let Some(namespace) = proc::pid_namespace() else {
            return Self::UNKNOWN;
        };
        let mut text = [0_u8; 1024];
        let length = proc::read_small(c"/proc/self/stat", &mut text).unwrap_or(0);
        let stat = text.get(..length).unwrap_or_default();
        let pid = stat.split(|&b| b == b' ').next().and_then(number);
        match parse(stat) {
            Some((started, stack)) if pid == Some(u64::from(std::process::id())) => Self {
                started,
                stack,
                namespace,
            },
            _ => Self::UNKNOWN,
        }
    }

    /// Is the process that once was `self` under this number gone for certain?
    /// `here` is the asker's own identity.
    pub(crate) fn is_gone(self, pid: u32, here: Self) -> bool {
        if self.started == 0 || here.started == 0 || self.namespace != here.namespace {
            return false;
        }
        match look(pid) {
            Look::Gone => true,
            Look::Unseen => false,
            Look::Alive(started, stack) => {
                let other_program = self.stack != stack && self.stack != 0 && stack != 0;
                started != self.started || other_program
            }
        }
    }
}

/// What /proc shows under a number.
enum Look {
    Gone,
    Unseen,
    Alive(u64, u64),
}

fn look(pid: u32) -> Look {
    let (mut path, mut text) = ([0_u8; 32], [0_u8; 1024]);
    let Some(path) = stat_path(pid, &mut path) else {
        return Look::Unseen;
    };
    match proc::read_small(path, &mut text) {
        Ok(length) => match parse(text.get(..length).unwrap_or_default()) {
            Some((started, stack)) => Look::Alive(started, stack),
            None => Look::Gone,
        },
        Err(Errno::ENOENT | Errno::ESRCH) => Look::Gone,
        Err(_) => Look::Unseen,
    }
}

fn stat_path(pid: u32, path: &mut [u8; 32]) -> Option<&CStr> {
    let mut digits = [0_u8; 20];
    let number = vswap_platform::log::num(u64::from(pid), &mut digits);
    let mut at = 0;
    for part in [b"/proc/".as_slice(), number.as_bytes(), b"/stat\0"] {
        path.get_mut(at..at + part.len())?.copy_from_slice(part);
        at += part.len();
    }
    CStr::from_bytes_until_nul(path).ok()
}

/// Start and stack; `None` for one that is dead and only not yet asked about.
fn parse(stat: &[u8]) -> Option<(u64, u64)> {
    // The name may hold anything, brackets and spaces too: after the last one.
    let name_end = stat.iter().rposition(|&b| b == b')')?;
    let mut fields = stat.get(name_end + 2..)?.split(|&b| b == b' ');
    let state = fields.nth(STATE)?;
    let threads = fields.nth(THREADS - STATE - 1).and_then(number)?;
    if matches!(state, b"Z" | b"X") && threads <= 1 {
        return None;
    }
    let started = fields.nth(STARTED - THREADS - 1).and_then(number)?;
    let stack = fields
        .nth(STACK - STARTED - 1)
        .and_then(number)
        .unwrap_or(0);
    Some((started, stack))
}

fn number(digits: &[u8]) -> Option<u64> {
    core::str::from_utf8(digits).ok()?.trim_ascii().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(state: &str, threads: u32) -> String {
        format!(
            "7 (a) b) {state} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 {threads} 18 4242 20 21 22 23 24 77 26\n"
        )
    }

    #[test]
    fn this_process_is_not_gone() {
        let own = Identity::own();
        assert!(own.started > 0 && own.namespace > 0);
        assert!(!own.is_gone(std::process::id(), own));
    }

    #[test]
    fn nobody_has_an_impossible_number() {
        let own = Identity::own();
        assert!(own.is_gone(u32::MAX, own));
    }

    #[test]
    fn a_name_with_brackets_is_no_trouble() {
        assert_eq!(parse(stat("R", 3).as_bytes()), Some((4242, 77)));
    }

    #[test]
    fn a_zombie_is_gone_unless_its_threads_go_on() {
        assert_eq!(parse(stat("Z", 1).as_bytes()), None);
        assert_eq!(parse(stat("Z", 2).as_bytes()), Some((4242, 77)));
    }

    #[test]
    fn another_program_under_the_same_number_is_another_process() {
        let own = Identity::own();
        let (me, before) = (
            std::process::id(),
            Identity {
                stack: own.stack ^ 16,
                ..own
            },
        );
        assert!(before.is_gone(me, own));
        assert!(
            Identity {
                started: own.started - 1,
                ..own
            }
            .is_gone(me, own)
        );
        assert!(!Identity { stack: 0, ..own }.is_gone(me, own));
    }

    #[test]
    fn what_cannot_be_known_is_taken_to_be_alive() {
        let own = Identity::own();
        assert!(!Identity::UNKNOWN.is_gone(u32::MAX, own));
        assert!(!own.is_gone(u32::MAX, Identity::UNKNOWN));
        assert!(
            !Identity {
                namespace: 1,
                ..own
            }
            .is_gone(u32::MAX, own)
        );
    }
}
