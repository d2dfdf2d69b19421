//! What a codec may use inside a fault: no malloc at all, and little stack.
//!
//! A test binary of its own, because it puts itself in malloc's place.
#![expect(
    unsafe_code,
    reason = "stands in for malloc and looks at its own stack"
)]

use core::ffi::c_void;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use vswap_platform::codec::{Lz4, MAX_INPUT, Zstd};

static CALLS: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
}

#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut c_void {
    CALLS.fetch_add(1, Relaxed);
    // SAFETY: the C library's own.
    unsafe { __libc_malloc(size) }
}

#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    CALLS.fetch_add(1, Relaxed);
    // SAFETY: the C library's own.
    unsafe { __libc_calloc(count, size) }
}

const STACK: usize = 48 * 1024;
const MARK: u8 = 0xa7;

/// Paints the stack below the caller and says where that begins.
#[inline(never)]
fn paint() -> usize {
    black_box(&mut [MARK; STACK]).as_ptr() as usize
}

/// How much of what `paint` painted was used by `work`, to a few bytes.
fn stack_of(work: &mut dyn FnMut()) -> usize {
    let lowest = paint();
    work();
    // SAFETY: stack below this frame that `paint` had; volatile, because what
    // lies there is the past.
    let byte = |i: usize| unsafe { ((lowest + i) as *const u8).read_volatile() };
    STACK - (0..STACK).take_while(|&i| byte(i) == MARK).count()
}

fn pages() -> Vec<Vec<u8>> {
    let text = b"the quick brown fox ".iter().copied().cycle().take(4096);
    let counting = (0..1024u32).flat_map(|i| (i * 3).to_le_bytes());
    let mut seed = 1u64;
    let noise = (0..4096).map(|i| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if i % 3 == 0 { (seed >> 56) as u8 } else { 9 }
    });
    vec![text.collect(), counting.collect(), noise.collect()]
}

/// One test, because another's allocations would be counted too.
#[test]
fn no_codec_calls_malloc_or_needs_much_stack() {
    let pages = pages();
    let (mut packed, mut back) = (vec![0u8; MAX_INPUT], vec![0u8; 4096]);
    let mut lz4 = Lz4::new().unwrap();
    let before = CALLS.load(Relaxed);
    assert!(before > 0, "the counter is not in place");
    let (mut deepest_in, mut deepest_out) = (0, 0);
    for page in &pages {
        let mut len = 0;
        deepest_in = deepest_in.max(stack_of(&mut || {
            len = lz4.compress(page, &mut packed).unwrap()
        }));
        deepest_out = deepest_out.max(stack_of(&mut || {
            Lz4::decompress(&packed[..len], &mut back).unwrap();
        }));
        assert!(back == *page);
    }
    assert_eq!(CALLS.load(Relaxed), before, "lz4 called malloc");
    eprintln!("lz4: stack {deepest_in} in, {deepest_out} out");
    assert!(deepest_in < 1024 && deepest_out < 1024);

    for level in [-5, 1, 3, 9, 19] {
        let mut zstd = Zstd::new(level).unwrap();
        let before = CALLS.load(Relaxed);
        let (mut deepest_in, mut deepest_out) = (0, 0);
        for page in &pages {
            let mut len = 0;
            deepest_in = deepest_in.max(stack_of(&mut || {
                len = zstd.compress(page, &mut packed).unwrap()
            }));
            deepest_out = deepest_out.max(stack_of(&mut || {
                zstd.decompress(&packed[..len], &mut back).unwrap();
            }));
            assert!(back == *page);
        }
        assert_eq!(CALLS.load(Relaxed), before, "zstd {level} called malloc");
        eprintln!("zstd {level}: stack {deepest_in} in, {deepest_out} out");
        // A fault handler has 4 KiB in all.
        assert!(deepest_in < 2560 && deepest_out < 2560);
    }
}
