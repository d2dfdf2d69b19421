//! What the program may do with a place, as the kernel has it.

use super::Prot;
use crate::errno::Errno;
use crate::fd;

/// As much of a line of `/proc/thread-self/maps` (not `self`: that is empty once the first thread has ended) as says where and how.
const HEAD: usize = 48;

/// The protection of the mapping at `addr`. Reads line by line into a small
/// buffer, because it may run in a signal handler: slow where there are many
/// mappings, and for rare cases.
///
/// # Errors
/// ENOMEM where nothing is mapped, EACCES where what is mapped is shared; else
/// the kernel's.
pub fn protection(addr: usize) -> Result<Prot, Errno> {
    let file = fd::open(
        c"/proc/thread-self/maps",
        libc::O_RDONLY | libc::O_CLOEXEC,
        0,
    )?;
    let found = search(addr, &mut |buffer| fd::read(file, buffer));
    fd::close(file);
    found
}

fn search(
    addr: usize,
    read: &mut dyn FnMut(&mut [u8]) -> Result<usize, Errno>,
) -> Result<Prot, Errno> {
    let (mut buffer, mut head, mut length) = ([0_u8; 512], [0_u8; HEAD], 0);
    loop {
        let got = match read(&mut buffer) {
            Ok(0) => return Err(Errno::ENOMEM),
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        for &byte in buffer.iter().take(got) {
            if byte != b'\n' {
                if let Some(place) = head.get_mut(length) {
                    *place = byte;
                    length += 1;
                }
                continue;
            }
            if let Some(found) = head.get(..length).and_then(|line| parse(line, addr)) {
                return found;
            }
            length = 0;
        }
    }
}

/// What a line says, if it is about `addr`: `7f00-7f10 rw-p ...`.
fn parse(line: &[u8], addr: usize) -> Option<Result<Prot, Errno>> {
    let text = core::str::from_utf8(line).ok()?;
    let (start, rest) = text.split_once('-')?;
    let (end, rest) = rest.split_once(' ')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    if !(start..end).contains(&addr) {
        return None;
    }
    let bits = [
        (b'r', libc::PROT_READ),
        (b'w', libc::PROT_WRITE),
        (b'x', libc::PROT_EXEC),
    ];
    let letters = rest.as_bytes().get(..4)?;
    let set = letters.iter().zip(bits);
    let prot = set.fold(0, |prot, (letter, (wanted, bit))| {
        prot | if *letter == wanted { bit } else { 0 }
    });
    Some(match letters.last() {
        Some(b'p') => Ok(Prot(prot)),
        _ => Err(Errno::EACCES),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{AnonMap, protect};
    use vswap_units::PAGE_SIZE;

    #[test]
    fn the_kernel_is_believed_about_every_page() {
        let map = AnonMap::new(4 * PAGE_SIZE, PAGE_SIZE).unwrap();
        let at = |page: usize| map.addr() + page * PAGE_SIZE;
        for (page, bits) in [(1, libc::PROT_READ), (2, 0), (3, 5)] {
            protect(at(page), PAGE_SIZE, Prot(bits)).unwrap();
        }
        let found: Vec<_> = (0..4).map(|page| protection(at(page) + 77)).collect();
        assert_eq!(
            found,
            [Prot::READ_WRITE, Prot::READ, Prot::NONE, Prot(5)].map(Ok)
        );
        assert_eq!(protection(PAGE_SIZE), Err(Errno::ENOMEM));
    }

    #[test]
    fn a_line_is_read_across_pieces_and_a_long_path_is_passed_over() {
        let text = format!(
            "1000-2000 r--p 00000000 00:00 0 /{}\n2000-3000 rw-s 0\n3000-4000 r-xp 0\n",
            "a b-c/".repeat(300)
        );
        let look = |addr| {
            let mut rest = text.as_bytes();
            search(addr, &mut |buffer| {
                let count = rest.len().min(buffer.len()).min(7);
                buffer[..count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
                Ok(count)
            })
        };
        assert_eq!(look(0x1fff), Ok(Prot::READ));
        assert_eq!(look(0x2000), Err(Errno::EACCES));
        assert_eq!(look(0x3000), Ok(Prot(5)));
        assert_eq!(look(0x4000), Err(Errno::ENOMEM));
    }
}
