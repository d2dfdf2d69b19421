//! The codecs: lz4 and zstd, with all their memory in engine mappings.
//!
//! A codec runs inside page faults, on the stack and in the place of a program
//! that may hold `malloc`'s lock at that moment. So nothing here allocates: the
//! states are made up front in [`AnonMap`]s, and the C functions used are those
//! that take a caller's state. A failed (de)compression is `None`: the caller
//! stores the page raw, or treats the object as damaged.

use core::ffi::{c_char, c_int, c_void};

use crate::errno::Errno;
use crate::map::AnonMap;

// The two functions that lz4's header keeps for static linking; the crate has
// no binding for them. The rest comes from the crates.
unsafe extern "C" {
    fn LZ4_sizeofState() -> c_int;
    fn LZ4_compress_fast_extState_fastReset(
        state: *mut c_void,
        src: *const c_char,
        dst: *mut c_char,
        src_size: c_int,
        dst_capacity: c_int,
        acceleration: c_int,
    ) -> c_int;
}

/// Both C libraries want 8-byte aligned states; a page is what a mapping gives.
const STATE_ALIGN: usize = vswap_units::PAGE_SIZE;

/// The largest input a codec here is made for: one block of pages. Zstd's
/// workspace is sized for it, which keeps level 3 at a tenth of the general size.
pub const MAX_INPUT: usize = 128 * 1024;

/// The lz4 codec: 16 KiB of state, about 2 µs per page.
#[derive(Debug)]
pub struct Lz4 {
    state: AnonMap,
}

impl Lz4 {
    /// Makes the state. The only call here that maps memory.
    pub fn new() -> Result<Lz4, Errno> {
        // SAFETY: takes nothing, returns a constant.
        let size = unsafe { LZ4_sizeofState() };
        let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
        // A fresh mapping is zero, and a zeroed state is an initialised one.
        let state = AnonMap::new(size, STATE_ALIGN)?;
        Ok(Lz4 { state })
    }

    /// Compresses `src` into `dst`; `None` when the result does not fit.
    pub fn compress(&mut self, src: &[u8], dst: &mut [u8]) -> Option<usize> {
        let src_len = c_int::try_from(src.len()).ok()?;
        let dst_len = c_int::try_from(dst.len()).ok()?;
        // SAFETY: the state is a zero-born mapping of LZ4_sizeofState() bytes
        // that only this codec uses (`&mut self`), so its hash table is one that
        // lz4 left; both slices are valid for their lengths.
        let written = unsafe {
            LZ4_compress_fast_extState_fastReset(
                self.state.addr() as *mut c_void,
                src.as_ptr().cast(),
                dst.as_mut_ptr().cast(),
                src_len,
                dst_len,
                1,
            )
        };
        usize::try_from(written).ok().filter(|&n| n > 0)
    }

    /// Decompresses the whole of `src` into `dst` and says how many bytes came
    /// out; `None` when `src` is not lz4 or `dst` is too small. Needs no state.
    pub fn decompress(src: &[u8], dst: &mut [u8]) -> Option<usize> {
        let src_len = c_int::try_from(src.len()).ok()?;
        let dst_len = c_int::try_from(dst.len()).ok()?;
        // SAFETY: both slices are valid for their lengths, and the "safe"
        // decoder stays inside them whatever the input.
        let written = unsafe {
            lz4_sys::LZ4_decompress_safe(
                src.as_ptr().cast(),
                dst.as_mut_ptr().cast(),
                src_len,
                dst_len,
            )
        };
        usize::try_from(written).ok()
    }
}

/// The zstd codec at one level, in static workspaces.
#[derive(Debug)]
pub struct Zstd {
    // The contexts live at the start of their workspaces, so the mappings are
    // kept and the pointers made from them at each call (which keeps Zstd: Send).
    compressor: AnonMap,
    decompressor: AnonMap,
    level: i32,
}

impl Zstd {
    /// Makes both workspaces for `level`, which is brought into zstd's range.
    pub fn new(level: i32) -> Result<Zstd, Errno> {
        // SAFETY: these take nothing and return constants.
        let (lowest, highest) = unsafe { (zstd_sys::ZSTD_minCLevel(), zstd_sys::ZSTD_maxCLevel()) };
        let level = level.clamp(lowest, highest);
        // SAFETY: takes nothing, returns a constant.
        let decompressor_len = unsafe { zstd_sys::ZSTD_estimateDCtxSize() };
        let compressor = AnonMap::new(compressor_len(level)?, STATE_ALIGN)?;
        let decompressor = AnonMap::new(decompressor_len, STATE_ALIGN)?;
        // SAFETY: the mappings are page aligned, exclusively ours and as long as
        // we say; a static context never leaves its workspace.
        let (cctx, dctx) = unsafe {
            (
                zstd_sys::ZSTD_initStaticCCtx(compressor.addr() as *mut c_void, compressor.len()),
                zstd_sys::ZSTD_initStaticDCtx(
                    decompressor.addr() as *mut c_void,
                    decompressor.len(),
                ),
            )
        };
        // Zstd promises a context at the very start of its workspace.
        if cctx as usize != compressor.addr() || dctx as usize != decompressor.addr() {
            return Err(Errno::ENOMEM);
        }
        Ok(Zstd {
            compressor,
            decompressor,
            level,
        })
    }

    /// The level in force.
    pub fn level(&self) -> i32 {
        self.level
    }

    /// Compresses `src` (at most [`MAX_INPUT`] bytes) into `dst`; `None` when
    /// the result does not fit.
    pub fn compress(&mut self, src: &[u8], dst: &mut [u8]) -> Option<usize> {
        if src.len() > MAX_INPUT {
            return None;
        }
        // SAFETY: `new` put an initialised context at this address, used by
        // nobody else (`&mut self`); both slices are valid for their lengths.
        let code = unsafe {
            zstd_sys::ZSTD_compressCCtx(
                self.compressor.addr() as *mut zstd_sys::ZSTD_CCtx,
                dst.as_mut_ptr().cast(),
                dst.len(),
                src.as_ptr().cast(),
                src.len(),
                self.level,
            )
        };
        length_of(code)
    }

    /// Decompresses the whole of `src` into `dst` and says how many bytes came
    /// out; `None` when `src` is not zstd or `dst` is too small.
    pub fn decompress(&mut self, src: &[u8], dst: &mut [u8]) -> Option<usize> {
        // SAFETY: as in `compress`.
        let code = unsafe {
            zstd_sys::ZSTD_decompressDCtx(
                self.decompressor.addr() as *mut zstd_sys::ZSTD_DCtx,
                dst.as_mut_ptr().cast(),
                dst.len(),
                src.as_ptr().cast(),
                src.len(),
            )
        };
        length_of(code)
    }
}

/// The workspace that compresses anything from one byte to [`MAX_INPUT`] at
/// `level`. Zstd takes its parameters from the size of the input in tiers, and
/// a smaller tier can need more, so the largest need of all tiers counts.
fn compressor_len(level: i32) -> Result<usize, Errno> {
    const TIERS: [u64; 4] = [4096, 16 * 1024, 64 * 1024, MAX_INPUT as u64];
    let mut largest = 0;
    for size in TIERS {
        // SAFETY: plain values in, plain values out.
        let need = unsafe {
            zstd_sys::ZSTD_estimateCCtxSize_usingCParams(zstd_sys::ZSTD_getCParams(level, size, 0))
        };
        largest = length_of(need).ok_or(Errno::EINVAL)?.max(largest);
    }
    Ok(largest)
}

/// Zstd's results are lengths or error codes in one word.
fn length_of(code: usize) -> Option<usize> {
    // SAFETY: a pure test of the number.
    let failed = unsafe { zstd_sys::ZSTD_isError(code) } != 0;
    (!failed).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of every kind: constant, text-like, counting, random, half and half.
    fn pages() -> Vec<Vec<u8>> {
        let mut all = vec![vec![0u8; 4096], vec![0xa5u8; 4096]];
        all.push(
            (0..4096u32)
                .map(|i| b"the quick brown fox "[i as usize % 20])
                .collect(),
        );
        all.push((0..1024u32).flat_map(|i| (i * 3).to_le_bytes()).collect());
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        };
        let noise: Vec<u8> = (0..4096).map(|_| random()).collect();
        all.push(
            noise
                .iter()
                .enumerate()
                .map(|(i, &b)| if i < 2048 { b } else { 7 })
                .collect(),
        );
        all.push(noise);
        all
    }

    #[test]
    fn lz4_gives_back_every_byte() {
        let mut codec = Lz4::new().unwrap();
        let (mut packed, mut back) = (vec![0u8; 8192], vec![0u8; 4096]);
        for _ in 0..300 {
            for page in pages() {
                let n = codec.compress(&page, &mut packed).unwrap();
                back.fill(0xee);
                assert_eq!(Lz4::decompress(&packed[..n], &mut back), Some(4096));
                assert!(back == page);
            }
        }
    }

    #[test]
    fn zstd_gives_back_every_byte_at_every_level_and_size() {
        for level in [-5, -1, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 16, 19, 22] {
            let mut codec = Zstd::new(level).unwrap();
            let (mut packed, mut back) = (vec![0u8; 2 * MAX_INPUT], vec![0u8; MAX_INPUT]);
            for size in [1usize, 17, 4096, 8192, 16384, 20000, 65536, MAX_INPUT] {
                for page in pages() {
                    let data: Vec<u8> = page.iter().copied().cycle().take(size).collect();
                    let n = codec
                        .compress(&data, &mut packed)
                        .unwrap_or_else(|| panic!("level {level} refused {size} bytes"));
                    back.fill(0xee);
                    assert_eq!(codec.decompress(&packed[..n], &mut back), Some(size));
                    assert!(back[..size] == data[..]);
                }
            }
        }
    }

    #[test]
    fn a_static_zstd_workspace_never_wears_out() {
        // Zstd calls a workspace wasteful after 128 small uses and would
        // reallocate a heap one; a static one must go on.
        let mut codec = Zstd::new(3).unwrap();
        let (mut packed, mut back) = (vec![0u8; 8192], vec![0u8; 4096]);
        for _ in 0..500 {
            for page in pages() {
                let n = codec.compress(&page, &mut packed).unwrap();
                assert_eq!(codec.decompress(&packed[..n], &mut back), Some(4096));
                assert!(back == page);
            }
        }
    }

    #[test]
    fn a_result_that_does_not_fit_is_none() {
        let noise = pages().pop().unwrap();
        let mut small = vec![0u8; 4096 - 64];
        assert_eq!(Lz4::new().unwrap().compress(&noise, &mut small), None);
        assert_eq!(Zstd::new(1).unwrap().compress(&noise, &mut small), None);
    }

    #[test]
    fn damaged_bytes_never_leave_the_buffer() {
        let page = pages().remove(3);
        let (mut lz4, mut zstd) = (Lz4::new().unwrap(), Zstd::new(1).unwrap());
        let mut packed = vec![0u8; 8192];
        let mut out = vec![0u8; 4096 + 64];
        for use_zstd in [false, true] {
            let n = if use_zstd {
                zstd.compress(&page, &mut packed).unwrap()
            } else {
                lz4.compress(&page, &mut packed).unwrap()
            };
            for at in 0..n {
                let mut bad = packed[..n].to_vec();
                bad[at] ^= 0x5a;
                out.fill(0x77);
                let dst = &mut out[..4096];
                let got = if use_zstd {
                    zstd.decompress(&bad, dst)
                } else {
                    Lz4::decompress(&bad, dst)
                };
                assert!(got.is_none_or(|n| n <= 4096));
                assert!(out[4096..].iter().all(|&b| b == 0x77));
            }
        }
        assert_eq!(Lz4::decompress(&[], &mut out), None);
        assert_eq!(zstd.decompress(&[1, 2, 3], &mut out), None);
    }
}
