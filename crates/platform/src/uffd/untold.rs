//! Pages that MOVE moved and did not count.
//!
//! Linux 6.18 moves neighbours in batches, and after it has once tried again (the
//! first page of a batch was migrated meanwhile, or its accessed bit changed) it
//! forgets to count the batch that went well: `move_pages` of mm/userfaultfd.c keeps the
//! EAGAIN, goes over the same pages again, finds their places taken, and says EEXIST
//! where it had moved up to the rest of the run. (Kernels before do not batch; later
//! ones forget the EAGAIN.) Whoever believes that count loses pages: each end of the
//! move is booked as it was before.
//!
//! So EEXIST is looked into: a page that is at its destination and no longer at its
//! source was moved. Nobody else can have brought both about, because the caller
//! owns both ends and the destination was missing when it asked.

use vswap_units::PAGE_SIZE;

use crate::pagemap;

/// Pages asked about at a time.
const MOST: usize = 16;

/// How many bytes from the start of a run that ended in EEXIST were moved
/// nevertheless; at most [`MOST`] pages. 0 where that cannot be found out.
pub(super) fn moved(dst: usize, src: usize, len: usize) -> usize {
    let len = len.min(MOST * PAGE_SIZE);
    let (mut there, mut left) = ([0u8; MOST], [0u8; MOST]);
    let asked =
        pagemap::holding(dst, len, &mut there).and_then(|()| pagemap::holding(src, len, &mut left));
    if asked.is_err() {
        return 0;
    }
    let pages = there.iter().zip(&left).take(len / PAGE_SIZE);
    let gone = pages.take_while(|(there, left)| **there & 1 != 0 && **left & 1 == 0);
    gone.count() * PAGE_SIZE
}
