//! Swap files on the disk under /var/tmp, every byte looked at.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::auto::choose_auto;
use super::*;

/// A directory of its own per test, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Scratch {
        let dir = PathBuf::from(format!("/var/tmp/vswap-test-{}-{test}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pattern(map: &AnonMap, seed: u64) {
    let bytes = map.slice_mut(0, map.len()).unwrap();
    for (i, word) in bytes.chunks_exact_mut(8).enumerate() {
        let value = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed;
        word.copy_from_slice(&value.to_le_bytes());
    }
}

fn round_trip(file: &SwapFile) {
    const SEGMENT: usize = 256 * 1024;
    let out = AnonMap::new(SEGMENT, ALIGN).unwrap();
    let back = AnonMap::new(SEGMENT, ALIGN).unwrap();
    for place in [3u64, 0, 1, 7] {
        pattern(&out, place);
        file.write_at(place * SEGMENT as u64, out.slice(0, SEGMENT).unwrap())
            .unwrap();
    }
    for place in [0u64, 1, 3, 7] {
        pattern(&out, place);
        file.read_at(place * SEGMENT as u64, back.slice_mut(0, SEGMENT).unwrap())
            .unwrap();
        assert!(out.slice(0, SEGMENT) == back.slice(0, SEGMENT));
        for page in [0usize, 5, 63] {
            let part = back.slice_mut(0, ALIGN).unwrap();
            file.read_at(place * SEGMENT as u64 + (page * ALIGN) as u64, part)
                .unwrap();
            assert!(out.slice(page * ALIGN, ALIGN).unwrap() == &*part);
        }
    }
    let before = file.disk_bytes().unwrap();
    file.punch(SEGMENT as u64, SEGMENT as u64).unwrap();
    assert!(file.disk_bytes().unwrap() + SEGMENT as u64 <= before);
    file.read_at(SEGMENT as u64, back.slice_mut(0, SEGMENT).unwrap())
        .unwrap();
    assert!(back.slice(0, SEGMENT).unwrap().iter().all(|&b| b == 0));
    for place in [0u64, 3, 7] {
        pattern(&out, place);
        file.read_at(place * SEGMENT as u64, back.slice_mut(0, SEGMENT).unwrap())
            .unwrap();
        assert!(out.slice(0, SEGMENT) == back.slice(0, SEGMENT));
    }
    assert_eq!(
        file.read_at(8 * SEGMENT as u64, back.slice_mut(0, ALIGN).unwrap()),
        Err(Errno::EIO)
    );
}

#[test]
fn an_unnamed_file_keeps_every_byte_and_gives_holes_back() {
    let scratch = Scratch::new("unnamed");
    let file = SwapFile::open_unnamed(&scratch.0).unwrap();
    round_trip(&file);
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
}

#[test]
fn a_file_without_direct_io_keeps_every_byte_too() {
    let scratch = Scratch::new("buffered");
    let mut file = SwapFile::open_unnamed(&scratch.0).unwrap();
    let flags = fd::fcntl(file.fd, libc::F_GETFL, 0).unwrap() & !libc::O_DIRECT as usize;
    fd::fcntl(file.fd, libc::F_SETFL, flags).unwrap();
    file.direct = false;
    round_trip(&file);
}

#[test]
fn the_fallback_without_tmpfile_leaves_no_name() {
    let scratch = Scratch::new("fallback");
    let file = SwapFile::take(create_and_unlink(&scratch.0).unwrap()).unwrap();
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
    round_trip(&file);
}

#[test]
fn a_named_file_is_made_private_and_can_be_used_again() {
    let scratch = Scratch::new("named");
    let path = scratch.file("swap");
    let file = SwapFile::open_named(&path).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    round_trip(&file);
    let error = SwapFile::open_named(&path).unwrap_err();
    assert_eq!(error.why(), Refusal::InUse);
    drop(file);
    assert!(fs::metadata(&path).unwrap().len() > 1 << 20);
    let again = SwapFile::open_named(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), HEADER_BYTES);
    round_trip(&again);
}

#[test]
fn a_file_stays_in_use_while_anybody_has_it_open_again() {
    let scratch = Scratch::new("again");
    let path = scratch.file("swap");
    let file = SwapFile::open_named(&path).unwrap();
    // SAFETY: takes nothing, returns a number.
    let tid = unsafe { libc::gettid() };
    let again = file.reopen_via_proc(tid).unwrap();
    let in_use = || {
        SwapFile::open_named(&path)
            .map(drop)
            .map_err(|error| error.why())
    };
    assert_eq!(in_use(), Err(Refusal::InUse));
    drop(file);
    assert_eq!(in_use(), Err(Refusal::InUse));
    round_trip(&again);
    drop(again);
    assert_eq!(in_use(), Ok(()));
}

#[test]
fn an_empty_file_is_taken() {
    let scratch = Scratch::new("empty");
    fs::write(scratch.file("swap"), b"").unwrap();
    round_trip(&SwapFile::open_named(&scratch.file("swap")).unwrap());
}

#[test]
fn somebodys_data_is_refused_and_left_alone() {
    let scratch = Scratch::new("data");
    for data in [&b"x"[..], b"my thesis", b"VSWAPSW", &[0u8; 5000]] {
        fs::write(scratch.file("thesis"), data).unwrap();
        let error = SwapFile::open_named(&scratch.file("thesis")).unwrap_err();
        assert_eq!(error.why(), Refusal::HasData);
        assert!(fs::read(scratch.file("thesis")).unwrap() == data);
        assert!(
            error
                .to_string()
                .contains("thesis holds data that is not vswap's")
        );
    }
}

#[test]
fn what_is_no_writable_file_is_refused_with_its_own_sentence() {
    let scratch = Scratch::new("refused");
    let why = |path: &Path| {
        let error = SwapFile::open_named(path).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(path.to_str().unwrap()) && !text.contains('\n'),
            "{text}"
        );
        error.why()
    };
    assert_eq!(why(&scratch.0), Refusal::IsDirectory);
    assert_eq!(why(Path::new("/dev/null")), Refusal::NotAFile);
    assert_eq!(why(&scratch.file("no/such/dir")), Refusal::NoDirectory);
    fs::write(scratch.file("ro"), b"").unwrap();
    fs::set_permissions(scratch.file("ro"), fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(why(&scratch.file("ro")), Refusal::NotWritable);
    assert_eq!(
        why(&scratch.file(&"n".repeat(300))),
        Refusal::Other(Errno::ENAMETOOLONG)
    );
    assert_eq!(
        SwapFile::open_unnamed(&scratch.file("absent"))
            .unwrap_err()
            .why(),
        Refusal::NoDirectory
    );
}

#[test]
fn a_file_in_ram_is_refused_and_not_left_behind() {
    let shm = Path::new("/dev/shm");
    let dir = c_path(shm).unwrap();
    let Ok(opened) = fd::open(&dir, libc::O_RDONLY | libc::O_DIRECTORY, 0) else {
        eprintln!("skipped: no /dev/shm here");
        return;
    };
    let in_ram = is_memory_backed(opened);
    fd::close(opened);
    if in_ram != Ok(true) {
        eprintln!("skipped: /dev/shm is not a tmpfs here");
        return;
    }
    let path = shm.join(format!("vswap-test-{}", std::process::id()));
    assert_eq!(
        SwapFile::open_named(&path).unwrap_err().why(),
        Refusal::InMemory
    );
    assert!(!path.exists());
    assert_eq!(
        SwapFile::open_unnamed(shm).unwrap_err().why(),
        Refusal::InMemory
    );
}

#[test]
fn misaligned_access_is_refused_before_it_reaches_the_disk() {
    let scratch = Scratch::new("aligned");
    let file = SwapFile::open_unnamed(&scratch.0).unwrap();
    let map = AnonMap::new(2 * ALIGN, ALIGN).unwrap();
    let whole = map.slice(0, ALIGN).unwrap();
    assert_eq!(file.write_at(512, whole), Err(Errno::EINVAL));
    assert_eq!(
        file.write_at(0, map.slice(8, ALIGN).unwrap()),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        file.write_at(0, map.slice(0, 512).unwrap()),
        Err(Errno::EINVAL)
    );
    assert_eq!(file.disk_bytes().unwrap(), HEADER_BYTES);
}

#[test]
fn a_closed_descriptor_is_noticed_and_recovered_from_another_thread() {
    let scratch = Scratch::new("recover");
    let mut file = SwapFile::open_unnamed(&scratch.0).unwrap();
    let map = AnonMap::new(ALIGN, ALIGN).unwrap();
    pattern(&map, 9);
    file.write_at(0, map.slice(0, ALIGN).unwrap()).unwrap();
    // SAFETY: takes nothing, returns a number.
    let tid = unsafe { libc::gettid() };
    assert!(file.is_still_ours());
    let again = file.reopen_via_proc(tid).unwrap();
    assert_eq!(again.is_direct(), file.is_direct());
    let back = AnonMap::new(ALIGN, ALIGN).unwrap();
    again.read_at(0, back.slice_mut(0, ALIGN).unwrap()).unwrap();
    assert!(map.slice(0, ALIGN) == back.slice(0, ALIGN));
    // The program closes ours and opens something else in its place.
    let other = fd::open(c"/dev/zero", libc::O_RDWR, 0).unwrap();
    let ours = std::mem::replace(&mut file.fd, other);
    assert!(!file.is_still_ours());
    assert_eq!(file.reopen_via_proc(tid).err(), Some(Errno::ESTALE));
    fd::close(ours);
}

#[test]
fn the_automatic_place_is_the_first_disk_and_bounded() {
    let scratch = Scratch::new("auto");
    let dirs = [
        PathBuf::from("/dev/shm"),
        scratch.file("absent"),
        scratch.0.clone(),
    ];
    let place = choose_auto(&dirs, 1 << 20, None).unwrap();
    assert_eq!(place.dir, scratch.0);
    assert_eq!(place.max_bytes, 4 << 20);
    let large = choose_auto(&dirs, u64::MAX, None).unwrap();
    assert!(large.max_bytes > 8 << 20 && large.max_bytes < u64::MAX / 2);
    for wanted in [20 << 20, u64::MAX] {
        let sized = choose_auto(&dirs, 1 << 20, Some(wanted)).unwrap();
        assert_eq!((sized.dir, sized.max_bytes), (scratch.0.clone(), wanted));
    }
    let text = choose_auto(&dirs[..2], 1, None).unwrap_err().to_string();
    assert!(
        text.starts_with("no place for a swap file (/dev/shm "),
        "{text}"
    );
    assert!(
        text.ends_with("absent is not there); name one with --swap PATH, or choose --swap none")
    );
}
