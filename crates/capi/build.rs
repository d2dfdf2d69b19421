//! Stamps the library with a build id, so that two copies of one build know
//! each other and two builds tell each other apart.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=..");
    let mut hasher = DefaultHasher::new();
    hash_sources(Path::new(".."), &mut hasher);
    std::env::var("PROFILE")
        .unwrap_or_default()
        .hash(&mut hasher);
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!(
        "cargo:rustc-env=VSWAP_BUILD_ID={version}+{:016x}",
        hasher.finish()
    );
}

fn hash_sources(dir: &Path, hasher: &mut DefaultHasher) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            hash_sources(&path, hasher);
        } else if path
            .extension()
            .is_some_and(|ext| ext == "rs" || ext == "c")
        {
            std::fs::read(&path).unwrap_or_default().hash(hasher);
        }
    }
}
