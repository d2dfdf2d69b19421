//! libFuzzer's bytes are lives of a swap layer. What they mean, and what is asked of them, is `vswap_space::testing`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = vswap_space::testing::live(bytes);
});
