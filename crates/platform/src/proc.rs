//! What the kernel says this process holds, read from /proc without malloc.
//!
//! Memory is asked for by way of the calling thread: /proc/self means the first thread, and once that has ended (while
//! others go on) it holds nothing.

use core::ffi::CStr;

use vswap_units::PAGE_SIZE;

use crate::errno::Errno;
use crate::fd::{self, CPath, Digits};

/// Resident memory by kind, in bytes. What a budget counts is anonymous + shmem.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rss {
    /// Private memory of no file.
    pub anon_bytes: u64,
    /// Pages of mapped files (the page cache's, not ours to save).
    pub file_bytes: u64,
    /// Shared memory: memfds, tmpfs, System V segments.
    pub shmem_bytes: u64,
}

impl Rss {
    /// What `--ram` bounds.
    pub fn counted_bytes(&self) -> u64 {
        self.anon_bytes + self.shmem_bytes
    }
}

/// The two resident figures of /proc/thread-self/statm, in bytes: 5 µs, for every tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statm {
    /// Everything resident.
    pub resident_bytes: u64,
    /// Of that, file and shared memory.
    pub shared_bytes: u64,
}

impl Statm {
    /// Private memory of no file.
    pub fn anon_bytes(&self) -> u64 {
        self.resident_bytes.saturating_sub(self.shared_bytes)
    }
}

/// Resident memory by kind, from /proc/thread-self/status (about 20 µs).
pub fn rss() -> Result<Rss, Errno> {
    let mut rss = Rss::default();
    let mut found = 0;
    each_line(c"/proc/thread-self/status", &mut |line| {
        let kinds: [(&[u8], &mut u64); 3] = [
            (b"RssAnon:", &mut rss.anon_bytes),
            (b"RssFile:", &mut rss.file_bytes),
            (b"RssShmem:", &mut rss.shmem_bytes),
        ];
        for (key, value) in kinds {
            if let Some(rest) = line.strip_prefix(key) {
                *value = first_number(rest).unwrap_or(0) * 1024;
                found += 1;
            }
        }
        found < 3
    })?;
    // A kernel thread or a dying process has none of the lines.
    if found == 3 {
        Ok(rss)
    } else {
        Err(Errno::ESRCH)
    }
}

/// The figures of /proc/thread-self/statm.
pub fn statm() -> Result<Statm, Errno> {
    let mut text = [0u8; 128];
    let len = read_small(c"/proc/thread-self/statm", &mut text)?;
    let mut fields = text
        .get(..len)
        .unwrap_or_default()
        .split(|b| b.is_ascii_whitespace());
    let mut pages = |skip| fields.nth(skip).and_then(first_number).ok_or(Errno::EIO);
    Ok(Statm {
        resident_bytes: pages(1)? * PAGE_SIZE as u64,
        shared_bytes: pages(0)? * PAGE_SIZE as u64,
    })
}

/// Threads of this process.
pub fn thread_count() -> Result<u64, Errno> {
    let mut count = None;
    each_line(c"/proc/self/status", &mut |line| {
        count = line.strip_prefix(b"Threads:").and_then(first_number);
        count.is_none()
    })?;
    count.ok_or(Errno::ESRCH)
}

/// A value in kB out of a file of `Key:   value kB` lines, in bytes.
pub fn field_bytes(path: &CStr, key: &[u8]) -> Result<Option<u64>, Errno> {
    let mut value = None;
    each_line(path, &mut |line| {
        value = line.strip_prefix(key).and_then(first_number);
        value.is_none()
    })?;
    Ok(value.map(|kib| kib * 1024))
}

/// The number of the namespace our process numbers are from: a number means
/// another process in another one. `None` where that cannot be seen.
pub fn pid_namespace() -> Option<u64> {
    let path = c"/proc/self/ns/pid".as_ptr() as usize;
    let mut link = [0u8; 32];
    let (buf, room) = (link.as_mut_ptr() as usize, link.len());
    // SAFETY: a string with its zero, and a buffer of the length given.
    let got = unsafe { crate::sys::readlinkat(libc::AT_FDCWD, path, buf, room) };
    let len = Errno::check(got).ok()?;
    first_number(link.get(..len)?.strip_prefix(b"pid:[")?)
}

/// The user whose rights this process has now.
#[must_use]
pub fn effective_uid() -> u32 {
    crate::sys::geteuid() as u32
}

/// When this process started, in clock ticks since boot: with its number it
/// names one process, also when the number is used again.
pub fn start_ticks() -> Result<u64, Errno> {
    /// The field's place behind the name.
    const STARTED: usize = 19;
    stat_field(c"/proc/self/stat", STARTED)
}

/// The CPU on which a thread of this process runs, or ran last. `None` when it
/// has ended, or that cannot be seen. Some 8 µs.
#[must_use]
pub fn cpu_of_thread(tid: u32) -> Option<usize> {
    /// The field's place behind the name.
    const PROCESSOR: usize = 36;
    let tid = Digits::new(tid.into());
    let path = CPath::new(&[b"/proc/self/task/", tid.as_bytes(), b"/stat"]).ok()?;
    let cpu = stat_field(path.as_c_str(), PROCESSOR).ok()?;
    usize::try_from(cpu).ok()
}

/// A number of a `stat` file, by its place behind the name, which may hold blanks and brackets.
fn stat_field(path: &CStr, behind_name: usize) -> Result<u64, Errno> {
    let mut text = [0u8; 1024];
    let len = read_small(path, &mut text)?;
    let text = text.get(..len).unwrap_or_default();
    let name_end = text.iter().rposition(|b| *b == b')').ok_or(Errno::EIO)?;
    let fields = text.get(name_end + 1..).unwrap_or_default();
    fields
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty())
        .nth(behind_name)
        .and_then(first_number)
        .ok_or(Errno::EIO)
}

/// Reads a short file whole; what does not fit is cut off.
pub fn read_small(path: &CStr, out: &mut [u8]) -> Result<usize, Errno> {
    let fd = fd::open(path, libc::O_RDONLY, 0)?;
    let mut len = 0;
    let result = loop {
        let Some(rest) = out.get_mut(len..).filter(|r| !r.is_empty()) else {
            break Ok(len);
        };
        match fd::read(fd, rest) {
            Ok(0) => break Ok(len),
            Ok(n) => len += n,
            Err(Errno::EINTR) => {}
            Err(e) => break Err(e),
        }
    };
    fd::close(fd);
    result
}

/// Calls `each` with every line (without its end; lines over 1 KiB are cut)
/// until it answers false.
fn each_line(path: &CStr, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Errno> {
    let fd = fd::open(path, libc::O_RDONLY, 0)?;
    let result = lines_of(fd, each);
    fd::close(fd);
    result
}

fn lines_of(fd: i32, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Errno> {
    let mut buffer = [0u8; 1024];
    let mut held = 0;
    // True while the rest of a line that was too long is being passed over.
    let mut cut = false;
    loop {
        let space = buffer.get_mut(held..).unwrap_or_default();
        let got = match fd::read(fd, space) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        if got == 0 {
            return Ok(());
        }
        held += got;
        let mut start = 0;
        while let Some(rest) = buffer.get(start..held) {
            let Some(end) = rest.iter().position(|&b| b == b'\n') else {
                break;
            };
            if !core::mem::take(&mut cut) && !each(rest.get(..end).unwrap_or_default()) {
                return Ok(());
            }
            start += end + 1;
        }
        if start == 0 && held == buffer.len() {
            if !core::mem::replace(&mut cut, true) && !each(&buffer) {
                return Ok(());
            }
            start = held;
        }
        buffer.copy_within(start..held, 0);
        held -= start;
    }
}

fn first_number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start();
    let digits = text.iter().take_while(|b| b.is_ascii_digit());
    let mut value = None;
    for digit in digits {
        let tens = value.unwrap_or(0u64).checked_mul(10)?;
        value = Some(tens.checked_add(u64::from(digit - b'0'))?);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::AnonMap;

    #[test]
    fn touched_memory_shows_up_as_anonymous() {
        let before = rss().unwrap();
        let map = AnonMap::new(64 << 20, PAGE_SIZE).unwrap();
        map.slice_mut(0, 64 << 20).unwrap().fill(1);
        let after = rss().unwrap();
        let grown = after.anon_bytes - before.anon_bytes;
        assert!((60 << 20..72 << 20).contains(&grown), "{grown}");
        let quick = statm().unwrap();
        assert!(quick.anon_bytes().abs_diff(after.anon_bytes) < 8 << 20);
        assert!(after.file_bytes > 0);
        assert_eq!(after.counted_bytes(), after.anon_bytes + after.shmem_bytes);
    }

    #[test]
    fn a_process_has_a_start_that_does_not_change() {
        let start = start_ticks().unwrap();
        assert!(start > 0);
        assert_eq!(start_ticks(), Ok(start));
    }

    #[test]
    fn a_thread_is_seen_on_the_cpu_it_is_pinned_to_and_one_that_is_gone_nowhere() {
        let allowed = crate::thread::cpus_allowed().unwrap();
        for cpu in allowed.iter() {
            let seen = std::thread::spawn(move || {
                crate::thread::pin_to(cpu).unwrap();
                let tid = crate::thread::current_tid() as u32;
                (tid, cpu_of_thread(tid))
            });
            let (tid, found) = seen.join().unwrap();
            assert_eq!(found, Some(cpu));
            while std::path::Path::new(&format!("/proc/self/task/{tid}")).exists() {
                std::thread::yield_now();
            }
            assert_eq!(cpu_of_thread(tid), None);
        }
    }

    #[test]
    fn the_pid_namespace_has_a_number() {
        assert!(pid_namespace().is_some_and(|number| number > 0));
    }

    #[test]
    fn threads_are_counted() {
        let before = thread_count().unwrap();
        assert!(before >= 1);
    }

    #[test]
    fn long_lines_and_long_files_are_read_to_the_end() {
        let shared =
            crate::memfd::SharedMem::create(c"vswap-lines", 8192, crate::memfd::Sharing::Writable)
                .unwrap();
        let mut text = Vec::new();
        text.extend_from_slice(b"first: 1\n");
        text.extend(std::iter::repeat_n(b'x', 3000));
        text.extend_from_slice(b"\nwanted:\t 77 kB\nlast: 3\n");
        shared.write_bytes(0, &text).unwrap();
        let path = fd::CPath::new(&[
            b"/proc/self/fd/",
            fd::Digits::new(shared.raw_fd() as u64).as_bytes(),
        ])
        .unwrap();
        assert_eq!(
            field_bytes(path.as_c_str(), b"wanted:"),
            Ok(Some(77 * 1024))
        );
        assert_eq!(field_bytes(path.as_c_str(), b"absent:"), Ok(None));
        let mut lens = Vec::new();
        each_line(path.as_c_str(), &mut |l| {
            lens.push(l.len());
            lens.len() < 4
        })
        .unwrap();
        assert_eq!(lens, [8, 1024, 14, 7]);
    }
}
