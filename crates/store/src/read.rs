//! Reading: from RAM in place, from a device just the covering bytes.
//!
//! From RAM: count in on the slot, look at the word again, decode out of the
//! slot, count out. Writeback flips the word first and then waits for the count,
//! so either the reader sees the flip or writeback sees the reader.
//! From a device: read, verify, look at the word again. A place is given back
//! only after its word changed, so an unchanged word means the right bytes.

use vswap_units::PAGE_SIZE;

use crate::codec::{IO_BYTES, Workspace};
use crate::error::StoreError;
use crate::location::Stored;
use crate::object::{HEADER_BYTES, MAX_STORED, Object};
use crate::ram::Reading;
use crate::segment::Segment;
use crate::store::Store;
use crate::word::{Place, Rest, Word};
use crate::{GRANULE_BYTES, SEGMENT_BYTES};

/// One object to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadItem {
    /// Where it is.
    pub at: Stored,
    /// Whose it is.
    pub owner: u64,
}

impl ReadItem {
    pub(crate) const fn corrupt(&self) -> StoreError {
        StoreError::Corrupt {
            owner: self.owner,
            location: self.at.location,
        }
    }

    /// Its bytes in the segment, header included.
    pub(crate) fn span(&self) -> Option<(usize, usize)> {
        let start = self.at.location.offset();
        let length = HEADER_BYTES + usize::from(self.at.stored_bytes);
        let valid = (1..=MAX_STORED).contains(&usize::from(self.at.stored_bytes));
        (valid && start + length <= SEGMENT_BYTES).then_some((start, start + length))
    }
}

impl Store {
    /// Reads one page. **Context**: the owner keeps the object meanwhile;
    /// signal-safe; allocates nothing; does I/O when the segment is on a device.
    /// What is in `out` after an error is nothing to be used.
    ///
    /// # Errors
    /// `Corrupt`: the bytes are not those that were stored. `Io`: the device failed.
    pub fn read(
        &self,
        at: Stored,
        owner: u64,
        out: &mut [u8],
        ws: &mut Workspace,
    ) -> Result<(), StoreError> {
        let item = ReadItem { at, owner };
        let row = self.row(&item)?;
        loop {
            let word = row.word.load();
            match word.rest() {
                Rest::Nowhere => return Err(item.corrupt()),
                Rest::Ram(slot) => {
                    if let Some(_reading) = self.enter_ram(row, slot, word) {
                        row.touch();
                        return self.decode_in_ram(&item, slot, out, ws);
                    }
                }
                Rest::Device(place) => {
                    let read = self.read_place(&item, place, out, ws);
                    if row.word.load().same_place(word) {
                        return read;
                    }
                }
            }
        }
    }

    /// Reads several pages, neighbours on a device with one I/O. `outs` and
    /// `results` go with `items`, at most 16 at a time; each result is as from
    /// [`Store::read`]. **Context**: as [`Store::read`].
    pub fn read_many(
        &self,
        items: &[ReadItem],
        outs: &mut [&mut [u8]],
        results: &mut [Result<(), StoreError>],
        ws: &mut Workspace,
    ) {
        let mut left = LeftToRead::new(items.len());
        while let Some(first) = left.first() {
            let Some((word, span)) = items.get(first).and_then(|item| self.device_span(item))
            else {
                self.read_nth(first, items, outs, results, ws);
                left.done(first);
                continue;
            };
            let run = Run::gather(self, items, left, word, first, span);
            if run.count() == 1 || !self.read_run(&run, items, outs, results, ws) {
                // Alone, moved meanwhile or failed: one by one finds out which.
                run.each(|i| self.read_nth(i, items, outs, results, ws));
            }
            run.each(|i| left.done(i));
        }
    }

    /// Is the object in RAM now? A hint: it may move at once.
    #[must_use]
    pub fn is_in_ram(&self, at: Stored) -> bool {
        let word = self
            .table
            .get(at.location.segment)
            .map(|row| row.word.load());
        matches!(word.map(Word::rest), Some(Rest::Ram(_)))
    }

    /// The object is about to be read: brings its bytes near, if they are in RAM.
    pub fn prefetch(&self, at: Stored) {
        let row = self.table.get(at.location.segment);
        if let Some(Rest::Ram(slot)) = row.map(|row| row.word.load().rest()) {
            let bytes = HEADER_BYTES + usize::from(at.stored_bytes);
            self.ram.prefetch(slot, at.location.offset(), bytes);
        }
    }

    /// The device the object is on now, by its number. A hint: it may move at once.
    #[must_use]
    pub fn device_of(&self, at: Stored) -> Option<u8> {
        let row = self.table.get(at.location.segment)?;
        match row.word.load().rest() {
            Rest::Device(place) => Some(place.device),
            Rest::Nowhere | Rest::Ram(_) => None,
        }
    }

    fn row(&self, item: &ReadItem) -> Result<&Segment, StoreError> {
        self.table
            .get(item.at.location.segment)
            .ok_or(item.corrupt())
    }

    /// Counts in on the slot, if the segment is still there.
    #[inline]
    pub(crate) fn enter_ram(&self, row: &Segment, slot: u32, word: Word) -> Option<Reading<'_>> {
        let reading = self.ram.enter(slot)?;
        (row.word.load().same_place(word)).then_some(reading)
    }

    #[inline]
    fn decode_in_ram(
        &self,
        item: &ReadItem,
        slot: u32,
        out: &mut [u8],
        ws: &mut Workspace,
    ) -> Result<(), StoreError> {
        let (start, end) = item.span().ok_or(item.corrupt())?;
        let bytes = self
            .ram
            .bytes(slot, start, end - start)
            .ok_or(item.corrupt())?;
        decode(item, bytes, self.verify_ram, out, ws)
    }

    fn read_place(
        &self,
        item: &ReadItem,
        place: Place,
        out: &mut [u8],
        ws: &mut Workspace,
    ) -> Result<(), StoreError> {
        let (start, end) = item.span().ok_or(item.corrupt())?;
        let segment = item.at.location.segment;
        self.read_covering(segment, place, start, end, ws)?;
        match decode_from_io(item, start, out, ws) {
            Err(StoreError::Corrupt { .. }) => {
                // Damaged on the way, or what was read ahead is: the device itself
                // is asked once more before a page is given up.
                self.readahead.forget(segment);
                self.read_bytes(segment, place, start, end, ws)?;
                decode_from_io(item, start, out, ws)
            }
            read => read,
        }
    }

    /// [`Store::read_bytes`] for a fault: out of what was read ahead where it is
    /// there, and reading ahead where that has become worth it.
    fn read_covering(
        &self,
        segment: u32,
        place: Place,
        start: usize,
        end: usize,
        ws: &Workspace,
    ) -> Result<(), StoreError> {
        let first = start / PAGE_SIZE * PAGE_SIZE;
        let length = end.next_multiple_of(PAGE_SIZE) - first;
        let buffer = ws.io.slice_mut(0, length).ok_or(StoreError::NoRoom)?;
        let row = self.table.get(segment);
        let word = row.inspect(|row| row.touch()).map(|row| row.word.load());
        let Some(word) = word.filter(|word| word.rest() == Rest::Device(place)) else {
            return self.read_bytes(segment, place, start, end, ws);
        };
        if self.readahead.copy(segment, word, first, buffer) {
            return Ok(());
        }
        let fetched = self.readahead.is_worth_it(segment)
            && self.readahead.fetch(segment, word, |whole| {
                self.read_whole(segment, place, whole)
            }) == Ok(true);
        if fetched && self.readahead.copy(segment, word, first, buffer) {
            return Ok(());
        }
        self.read_bytes(segment, place, start, end, ws)
    }

    /// What was written of a segment: a file may end there.
    fn read_whole(&self, segment: u32, place: Place, whole: &mut [u8]) -> Result<(), StoreError> {
        let used = self.table.get(segment).map_or(0, Segment::used) as usize * GRANULE_BYTES;
        let written = whole.get_mut(..used.next_multiple_of(PAGE_SIZE));
        let written = written.ok_or(StoreError::NoRoom)?;
        self.read_device(segment, place, 0, written)
    }

    /// A read that is counted. One that failed because the segment has moved on
    /// is no error of the device's.
    pub(crate) fn read_device(
        &self,
        segment: u32,
        place: Place,
        offset: usize,
        out: &mut [u8],
    ) -> Result<(), StoreError> {
        let read = self.devices.read(place, offset, out);
        let here = |row: &Segment| row.word.load().rest() == Rest::Device(place);
        match read {
            Ok(()) => {
                self.counters.device_read_calls.inc();
                self.counters.device_read_bytes.add(out.len() as u64);
            }
            Err(_) if self.table.get(segment).is_some_and(here) => {
                self.counters.device_errors.inc();
                self.devices.count_error(place);
            }
            Err(_) => {}
        }
        read.map_err(StoreError::Io)
    }

    /// Reads the blocks that cover `start..end` of a place to the start of the
    /// workspace's buffer.
    pub(crate) fn read_bytes(
        &self,
        segment: u32,
        place: Place,
        start: usize,
        end: usize,
        ws: &Workspace,
    ) -> Result<(), StoreError> {
        let first = start / PAGE_SIZE * PAGE_SIZE;
        let length = end.next_multiple_of(PAGE_SIZE) - first;
        let buffer = ws.io.slice_mut(0, length).ok_or(StoreError::NoRoom)?;
        self.read_device(segment, place, first, buffer)
    }

    /// The word and the span of an item that is on a device now.
    fn device_span(&self, item: &ReadItem) -> Option<(Word, (usize, usize))> {
        let word = self.row(item).ok()?.word.load();
        match word.rest() {
            Rest::Device(_) => Some((word, item.span()?)),
            Rest::Ram(_) | Rest::Nowhere => None,
        }
    }

    fn read_nth(
        &self,
        i: usize,
        items: &[ReadItem],
        outs: &mut [&mut [u8]],
        results: &mut [Result<(), StoreError>],
        ws: &mut Workspace,
    ) {
        if let (Some(item), Some(out), Some(result)) =
            (items.get(i), outs.get_mut(i), results.get_mut(i))
        {
            *result = self.read(item.at, item.owner, out, ws);
        }
    }

    /// One I/O for a run. False: nothing is known, read them one by one.
    fn read_run(
        &self,
        run: &Run,
        items: &[ReadItem],
        outs: &mut [&mut [u8]],
        results: &mut [Result<(), StoreError>],
        ws: &mut Workspace,
    ) -> bool {
        let Rest::Device(place) = run.word.rest() else {
            return false;
        };
        let read = self.read_covering(run.segment, place, run.start, run.end, ws);
        if read.is_err() {
            return false;
        }
        let mut all_read = true;
        run.each(|i| {
            if let (Some(item), Some(out), Some(result)) =
                (items.get(i), outs.get_mut(i), results.get_mut(i))
            {
                *result = decode_from_io(item, run.start, out, ws);
                all_read &= result.is_ok();
            }
        });
        let row = self.table.get(run.segment);
        all_read && row.is_some_and(|row| row.word.load().same_place(run.word))
    }
}

/// The object of `item` out of the buffer that [`Store::read_bytes`] filled
/// from `start` of the segment.
fn decode_from_io(
    item: &ReadItem,
    start: usize,
    out: &mut [u8],
    ws: &mut Workspace,
) -> Result<(), StoreError> {
    let base = start / PAGE_SIZE * PAGE_SIZE;
    let (from, to) = item.span().ok_or(item.corrupt())?;
    let Workspace { codec, io, .. } = ws;
    let bytes = from
        .checked_sub(base)
        .and_then(|at| io.slice(at, to - from))
        .ok_or(item.corrupt())?;
    let object = checked(item, bytes, true)?;
    codec
        .decode(object.header.tag, object.stored, out)
        .ok_or(item.corrupt())
}

#[inline]
fn decode(
    item: &ReadItem,
    bytes: &[u8],
    verify: bool,
    out: &mut [u8],
    ws: &mut Workspace,
) -> Result<(), StoreError> {
    let object = checked(item, bytes, verify)?;
    ws.codec
        .decode(object.header.tag, object.stored, out)
        .ok_or(item.corrupt())
}

/// The object, if it is the one that was stored.
#[inline]
pub(crate) fn checked<'a>(
    item: &ReadItem,
    bytes: &'a [u8],
    verify: bool,
) -> Result<Object<'a>, StoreError> {
    let object = Object::parse(bytes).ok_or(item.corrupt())?;
    let ours =
        object.header.owner == item.owner && object.header.stored_bytes == item.at.stored_bytes;
    if !ours || (verify && !object.is_intact()) {
        return Err(item.corrupt());
    }
    Ok(object)
}

/// Which of up to 16 items are still to be read, one bit each.
#[derive(Clone, Copy)]
struct LeftToRead(u16);

impl LeftToRead {
    fn new(count: usize) -> Self {
        debug_assert!(count <= 16);
        Self(if count >= 16 {
            u16::MAX
        } else {
            (1 << count) - 1
        })
    }

    const fn first(self) -> Option<usize> {
        if self.0 == 0 {
            None
        } else {
            Some(self.0.trailing_zeros() as usize)
        }
    }

    const fn has(self, i: usize) -> bool {
        i < 16 && self.0 >> i & 1 != 0
    }

    const fn done(&mut self, i: usize) {
        self.0 &= !(1 << i);
    }
}

/// Items near each other in one segment on a device.
struct Run {
    word: Word,
    segment: u32,
    members: u16,
    start: usize,
    end: usize,
}

impl Run {
    /// Takes everything in the segment of `first` that still fits one buffer.
    fn gather(
        store: &Store,
        items: &[ReadItem],
        left: LeftToRead,
        word: Word,
        first: usize,
        span: (usize, usize),
    ) -> Self {
        let segment = items.get(first).map_or(0, |item| item.at.location.segment);
        let mut run = Self {
            word,
            segment,
            members: 1 << first,
            start: span.0,
            end: span.1,
        };
        for (i, item) in items.iter().enumerate().skip(first + 1) {
            let near = item.at.location.segment == segment && left.has(i);
            if let Some((at, (start, end))) = near.then(|| store.device_span(item)).flatten()
                && at.same_place(word)
            {
                run.extend(i, start, end);
            }
        }
        run
    }

    fn extend(&mut self, i: usize, start: usize, end: usize) {
        let (start, end) = (start.min(self.start), end.max(self.end));
        // Reading far between neighbours costs more than a second I/O.
        let blocks = end.next_multiple_of(PAGE_SIZE) - start / PAGE_SIZE * PAGE_SIZE;
        if blocks <= IO_BYTES {
            (self.start, self.end) = (start, end);
            self.members |= 1 << i;
        }
    }

    const fn count(&self) -> u32 {
        self.members.count_ones()
    }

    fn each(&self, mut call: impl FnMut(usize)) {
        (0..16)
            .filter(|i| self.members >> i & 1 != 0)
            .for_each(&mut call);
    }
}
