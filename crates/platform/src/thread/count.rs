//! A process ends with the last of its threads, and ours must not keep it.
//!
//! The C library counts its threads, and the one that takes the count to 0 calls `exit(0)`: that is how a program
//! ends whose first thread has said `pthread_exit`, and a child that was forked by a thread which then returns. Our
//! threads never end by themselves, so while they are counted no such program ends at all. So they are left out.
//!
//! The count is the one that debuggers read (libthread_db), found as they find it: by name, with a description of its
//! size. Where there is none nothing is changed.

use core::ffi::{CStr, c_void};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::sync::swap_signal_mask;

/// The C library's count of its threads; null where it is not known.
static COUNT: AtomicPtr<AtomicU32> = AtomicPtr::new(core::ptr::null_mut());

/// What a debugger is told of the count: a number of 32 bits, one of them, at its beginning.
const PLAIN_U32: [u32; 3] = [32, 1, 0];

/// Finds the count. To be called where the loader may be asked, before the first thread of ours.
pub fn find() {
    let description = named(c"_thread_db___nptl_nthreads").cast::<[u32; 3]>();
    // SAFETY: null, or the C library's constant of that name, which is three words.
    if unsafe { description.as_ref() } == Some(&PLAIN_U32) {
        COUNT.store(named(c"__nptl_nthreads").cast(), Ordering::Release);
    }
}

fn named(name: &CStr) -> *mut c_void {
    // SAFETY: a C string; RTLD_NEXT is valid in a shared library, and in an executable too.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

fn count() -> Option<&'static AtomicU32> {
    // SAFETY: null, or the C library's own, which lives as long as the process and is changed by atomic operations only.
    unsafe { COUNT.load(Ordering::Acquire).as_ref() }
}

/// Makes a thread of ours by `create`, which the C library counts, without its being counted.
///
/// The count is too high meanwhile and never too low: a thread of ours that ends at the same time ([`ends`]) is
/// counted out by the C library, and would take a number that is too low to 0 while the program runs.
pub(super) fn leaving_out<E>(create: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    let Some(count) = count() else {
        return create();
    };
    // Held by one, so that a program whose last thread ends meanwhile is ended here and nowhere else.
    if count.fetch_add(1, Ordering::AcqRel) == 0 {
        // It has ended, and what it registered for the end is being called. So the count stays above 0.
        return create();
    }
    let created = create();
    let ours = 1 + u32::from(created.is_ok());
    if count.fetch_sub(ours, Ordering::AcqRel) == ours {
        end_in_a_thread_of_the_programs_kind();
    }
    created
}

/// Calls `exit(0)`, as the program's last thread would have: its handlers may fault and take signals, which threads
/// of ours must not.
fn end_in_a_thread_of_the_programs_kind() {
    extern "C" fn last(_: *mut c_void) -> *mut c_void {
        swap_signal_mask(0);
        // SAFETY: no thread of the program is left, and nobody else ends the process.
        unsafe { libc::exit(0) }
    }
    let mut handle = 0;
    // SAFETY: a function of the right kind that takes nothing; the handle is not used.
    let failed = unsafe {
        libc::pthread_create(
            &raw mut handle,
            core::ptr::null(),
            last,
            core::ptr::null_mut(),
        )
    };
    if failed != 0 {
        last(core::ptr::null_mut());
    }
}

/// As its last act, in a thread of ours: the C library is about to count it out.
pub(super) fn ends() {
    let Some(count) = count() else { return };
    if count.fetch_add(1, Ordering::AcqRel) == 0 {
        // The program's last thread is ending the process already; ours must not do so a second time.
        count.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threads_of_the_engine_are_not_counted_as_the_programs() {
        find();
        let Some(count) = count() else {
            if cfg!(target_env = "gnu") {
                panic!("glibc has a count");
            }
            return;
        };
        // Other tests have threads too, so the program's own thread is told apart by many of ours.
        const MANY: usize = 40;
        let before = count.load(Ordering::Relaxed);
        let threads: Vec<_> = (0..MANY)
            .map(|_| super::super::spawn("vswap-test", None, wait_for_the_end, 0).unwrap())
            .collect();
        let during = count.load(Ordering::Relaxed);
        END.signal();
        for thread in threads {
            thread.join().unwrap();
        }
        let after = count.load(Ordering::Relaxed);
        assert!(during < before + MANY as u32 / 2, "{before} {during}");
        assert!(after + MANY as u32 / 2 > before, "{before} {after}");
    }

    /// Tells the test below that it is alone in its process: other tests come and go with threads of their own.
    const ALONE: &str = "VSWAP_TEST_ALONE";

    #[test]
    fn the_count_is_never_below_the_programs_threads_while_ours_come_and_go() {
        let path = module_path!().split_once("::").unwrap().1;
        let name =
            format!("{path}::the_count_is_never_below_the_programs_threads_while_ours_come_and_go");
        if std::env::var_os(ALONE).is_none() {
            let mut again = std::process::Command::new(std::env::current_exe().unwrap());
            let done = again
                .args([&*name, "--exact", "--test-threads=1"])
                .env(ALONE, "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&done.stdout).into_owned();
            assert!(done.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        find();
        let Some(count) = count() else { return };
        let come_and_go = || {
            for _ in 0..2000 {
                let ours = super::super::spawn("vswap-test", None, |_| (), 0).unwrap();
                ours.join().unwrap();
            }
        };
        let programs = count.load(Ordering::Relaxed) + 1;
        std::thread::scope(|scope| {
            let ours = scope.spawn(come_and_go);
            while !ours.is_finished() {
                assert!(count.load(Ordering::Relaxed) >= programs || ours.is_finished());
            }
        });
    }

    static END: crate::sync::Event = crate::sync::Event::new();

    fn wait_for_the_end(_: usize) {
        assert!(END.wait_past(0, 10_000_000_000));
    }
}
