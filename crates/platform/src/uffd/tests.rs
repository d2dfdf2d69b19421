//! Against the running kernel, every byte looked at. Without the privilege for
//! a userfaultfd the tests say so and pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::map::{self, AnonMap};
use vswap_units::PAGE_SIZE as PAGE;

fn open_or_skip(mode: UffdMode, sigbus: bool) -> Option<Userfaultfd> {
    match Userfaultfd::open(mode, sigbus) {
        Ok(uffd) => Some(uffd),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn with_move() -> Option<Userfaultfd> {
    let uffd = open_or_skip(UffdMode::Kernel, false)
        .or_else(|| open_or_skip(UffdMode::UserOnly, false))?;
    if !uffd.has_move() {
        eprintln!("skipped: this kernel has no UFFDIO_MOVE (Linux 6.8)");
        return None;
    }
    Some(uffd)
}

fn pages(count: usize) -> AnonMap {
    let map = AnonMap::new(count * PAGE, PAGE).unwrap();
    map::no_huge_pages(map.addr(), map.len()).unwrap();
    // Another test may fork now, and forked pages do not move.
    map::advise(map.addr(), map.len(), libc::MADV_DONTFORK).unwrap();
    map
}

fn registered(uffd: &Userfaultfd, count: usize) -> AnonMap {
    let map = pages(count);
    uffd.register(map.addr(), map.len()).unwrap();
    map
}

/// Fills page `index` with words only it has.
fn paint(map: &AnonMap, index: usize, seed: u64) {
    for (i, word) in map
        .words_mut(index * PAGE, PAGE)
        .unwrap()
        .iter_mut()
        .enumerate()
    {
        *word = word_of(index, i, seed);
    }
}

fn word_of(page: usize, word: usize, seed: u64) -> u64 {
    ((page as u64) << 32 | word as u64 | 1 << 31).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed
}

fn is_painted(map: &AnonMap, at: usize, index: usize, seed: u64) -> bool {
    let words = map.words(at * PAGE, PAGE).unwrap();
    words
        .iter()
        .enumerate()
        .all(|(i, &w)| w == word_of(index, i, seed))
}

const fn all(pages: usize) -> Progress {
    Progress {
        done: pages * PAGE,
        error: None,
    }
}

const fn stuck(pages: usize, error: Errno) -> Progress {
    Progress {
        done: pages * PAGE,
        error: Some(error),
    }
}

#[test]
fn copy_fills_missing_pages_and_stops_at_one_that_is_there() {
    let Some(uffd) = open_or_skip(UffdMode::Kernel, false) else {
        return;
    };
    let source = pages(64);
    (0..64).for_each(|i| paint(&source, i, 1));
    let target = registered(&uffd, 64);
    assert_eq!(
        uffd.copy(target.addr() + 40 * PAGE, source.addr(), PAGE),
        all(1)
    );
    let len = 64 * PAGE;
    assert_eq!(
        uffd.copy(target.addr(), source.addr(), len),
        stuck(40, Errno::EEXIST)
    );
    let rest = uffd.copy_no_wake(
        target.addr() + 41 * PAGE,
        source.addr() + 41 * PAGE,
        23 * PAGE,
    );
    assert_eq!(rest, all(23));
    for i in 0..64 {
        assert!(is_painted(&target, i, if i == 40 { 0 } else { i }, 1));
    }
}

#[test]
fn zeropage_fills_with_zeros() {
    let Some(uffd) = open_or_skip(UffdMode::Kernel, false) else {
        return;
    };
    let target = registered(&uffd, 8);
    assert_eq!(uffd.zeropage(target.addr(), 8 * PAGE), all(8));
    assert!(target.slice(0, 8 * PAGE).unwrap().iter().all(|&b| b == 0));
}

#[test]
fn move_takes_every_byte_there_and_back() {
    let Some(uffd) = with_move() else { return };
    let (region, frames) = (registered(&uffd, 64), registered(&uffd, 64));
    assert_eq!(uffd.zeropage(region.addr(), PAGE), all(1));
    let source = pages(64);
    (0..64).for_each(|i| paint(&source, i, 2));
    assert_eq!(
        uffd.copy(region.addr() + PAGE, source.addr() + PAGE, 63 * PAGE),
        all(63)
    );
    assert_eq!(
        uffd.move_pages(frames.addr(), region.addr(), 64 * PAGE, false),
        all(64)
    );
    assert_eq!(
        crate::pagemap::present_pages(region.addr(), 64 * PAGE),
        Ok(0)
    );
    assert!(frames.slice(0, PAGE).unwrap().iter().all(|&b| b == 0));
    assert!((1..64).all(|i| is_painted(&frames, i, i, 2)));
    assert_eq!(
        uffd.move_pages(region.addr(), frames.addr(), 64 * PAGE, false),
        all(64)
    );
    assert_eq!(
        crate::pagemap::present_pages(frames.addr(), 64 * PAGE),
        Ok(0)
    );
    assert!((1..64).all(|i| is_painted(&region, i, i, 2)));
}

#[test]
fn a_target_takes_moved_pages_and_its_missing_pages_stay_the_kernels() {
    let Some(uffd) = with_move() else { return };
    let (source, target) = (registered(&uffd, 4), pages(8));
    uffd.register_as_target(target.addr(), target.len())
        .unwrap();
    let filled = pages(4);
    (0..4).for_each(|i| paint(&filled, i, 5));
    assert_eq!(uffd.copy(source.addr(), filled.addr(), 4 * PAGE), all(4));
    assert_eq!(
        uffd.move_pages(target.addr(), source.addr(), 4 * PAGE, false),
        all(4)
    );
    assert!((0..4).all(|i| is_painted(&target, i, i, 5)));
    // Nobody serves faults here: these would wait for ever.
    paint(&target, 4, 6);
    map::populate_write(target.addr() + 5 * PAGE, PAGE).unwrap();
    assert!(is_painted(&target, 4, 4, 6));
    assert!(
        target
            .slice(5 * PAGE, 3 * PAGE)
            .unwrap()
            .iter()
            .all(|&b| b == 0)
    );
    // They may be written, discarded, and moved into again.
    target.discard(0, 4 * PAGE).unwrap();
    assert_eq!(uffd.copy(source.addr(), filled.addr(), 4 * PAGE), all(4));
    let again = uffd.move_pages(target.addr(), source.addr(), 4 * PAGE, false);
    assert_eq!(again, all(4));
    assert!((0..4).all(|i| is_painted(&target, i, i, 5)));
}

#[test]
fn a_move_that_meets_a_hole_says_how_far_it_came() {
    let Some(uffd) = with_move() else { return };
    let frames = registered(&uffd, 64);
    let source = pages(64);
    (0..64)
        .filter(|&i| i != 10)
        .for_each(|i| paint(&source, i, 3));
    let run = uffd.move_pages(frames.addr(), source.addr(), 64 * PAGE, false);
    assert_eq!(run, stuck(10, Errno::ENOENT));
    let at = 10 * PAGE;
    let rest = uffd.move_pages(frames.addr() + at, source.addr() + at, 54 * PAGE, true);
    assert_eq!(rest, all(54));
    assert_eq!(
        crate::pagemap::present_pages(frames.addr(), 64 * PAGE),
        Ok(63)
    );
    assert!(
        (0..64)
            .filter(|&i| i != 10)
            .all(|i| is_painted(&frames, i, i, 3))
    );
}

#[test]
fn a_move_never_overwrites_and_never_crosses_protections() {
    let Some(uffd) = with_move() else { return };
    let frames = registered(&uffd, 32);
    let source = pages(32);
    (0..32).for_each(|i| paint(&source, i, 4));
    assert_eq!(
        uffd.copy(frames.addr() + 5 * PAGE, source.addr() + 31 * PAGE, PAGE),
        all(1)
    );
    let run = uffd.move_pages(frames.addr(), source.addr(), 16 * PAGE, false);
    assert_eq!(run, stuck(5, Errno::EEXIST));
    assert!((0..5).all(|i| is_painted(&frames, i, i, 4)));
    assert!(is_painted(&frames, 5, 31, 4));
    assert!((5..32).all(|i| is_painted(&source, i, i, 4)));
    map::protect(source.addr() + 16 * PAGE, 16 * PAGE, map::Prot::READ).unwrap();
    let from = source.addr() + 16 * PAGE;
    let run = uffd.move_pages(frames.addr() + 16 * PAGE, from, PAGE, false);
    assert_eq!(run, stuck(0, Errno::EINVAL));
    assert!(is_painted(&source, 16, 16, 4));
}

#[test]
fn a_move_counts_pages_that_the_kernel_moved_and_did_not_count() {
    let Some(uffd) = with_move() else { return };
    let (frames, source) = (registered(&uffd, 40), pages(40));
    (0..40).for_each(|i| paint(&source, i, 6));
    // As the kernel leaves them: moved already, and asked for once more.
    for (first, count) in [(3, 2), (9, 20)] {
        let (to, from) = (frames.addr() + first * PAGE, source.addr() + first * PAGE);
        let run = uffd.transfer(IOC_MOVE, to, from, count * PAGE, 0);
        assert_eq!(run, all(count));
    }
    let run = uffd.move_pages(frames.addr(), source.addr(), 40 * PAGE, false);
    assert_eq!(run, all(40));
    assert!((0..40).all(|i| is_painted(&frames, i, i, 6)));
    assert_eq!(
        crate::pagemap::present_pages(source.addr(), 40 * PAGE),
        Ok(0)
    );
}

#[test]
fn a_forked_page_moves_only_after_it_was_populated() {
    let Some(uffd) = with_move() else { return };
    let frames = registered(&uffd, 8);
    let source = pages(8);
    map::advise(source.addr(), source.len(), libc::MADV_DOFORK).unwrap();
    (0..8).for_each(|i| paint(&source, i, 5));
    // SAFETY: the child does nothing but wait to be killed.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above.
        unsafe {
            libc::pause();
            libc::_exit(0)
        };
    }
    let run = uffd.move_pages(frames.addr(), source.addr(), 8 * PAGE, false);
    assert_eq!(run, stuck(0, Errno::EBUSY));
    map::populate_write(source.addr(), 8 * PAGE).unwrap();
    let run = uffd.move_pages(frames.addr(), source.addr(), 8 * PAGE, false);
    assert_eq!(run, all(8));
    // SAFETY: our own child.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, core::ptr::null_mut(), 0);
    }
    assert!((0..8).all(|i| is_painted(&frames, i, i, 5)));
}

#[test]
fn a_poisoned_page_is_an_error_and_not_zeros() {
    let Some(uffd) = open_or_skip(UffdMode::Kernel, false) else {
        return;
    };
    let target = registered(&uffd, 4);
    if !uffd.has_poison() {
        assert_eq!(
            uffd.poison(target.addr(), PAGE),
            stuck(0, Errno::EOPNOTSUPP)
        );
        return;
    }
    assert_eq!(uffd.zeropage(target.addr(), PAGE), all(1));
    assert_eq!(uffd.poison(target.addr() + PAGE, 3 * PAGE), all(3));
    let sink = fd::memfd(c"vswap-sink", libc::MFD_CLOEXEC).unwrap();
    // The kernel reads for us, so that SIGBUS becomes an errno.
    let read_page = |i: usize| fd::pwrite(sink, target.slice(i * PAGE, PAGE).unwrap(), 0);
    assert_eq!(read_page(0), Ok(PAGE));
    for i in 1..4 {
        assert_eq!(read_page(i), Err(Errno::EFAULT));
    }
    fd::close(sink);
}

#[test]
fn with_sigbus_a_system_call_gets_efault_instead_of_waiting() {
    let Some(uffd) = open_or_skip(UffdMode::UserOnly, true) else {
        return;
    };
    let target = registered(&uffd, 2);
    let sink = fd::memfd(c"vswap-sink", libc::MFD_CLOEXEC).unwrap();
    let missing = target.slice(0, PAGE).unwrap();
    assert_eq!(fd::pwrite(sink, missing, 0), Err(Errno::EFAULT));
    assert_eq!(uffd.zeropage(target.addr(), PAGE), all(1));
    assert_eq!(fd::pwrite(sink, missing, 0), Ok(PAGE));
    assert_eq!(uffd.wait_fault(0), Ok(None));
    fd::close(sink);
}

/// A handler thread that serves missing pages of `target` by COPY of `source`,
/// and lifts write protection.
struct Handler {
    stop: Arc<AtomicBool>,
    missing: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Handler {
    fn start(uffd: Arc<Userfaultfd>, target: usize, source: usize) -> Handler {
        let stop = Arc::new(AtomicBool::new(false));
        let missing = Arc::new(AtomicUsize::new(0));
        let (stopped, copied) = (stop.clone(), missing.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                let Some(fault) = uffd.wait_fault(20).unwrap() else {
                    continue;
                };
                let run = uffd.copy(fault.addr, source + (fault.addr - target), PAGE);
                match run.error {
                    None => drop(copied.fetch_add(1, Ordering::Relaxed)),
                    // Another fault on the same page was served first.
                    Some(Errno::EEXIST) => uffd.wake(fault.addr, PAGE).unwrap(),
                    Some(other) => panic!("{other}"),
                }
            }
        });
        Handler {
            stop,
            missing,
            thread: Some(thread),
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_handler_thread_serves_every_byte_to_threads_and_system_calls() {
    const PAGES: usize = 512;
    let Some(uffd) = open_or_skip(UffdMode::Kernel, false) else {
        return;
    };
    let uffd = Arc::new(uffd);
    let source = pages(PAGES);
    (0..PAGES).for_each(|i| paint(&source, i, 6));
    let target = registered(&uffd, PAGES);
    let handler = Handler::start(uffd.clone(), target.addr(), source.addr());
    let (sink, last) = (
        fd::memfd(c"vswap-sink", libc::MFD_CLOEXEC).unwrap(),
        PAGES - 1,
    );
    let written = fd::pwrite(sink, target.slice(last * PAGE, PAGE).unwrap(), 0);
    assert_eq!(written, Ok(PAGE));
    let mut back = vec![0u8; PAGE];
    fd::pread(sink, &mut back, 0).unwrap();
    assert!(back == source.slice(last * PAGE, PAGE).unwrap());
    fd::close(sink);
    std::thread::scope(|scope| {
        let target = &target;
        for order in [1usize, 5, 7, 11] {
            scope.spawn(move || {
                for i in 0..PAGES {
                    let page = i * order % PAGES;
                    assert!(is_painted(target, page, page, 6));
                }
            });
        }
    });
    assert_eq!(handler.missing.load(Ordering::Relaxed), PAGES);
}

#[test]
fn an_unregistered_range_is_the_kernels_again() {
    let Some(uffd) = open_or_skip(UffdMode::UserOnly, false) else {
        return;
    };
    let target = registered(&uffd, 2);
    uffd.unregister(target.addr(), target.len()).unwrap();
    assert_eq!(target.slice(0, 1).unwrap()[0], 0);
    let source = pages(1);
    let run = uffd.copy(target.addr() + PAGE, source.addr(), PAGE);
    assert_eq!(run, stuck(0, Errno::ENOENT));
}

#[test]
fn a_lost_descriptor_comes_back_from_another_thread() {
    let Some(uffd) = open_or_skip(UffdMode::UserOnly, false) else {
        return;
    };
    let target = registered(&uffd, 1);
    // SAFETY: takes nothing, returns a number.
    let tid = unsafe { libc::gettid() };
    let again = match uffd.recover(tid) {
        Ok(again) => again,
        Err(error) => {
            eprintln!("skipped: pidfd_getfd of a thread ({error}; Linux 6.9)");
            return;
        }
    };
    drop(uffd);
    assert_eq!(again.zeropage(target.addr(), PAGE), all(1));
}

#[test]
fn only_features_that_exist_are_asked_for() {
    let every = u64::MAX;
    assert_eq!(
        features_to_ask(every, false, false),
        Ok(FEATURE_POISON | FEATURE_MOVE | FEATURE_THREAD_ID)
    );
    assert_eq!(
        features_to_ask(every, true, true),
        Ok(FEATURE_POISON | FEATURE_SIGBUS | FEATURE_THREAD_ID)
    );
    assert_eq!(
        features_to_ask(FEATURE_SIGBUS, true, false),
        Ok(FEATURE_SIGBUS)
    );
    assert_eq!(
        features_to_ask(FEATURE_MOVE, true, false),
        Err(OpenError::NoSigbus)
    );
    assert_eq!(features_to_ask(0, false, false), Ok(0));
}

#[test]
fn the_count_is_believed_before_the_errno() {
    let mut answers = vec![
        (10, Err(Errno::EAGAIN)),
        (-11, Err(Errno::EAGAIN)),
        (0, Err(Errno::EAGAIN)),
        (20, Err(Errno::EAGAIN)),
        (-2, Err(Errno::ENOENT)),
    ]
    .into_iter();
    let mut asked = Vec::new();
    let run = run_to_end(100, |done| {
        asked.push(done);
        answers.next().unwrap()
    });
    assert_eq!((run.done, run.error), (30, Some(Errno::ENOENT)));
    assert_eq!(asked, [0, 10, 10, 10, 30]);
}

#[test]
fn a_kernel_that_never_advances_is_given_up() {
    let mut steps = 0;
    let run = run_to_end(100, |_| {
        steps += 1;
        (-11, Err(Errno::EAGAIN))
    });
    assert_eq!((run.done, run.error), (0, Some(Errno::EAGAIN)));
    assert_eq!(steps, MAX_IDLE_RETRIES + 1);
    assert_eq!(run_to_end(100, |_| (0, Ok(()))).error, Some(Errno::EIO));
}
