//! How long a thread may have the CPU at a time.

use core::mem::size_of;
use syscalls::Sysno;

use crate::{errno::Errno, sys};

/// The least the kernel takes.
const SHORT_SLICE_NS: u64 = 100_000;
/// `SCHED_OTHER` and `SCHED_BATCH`: the policies that have slices.
const WITH_SLICES: [u32; 2] = [0, 3];

/// The kernel's `struct sched_attr` in its first version.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    slice_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

const SIZE: u32 = size_of::<Attributes>() as u32;

/// Asks the scheduler for short slices: a thread that works in short bursts is
/// let on soon after it is woken, before others have used up their longer ones
/// (Linux 6.12 and newer; nothing happens on older kernels). It takes no more of
/// the CPU in all: policy and nice value stay as they are.
///
/// # Errors
/// The kernel's.
pub fn ask_for_short_slices() -> Result<(), Errno> {
    let current = attributes()?;
    if !WITH_SLICES.contains(&current.policy) {
        return Ok(());
    }
    let wanted = Attributes {
        size: SIZE,
        slice_ns: SHORT_SLICE_NS,
        ..current
    };
    let args = [0, core::ptr::from_ref(&wanted) as usize, 0, 0, 0, 0];
    // SAFETY: the kernel reads as many bytes as the size says.
    Errno::check(unsafe { sys::any(Sysno::sched_setattr, args) }).map(drop)
}

fn attributes() -> Result<Attributes, Errno> {
    let mut current = Attributes::default();
    let place = core::ptr::from_mut(&mut current) as usize;
    // SAFETY: the kernel writes no more bytes than it is told there are.
    Errno::check(unsafe { sys::any(Sysno::sched_getattr, [0, place, SIZE as usize, 0, 0, 0]) })?;
    Ok(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_asks_for_short_slices_is_as_nice_as_before() {
        std::thread::spawn(|| {
            // SAFETY: changes this thread's nice value.
            let set = unsafe { sys::any(Sysno::setpriority, [0, 0, 7, 0, 0, 0]) };
            assert_eq!(set, 0);
            let before = attributes().unwrap();
            assert_eq!(before.nice, 7);
            ask_for_short_slices().unwrap();
            let after = attributes().unwrap();
            // Kernels before 6.12 tell of no slice.
            let tells = after.slice_ns != 0;
            assert!(!tells || after.slice_ns == SHORT_SLICE_NS);
            let slice_ns = before.slice_ns;
            assert_eq!(Attributes { slice_ns, ..after }, before);
        })
        .join()
        .unwrap();
    }
}
