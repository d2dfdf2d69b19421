//! `include/vswap.h` says what the functions say.
//!
//! `UPDATE_HEADER=1 cargo test -p vswap-capi --test header` writes it anew.

use std::error::Error;
use std::path::Path;

/// From `lib.rs` alone: cbindgen follows its modules, and naming them too would
/// declare every function twice.
fn generated(root: &Path) -> Result<String, Box<dyn Error>> {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml"))?;
    let builder = cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("src/lib.rs"));
    let mut text = Vec::new();
    builder.generate()?.write(&mut text);
    Ok(String::from_utf8(text)?)
}

#[test]
fn the_header_is_the_one_made_from_the_functions() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("../../include");
    let wanted = generated(root)?;
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("vswap.h"), &wanted)?;
    }
    let found = std::fs::read_to_string(folder.join("vswap.h")).unwrap_or_default();
    assert!(
        found == wanted,
        "include/vswap.h is out of date; run this test with UPDATE_HEADER=1"
    );
    Ok(())
}

#[test]
fn every_function_is_declared_once() -> Result<(), Box<dyn Error>> {
    let text = generated(Path::new(env!("CARGO_MANIFEST_DIR")))?;
    let mut declared: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once('('))
        .filter_map(|(head, _)| head.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("vswap_"))
        .collect();
    declared.sort_unstable();
    let all = declared.len();
    declared.dedup();
    assert_eq!(declared.len(), all);
    assert!(all > 30, "{all} functions");
    Ok(())
}
