//! Runs the C programs of `tests/c` under the preloaded library, and once
//! plainly: a program that fails without the library tests nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What a program exits with when it cannot test anything here.
const SKIPPED: i32 = 77;

fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let library = test.parent().unwrap().join("libvswap.so");
    assert!(library.exists(), "{} is not built", library.display());
    library
}

fn compile(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/c/{name}.c"));
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let status = Command::new("cc")
        .args(["-O1", "-g", "-fno-builtin", "-pthread", "-o"])
        .arg(&program)
        .arg(&source)
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(status.success(), "{name}.c does not compile");
    program
}

fn run(program: &Path, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new("timeout");
    command.arg("300").arg(program);
    command.env_remove("VSWAP").env_remove("VSWAP_RAM");
    if !variables.is_empty() {
        command.env("LD_PRELOAD", library());
    }
    command.envs(variables.iter().copied()).output().unwrap()
}

fn passes(name: &str, variables: &[(&str, &str)]) {
    let output = run(&compile(name), variables);
    let code = output.status.code();
    assert!(
        code == Some(0) || code == Some(SKIPPED),
        "{name} with {variables:?}: {:?}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

const THREAD_MODE: &[(&str, &str)] = &[("VSWAP_RAM", "256M"), ("VSWAP_FAULTS", "thread")];
const SIGNAL_MODE: &[(&str, &str)] = &[("VSWAP_RAM", "256M"), ("VSWAP_FAULTS", "signal")];
/// A fraction of what the programs for it touch.
const TIGHT_THREAD_MODE: &[(&str, &str)] = &[("VSWAP_RAM", "48M"), ("VSWAP_FAULTS", "thread")];
const TIGHT_SIGNAL_MODE: &[(&str, &str)] = &[("VSWAP_RAM", "48M"), ("VSWAP_FAULTS", "signal")];

#[test]
fn the_malloc_family_keeps_its_promises_without_the_library() {
    passes("blocks", &[]);
}

#[test]
fn the_malloc_family_keeps_its_promises_in_managed_memory() {
    passes("blocks", THREAD_MODE);
}

#[test]
fn the_malloc_family_keeps_its_promises_with_small_blocks_in_glibc() {
    let variables = [
        ("VSWAP_RAM", "256M"),
        ("VSWAP_FAULTS", "thread"),
        ("VSWAP_MIN_ALLOC", "65536"),
    ];
    passes("blocks", &variables);
}

#[test]
fn everything_passes_through_when_switched_off() {
    let variables = [("VSWAP_RAM", "256M"), ("VSWAP", "off")];
    passes("blocks", &variables);
    passes("mappings", &variables);
}

#[test]
fn mappings_behave_as_linux_says_without_the_library() {
    passes("mappings", &[]);
}

#[test]
fn mappings_behave_as_linux_says_in_managed_memory() {
    passes("mappings", THREAD_MODE);
}

#[test]
fn threads_and_forks_find_a_consistent_heap() {
    passes("threads", THREAD_MODE);
}

#[test]
fn a_modest_program_never_starts_an_engine() {
    passes("modest", THREAD_MODE);
}

#[test]
fn every_kind_of_allocation_is_managed() {
    passes("managed", THREAD_MODE);
}

#[test]
fn signal_mode_keeps_the_same_promises() {
    passes("blocks", SIGNAL_MODE);
    passes("mappings", SIGNAL_MODE);
    passes("threads", SIGNAL_MODE);
    passes("modest", SIGNAL_MODE);
}

#[test]
fn buffers_larger_than_the_budget_pass_through_every_family_of_calls() {
    passes("io", &[]);
    passes("io", TIGHT_THREAD_MODE);
    passes("io", TIGHT_SIGNAL_MODE);
}

#[test]
fn handlers_masks_stacks_and_closed_descriptors_do_not_lose_memory() {
    passes("hygiene", &[]);
    passes("hygiene", TIGHT_THREAD_MODE);
    passes("hygiene", TIGHT_SIGNAL_MODE);
}
