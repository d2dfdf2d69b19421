//! Compiles the one C file of this crate: initial-exec thread-local storage
//! cannot be asked for in stable Rust.

fn main() {
    println!("cargo:rerun-if-changed=csrc/tls.c");
    cc::Build::new()
        .file("csrc/tls.c")
        .pic(true)
        .warnings(true)
        .opt_level(2)
        .compile("vswap_tls");
}
