//! Which pages of a range hold something, exactly.
//!
//! "Holds something" includes pages that the kernel's own swap has taken: they
//! are not missing, and a fault on them never comes to us. PAGEMAP_SCAN (Linux
//! 6.7) tells in 0.04-4 ms per GB, zero pages included. Older kernels: the
//! entries of pagemap one by one (15 ms per GB); and where there is
//! no /proc, mincore, which knows nothing of swapped pages.

use vswap_units::PAGE_SIZE;

use crate::errno::Errno;
use crate::fd;
use crate::map;
use crate::sys;

const SCAN: usize = (3 << 30) | (size_of::<ScanArgs>() << 16) | ((b'f' as usize) << 8) | 16;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct ScanArgs {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    inverted: u64,
    mask: u64,
    any_of: u64,
    returned: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// Merges runs that touch, so that a run is told once whatever buffer it crossed.
struct Joined<'a> {
    run: Option<(usize, usize)>,
    each: &'a mut dyn FnMut(usize, usize),
}

impl Joined<'_> {
    fn add(&mut self, start: usize, end: usize) {
        match &mut self.run {
            Some((_, last)) if *last == start => *last = end,
            _ => {
                self.flush();
                self.run = Some((start, end));
            }
        }
    }

    fn flush(&mut self) {
        if let Some((start, end)) = self.run.take() {
            (self.each)(start, end);
        }
    }
}

/// Opens it by way of the calling thread: the process's own is empty once its first thread has ended.
fn open() -> Result<i32, Errno> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    fd::open(c"/proc/thread-self/pagemap", flags, 0)
}

/// Calls `each(start, end)` for every run of pages that hold something, in
/// order. The answer is exact for pages nobody changes meanwhile.
pub fn scan_present(
    addr: usize,
    len: usize,
    each: &mut dyn FnMut(usize, usize),
) -> Result<(), Errno> {
    let mut joined = Joined { run: None, each };
    let result = match open() {
        Ok(fd) => {
            let result = match scan(fd, addr, len, &mut joined) {
                // Told before the first run, by kernels that do not know it.
                Err(Errno::ENOTTY | Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => {
                    read_entries(fd, addr, len, &mut joined)
                }
                other => other,
            };
            fd::close(fd);
            result
        }
        Err(_) => ask_mincore(addr, len, &mut joined),
    };
    joined.flush();
    result
}

/// For each page of the range, bit 0 of one byte of `out`: whether it holds
/// something. As quick as mincore while the kernel's swap is empty.
pub fn holding(addr: usize, len: usize, out: &mut [u8]) -> Result<(), Errno> {
    map::resident(addr, len, out)?;
    let mut known = out.iter().take(len.div_ceil(PAGE_SIZE));
    if known.all(|page| page & 1 != 0) || !kernel_swaps() {
        return Ok(());
    }
    scan_present(addr, len, &mut |start, end| {
        let run = out.iter_mut().skip((start - addr) / PAGE_SIZE);
        run.take((end - start) / PAGE_SIZE)
            .for_each(|page| *page |= 1);
    })
}

/// Whether anything at all is in the kernel's own swap.
fn kernel_swaps() -> bool {
    let mut info = core::mem::MaybeUninit::<libc::sysinfo>::zeroed();
    // SAFETY: the kernel fills the structure, in which zeros are valid too.
    let info = unsafe {
        sys::sysinfo(info.as_mut_ptr() as usize);
        info.assume_init()
    };
    info.freeswap != info.totalswap
}

/// Pages of the range that hold something.
pub fn present_pages(addr: usize, len: usize) -> Result<u64, Errno> {
    let mut pages = 0;
    scan_present(addr, len, &mut |start, end| {
        pages += ((end - start) / PAGE_SIZE) as u64;
    })?;
    Ok(pages)
}

/// Whether this kernel has PAGEMAP_SCAN.
pub fn has_scan() -> bool {
    let Ok(fd) = open() else {
        return false;
    };
    let mut joined = Joined {
        run: None,
        each: &mut |_, _| {},
    };
    // Any one page will do; this function's own stack has one.
    let here = (&raw const fd as usize) & !(PAGE_SIZE - 1);
    let result = scan(fd, here, PAGE_SIZE, &mut joined);
    fd::close(fd);
    result.is_ok()
}

// None of the three is inlined: a fault may come here, on a small stack, and needs the buffer of one.
#[inline(never)]
fn scan(fd: i32, addr: usize, len: usize, joined: &mut Joined<'_>) -> Result<(), Errno> {
    let mut regions = [Region::default(); 24];
    let end = (addr + len) as u64;
    let mut at = addr as u64;
    while at < end {
        let mut args = ScanArgs {
            size: size_of::<ScanArgs>() as u64,
            start: at,
            end,
            vec: regions.as_mut_ptr() as u64,
            vec_len: regions.len() as u64,
            any_of: PRESENT | SWAPPED,
            returned: PRESENT | SWAPPED,
            ..ScanArgs::default()
        };
        // SAFETY: the arguments carry their own size, and the kernel writes at
        // most `vec_len` regions to `vec`.
        let found = match unsafe { fd::ioctl(fd, SCAN, (&raw mut args) as usize) } {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        for region in regions.iter().take(found) {
            joined.add(region.start as usize, region.end as usize);
        }
        if args.walk_end <= at {
            return Err(Errno::EIO);
        }
        at = args.walk_end;
    }
    Ok(())
}

/// Bits 62 and 63 of an entry are "swapped" and "present", for any user.
#[inline(never)]
fn read_entries(fd: i32, addr: usize, len: usize, joined: &mut Joined<'_>) -> Result<(), Errno> {
    const HOLDS: u64 = 0b11 << 62;
    let mut bytes = [0u8; 1024];
    let end = addr + len;
    let mut at = addr;
    while at < end {
        let want = ((end - at) / PAGE_SIZE * 8).min(bytes.len());
        let offset = (at / PAGE_SIZE * 8) as u64;
        let buffer = bytes.get_mut(..want).ok_or(Errno::EIO)?;
        let got = match fd::pread(fd, buffer, offset) {
            Ok(n) if n >= 8 => n / 8,
            Ok(_) => return Err(Errno::EIO),
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(e),
        };
        for entry in buffer.chunks_exact(8).take(got) {
            let entry = entry.try_into().map_or(0, u64::from_ne_bytes);
            if entry & HOLDS != 0 {
                joined.add(at, at + PAGE_SIZE);
            }
            at += PAGE_SIZE;
        }
    }
    Ok(())
}

#[inline(never)]
fn ask_mincore(addr: usize, len: usize, joined: &mut Joined<'_>) -> Result<(), Errno> {
    let mut flags = [0u8; 512];
    let end = addr + len;
    let mut at = addr;
    while at < end {
        let pages = ((end - at) / PAGE_SIZE).min(flags.len());
        let part = flags.get_mut(..pages).ok_or(Errno::EIO)?;
        map::resident(at, pages * PAGE_SIZE, part)?;
        for flag in part {
            if *flag & 1 != 0 {
                joined.add(at, at + PAGE_SIZE);
            }
            at += PAGE_SIZE;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::AnonMap;

    type Scanner = fn(usize, usize, &mut Joined<'_>) -> Result<(), Errno>;

    fn by_entries(addr: usize, len: usize, joined: &mut Joined<'_>) -> Result<(), Errno> {
        let fd = open()?;
        let result = read_entries(fd, addr, len, joined);
        fd::close(fd);
        result
    }

    fn by_scan(addr: usize, len: usize, joined: &mut Joined<'_>) -> Result<(), Errno> {
        let fd = open()?;
        let result = scan(fd, addr, len, joined);
        fd::close(fd);
        result
    }

    #[test]
    fn every_way_finds_exactly_the_touched_pages() {
        const PAGES: usize = 3000;
        let map = AnonMap::new(PAGES * PAGE_SIZE, PAGE_SIZE).unwrap();
        map::no_huge_pages(map.addr(), map.len()).unwrap();
        let touched: Vec<bool> = (0..PAGES)
            .map(|i| i % 7 == 0 || (500..900).contains(&i) || i == PAGES - 1)
            .collect();
        for (i, _) in touched.iter().enumerate().filter(|(_, t)| **t) {
            map.slice_mut(i * PAGE_SIZE, 1).unwrap()[0] = 1;
        }
        let mut ways: Vec<(&str, Scanner)> =
            vec![("entries", by_entries), ("mincore", ask_mincore)];
        if has_scan() {
            ways.push(("scan", by_scan));
        }
        for (name, way) in ways {
            let mut found = vec![false; PAGES];
            let mut last = 0;
            let mut each = |start: usize, end: usize| {
                assert!(start > last || last == 0, "runs that touch are one: {name}");
                last = end;
                let pages = (start - map.addr()) / PAGE_SIZE..(end - map.addr()) / PAGE_SIZE;
                for page in &mut found[pages] {
                    assert!(!std::mem::replace(page, true));
                }
            };
            let mut joined = Joined {
                run: None,
                each: &mut each,
            };
            way(map.addr(), map.len(), &mut joined).unwrap();
            joined.flush();
            assert!(found == touched, "{name}");
        }
        let mut told = vec![0_u8; PAGES];
        holding(map.addr(), map.len(), &mut told).unwrap();
        let told = told.iter().map(|page| page & 1 != 0);
        assert!(told.eq(touched.iter().copied()));
        let expected = touched.iter().filter(|t| **t).count() as u64;
        assert_eq!(present_pages(map.addr(), map.len()), Ok(expected));
    }

    #[test]
    fn a_page_that_was_only_read_holds_the_zero_page() {
        let map = AnonMap::new(16 * PAGE_SIZE, PAGE_SIZE).unwrap();
        map::no_huge_pages(map.addr(), map.len()).unwrap();
        let page = map.slice(5 * PAGE_SIZE, 1).unwrap();
        assert_eq!(std::hint::black_box(page)[0], 0);
        if has_scan() {
            assert_eq!(present_pages(map.addr(), map.len()), Ok(1));
        }
    }
}
