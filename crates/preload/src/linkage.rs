//! Functions that the loaded libraries call in one another, as the dynamic linker has bound them.
//!
//! Each library has a word for every function it calls elsewhere (its global offset table) and for every such function
//! whose address it keeps in a table. Whoever changes that word decides where the call leads. What is read here is the
//! format of ELF and of glibc's `dl_iterate_phdr`, which also keeps libraries from going away meanwhile.

use core::ffi::{CStr, c_int, c_void};
use core::sync::atomic::{AtomicUsize, Ordering};

use libc::{Elf64_Phdr, Elf64_Sym, dl_phdr_info};
use vswap_platform::sys;
use vswap_units::PAGE_SIZE;

/// Libraries whose own calls stay what they are: the C library, the loader, and what the kernel maps.
const LEFT_ALONE: [&[u8]; 4] = [b"libc.so", b"ld-linux", b"linux-vdso", b"libpthread.so"];

/// Relocations that put a function's address into a word.
#[cfg(target_arch = "x86_64")]
const BINDS: [u32; 3] = [1, 6, 7]; // R_X86_64_64, GLOB_DAT, JUMP_SLOT
#[cfg(target_arch = "aarch64")]
const BINDS: [u32; 3] = [257, 1025, 1026]; // R_AARCH64_ABS64, GLOB_DAT, JUMP_SLOT

const DT_PLTRELSZ: i64 = 2;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_RELA: i64 = 7;
const DT_RELASZ: i64 = 8;
const DT_JMPREL: i64 = 23;

#[repr(C)]
struct Dynamic {
    tag: i64,
    value: usize,
}

#[repr(C)]
struct Relocation {
    offset: usize,
    symbol: u64,
    addend: i64,
}

/// A word of a library that holds the address of a function elsewhere.
pub struct Binding {
    name: *const libc::c_char,
    word: *const AtomicUsize,
    /// Until the first call the word leads back into the library itself.
    unbound: bool,
}

impl Binding {
    /// The function's name.
    pub fn name(&self) -> &CStr {
        // SAFETY: a string of the library's string table, which stays loaded while it is walked.
        unsafe { CStr::from_ptr(self.name) }
    }

    /// Where the call leads now.
    pub fn target(&self) -> usize {
        // SAFETY: an aligned word of the library's data, which is readable.
        unsafe { (*self.word).load(Ordering::Relaxed) }
    }

    /// Has no call gone this way yet, so that the linker would look the name up at the first?
    pub fn is_unbound(&self) -> bool {
        self.unbound
    }

    /// Lets the call lead to `target` from now on; false where the kernel forbids it.
    pub fn lead_to(&self, target: usize) -> bool {
        let page = self.word.addr() & !(PAGE_SIZE - 1);
        // The linker has closed most of these words; one that it is still filling must stay open.
        let closed = !is_writable(self.word.addr());
        let opened = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a page of a library's data, which was writable until the linker had filled it.
        if closed && unsafe { sys::mprotect(page, PAGE_SIZE, opened) } != 0 {
            return false;
        }
        // SAFETY: an aligned word, writable now; calls read it whole, before the change or after.
        unsafe { (*self.word).store(target, Ordering::Relaxed) };
        if closed {
            // SAFETY: as it was. If that fails the page stays writable, which loses no function.
            unsafe { sys::mprotect(page, PAGE_SIZE, libc::PROT_READ) };
        }
        true
    }
}

/// May the word be written? Asked by letting the kernel add nothing to it, which changes nothing and cannot fault.
fn is_writable(addr: usize) -> bool {
    /// `FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0)`.
    const ADD_NOTHING: u32 = 1 << 28;
    let op = libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: wakes nobody, and adds 0 to an aligned word of ours.
    unsafe { sys::futex(addr, op, 0, 0, addr, ADD_NOTHING) >= 0 }
}

/// How many libraries have been loaded since the program began.
pub fn libraries_loaded() -> u64 {
    unsafe extern "C" fn first(info: *mut dl_phdr_info, _: usize, out: *mut c_void) -> c_int {
        // SAFETY: the loader's structure, and the caller's `u64`.
        unsafe { out.cast::<u64>().write((*info).dlpi_adds) };
        1
    }
    let mut loaded = 0u64;
    // SAFETY: the callback gets the address of a local that outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut loaded).cast()) };
    loaded
}

/// Calls `each` with every binding of every library but those left alone and this one.
/// It must not load a library, nor wait for who might.
pub fn each_binding(each: &mut dyn FnMut(&Binding)) {
    unsafe extern "C" fn library(info: *mut dl_phdr_info, _: usize, each: *mut c_void) -> c_int {
        // SAFETY: the loader's structure, and the caller's reference, for this call.
        unsafe {
            let each = &mut *each.cast::<&mut dyn FnMut(&Binding)>();
            if let Some(library) = Library::of(&*info) {
                library.each_binding(*each);
            }
        }
        0
    }
    let mut each = each;
    // SAFETY: the callback gets the address of a local that outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(library), (&raw mut each).cast()) };
}

/// A loaded library, as far as it matters here.
struct Library<'a> {
    base: usize,
    segments: &'a [Elf64_Phdr],
    symbols: usize,
    strings: usize,
    tables: [(usize, usize); 2],
}

impl<'a> Library<'a> {
    /// `None` for those left alone and those that bind nothing.
    ///
    /// # Safety
    /// `info` is what the loader gives to a callback of `dl_iterate_phdr`.
    unsafe fn of(info: &'a dl_phdr_info) -> Option<Self> {
        // SAFETY: the loader's table, as long as it says.
        let segments =
            unsafe { core::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let mut library = Self {
            base: info.dlpi_addr as usize,
            segments,
            symbols: 0,
            strings: 0,
            tables: [(0, 0); 2],
        };
        let path = match info.dlpi_name.is_null() {
            true => c"",
            // SAFETY: the loader's string.
            false => unsafe { CStr::from_ptr(info.dlpi_name) },
        };
        if is_left_alone(path.to_bytes()) || library.holds(each_binding as *const () as usize) {
            return None;
        }
        // SAFETY: the segment is the loaded library's own table.
        unsafe { library.read_dynamic() };
        (library.symbols != 0 && library.strings != 0).then_some(library)
    }

    fn segments_of(&self, kind: u32) -> impl Iterator<Item = (usize, usize, u32)> {
        let of_kind = self.segments.iter().filter(move |s| s.p_type == kind);
        of_kind.map(|s| {
            let start = self.base.wrapping_add(s.p_vaddr as usize);
            (start, start + s.p_memsz as usize, s.p_flags)
        })
    }

    fn holds(&self, addr: usize) -> bool {
        let mut loaded = self.segments_of(libc::PT_LOAD);
        loaded.any(|(start, end, _)| (start..end).contains(&addr))
    }

    /// # Safety
    /// The library is loaded.
    unsafe fn read_dynamic(&mut self) {
        let Some((start, end, _)) = self.segments_of(libc::PT_DYNAMIC).next() else {
            return;
        };
        let count = (end - start) / size_of::<Dynamic>();
        // SAFETY: the loaded segment holds so many entries.
        let entries = unsafe {
            core::slice::from_raw_parts(core::ptr::with_exposed_provenance::<Dynamic>(start), count)
        };
        for entry in entries.iter().take_while(|entry| entry.tag != 0) {
            match entry.tag {
                DT_STRTAB => self.strings = self.address(entry.value),
                DT_SYMTAB => self.symbols = self.address(entry.value),
                DT_RELA => self.tables[0].0 = self.address(entry.value),
                DT_RELASZ => self.tables[0].1 = entry.value,
                DT_JMPREL => self.tables[1].0 = self.address(entry.value),
                DT_PLTRELSZ => self.tables[1].1 = entry.value,
                _ => {}
            }
        }
    }

    /// glibc has turned most entries into addresses when it loaded the library.
    fn address(&self, value: usize) -> usize {
        if value < self.base {
            self.base + value
        } else {
            value
        }
    }

    /// # Safety
    /// The library is loaded.
    unsafe fn each_binding(&self, each: &mut dyn FnMut(&Binding)) {
        for (start, bytes) in self.tables {
            let count = if start == 0 {
                0
            } else {
                bytes / size_of::<Relocation>()
            };
            let first = core::ptr::with_exposed_provenance::<Relocation>(start);
            for index in 0..count {
                // SAFETY: the table has `count` entries.
                let relocation = unsafe { &*first.add(index) };
                if let Some(binding) = self.binding(relocation) {
                    each(&binding);
                }
            }
        }
    }

    fn binding(&self, relocation: &Relocation) -> Option<Binding> {
        let (kind, index) = (relocation.symbol as u32, (relocation.symbol >> 32) as usize);
        if !BINDS.contains(&kind) || index == 0 || relocation.addend != 0 {
            return None;
        }
        let word = self.base.wrapping_add(relocation.offset);
        let mut loaded = self.segments_of(libc::PT_LOAD);
        let writable = |&(start, end, flags): &(usize, usize, u32)| {
            flags & libc::PF_W != 0 && start <= word && word + size_of::<usize>() <= end
        };
        if !word.is_multiple_of(align_of::<usize>()) || loaded.find(writable).is_none() {
            return None;
        }
        let symbols = core::ptr::with_exposed_provenance::<Elf64_Sym>(self.symbols);
        // SAFETY: the library's relocations name symbols of its table.
        let symbol = unsafe { &*symbols.add(index) };
        if symbol.st_shndx != 0 {
            return None; // its own function
        }
        let mut binding = Binding {
            name: core::ptr::with_exposed_provenance(self.strings + symbol.st_name as usize),
            word: core::ptr::with_exposed_provenance(word),
            unbound: false,
        };
        binding.unbound = self.holds(binding.target());
        Some(binding)
    }
}

fn is_left_alone(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    LEFT_ALONE.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_and_the_loader_are_left_alone() {
        assert!(is_left_alone(b"/lib/x86_64-linux-gnu/libc.so.6"));
        assert!(is_left_alone(b"/lib64/ld-linux-x86-64.so.2"));
        assert!(is_left_alone(b"linux-vdso.so.1"));
        assert!(!is_left_alone(b"/usr/lib/libcrypto.so.3"));
        assert!(!is_left_alone(b""));
    }

    #[test]
    fn a_word_is_known_to_be_writable_or_not_and_stays_as_it_is() {
        let open = AtomicUsize::new(u32::MAX as usize);
        assert!(is_writable((&raw const open).addr()));
        assert_eq!(open.load(Ordering::Relaxed), u32::MAX as usize);
        assert!(!is_writable(is_writable as *const () as usize & !7));
    }

    #[test]
    fn libraries_are_counted_as_they_are_loaded() {
        let before = libraries_loaded();
        let not_loaded = [c"libanl.so.1", c"libutil.so.1", c"libresolv.so.2"];
        let open = |name: &&CStr, flags| {
            // SAFETY: a C string; these run no code of their own when they are loaded.
            unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | flags) }
        };
        let name = not_loaded
            .iter()
            .find(|name| open(name, libc::RTLD_NOLOAD).is_null() && !open(name, 0).is_null());
        assert!(name.is_some(), "nothing to load");
        assert_eq!(libraries_loaded(), before + 1);
    }
}
