//! Compiles the small-object heap (mimalloc, with its system calls replaced by
//! hooks) and gives the library its SONAME.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=c");
    println!("cargo:rerun-if-changed=build.rs");
    let include = env::var("DEP_MIMALLOC_INCLUDE_DIR").unwrap_or_default();
    let source = Path::new(&include).with_file_name("src");
    cc::Build::new()
        .file("c/heap.c")
        .include(&include)
        .include(&source)
        .define("MI_DEBUG", "0")
        .define("MI_STAT", "0")
        .define("NDEBUG", None)
        .opt_level(3)
        .flag("-fvisibility=hidden")
        .flag("-ftls-model=initial-exec")
        .flag("-fno-builtin-malloc")
        .warnings(false)
        .compile("vswap_heap");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libvswap.so.1");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,now");
    // Its functions call and name one another, also where it is not searched before the C library (`attach`).
    println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic-functions");
}
