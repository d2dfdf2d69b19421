//! What the dynamic loader knows of loaded objects, as far as starting a thread needs it.
//!
//! A new thread's storage is set up from the records of all objects that have some. Those of objects loaded later were
//! allocated with the program's malloc, so they may lie in memory that is swapped out.

use core::ffi::{c_char, c_int, c_void};

/// Bytes of a record the C library may look at; it has about 1,200.
pub const RECORD_BYTES: usize = 2048;

const MOST: usize = 128;

/// The public part of a record.
#[repr(C)]
struct LinkMap {
    addr: usize,
    name: *const c_char,
    dynamic: *const c_void,
    next: *const LinkMap,
    prev: *const LinkMap,
}

#[repr(C)]
struct Debug {
    version: c_int,
    map: *const LinkMap,
}

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    static _r_debug: Debug;
}

struct Found {
    records: [usize; MOST],
    count: usize,
}

/// Calls `each` with the address of the record of every loaded object that has thread-local storage, up to 128 of them. The
/// loader's lists stand still meanwhile only as long as they are read.
#[cfg(target_env = "gnu")]
pub fn each_record_with_tls(each: &mut dyn FnMut(usize)) {
    let mut found = Found {
        records: [0; MOST],
        count: 0,
    };
    // SAFETY: `note` takes what is passed here, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut found).cast()) };
    let records = found.records.iter().take(found.count);
    records.for_each(|record| each(*record));
}

/// Other C libraries keep their records out of malloc's memory.
#[cfg(not(target_env = "gnu"))]
pub fn each_record_with_tls(_each: &mut dyn FnMut(usize)) {}

/// Called under the loader's lock of its lists, which is held for no longer than they are changed: not while an object's
/// constructors run.
#[cfg(target_env = "gnu")]
unsafe extern "C" fn note(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    found: *mut c_void,
) -> c_int {
    // SAFETY: what `each_record_with_tls` passed; nobody else has it.
    let found = unsafe { &mut *found.cast::<Found>() };
    // SAFETY: the loader's, for the time of this call.
    let info = unsafe { &*info };
    if info.dlpi_tls_modid == 0 {
        return 0;
    }
    // SAFETY: the loader fills it in before any code of ours runs.
    let mut map = unsafe { _r_debug.map };
    // SAFETY: the list stands still under the loader's lock; records are whole as long as they are in it.
    while let Some(record) = unsafe { map.as_ref() } {
        if record.addr as u64 == info.dlpi_addr && record.name == info.dlpi_name {
            if let Some(place) = found.records.get_mut(found.count) {
                *place = map as usize;
                found.count += 1;
            }
            return 0;
        }
        map = record.next;
    }
    0
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_has_thread_local_storage_and_a_record() {
        let mut bases = Vec::new();
        each_record_with_tls(&mut |record| {
            // SAFETY: a record of the loader, and nothing is unloaded here.
            bases.push(unsafe { (*(record as *const LinkMap)).addr });
        });
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps
            .lines()
            .find(|line| line.contains("libc.so") || line.contains("libc-2"))
            .unwrap();
        let base = usize::from_str_radix(libc.split('-').next().unwrap(), 16).unwrap();
        assert!(bases.contains(&base), "{bases:x?} {base:x}");
    }
}
