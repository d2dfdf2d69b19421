//! The codec in force, and the workspace a thread brings along to use it.

use core::sync::atomic::{AtomicUsize, Ordering};

use vswap_platform::codec::{Lz4, Zstd};
use vswap_platform::map::AnonMap;
use vswap_units::PAGE_SIZE;

use crate::error::StoreError;
use crate::object::{HEADER_BYTES, Header, MAX_OBJECT, MAX_STORED, Tag};

/// A page that does not get this much shorter is stored raw: decoding would
/// cost more than the bytes are worth.
const WORTHWHILE: usize = PAGE_SIZE - 64;
/// A page that stays longer than this gains nothing in RAM: the log is 85 % full
/// at best, and each object has a header.
const WORTHWHILE_IN_RAM: usize = PAGE_SIZE / 16 * 13;
/// With this much room lz4 (4128) and zstd (4112) cannot fail, and lz4 takes
/// its path without bounds checks.
const COMPRESS_BOUND: usize = PAGE_SIZE + 64;
/// Where an object is packed when the open segment's tail is short.
const ASIDE_BYTES: usize = 2 * PAGE_SIZE;
/// One read from a device: 16 raw neighbours with their headers, and the ends
/// of the first and last block.
pub(crate) const IO_BYTES: usize = (16 * (MAX_OBJECT + 4)).next_multiple_of(PAGE_SIZE) + PAGE_SIZE;

/// Which codec new objects are written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CodecKind {
    /// Fast: about 2 µs per page.
    #[default]
    Lz4,
    /// Smaller, at this level.
    Zstd(i32),
    /// Pages are kept as they are: for measuring everything else.
    Raw,
}

/// The codec states: lz4 always (its state is 16 KiB), zstd when chosen.
#[derive(Debug)]
pub(crate) struct Codec {
    lz4: Lz4,
    zstd: Option<Zstd>,
    /// Compresses nothing.
    raw: bool,
}

/// Codec states and buffers of one worker, made up front so that nothing is
/// allocated on a fault. A workspace is used by one thread at a time.
#[derive(Debug)]
pub struct Workspace {
    pub(crate) codec: Codec,
    pub(crate) aside: AnonMap,
    /// For reads from a device: [`IO_BYTES`], page aligned.
    pub(crate) io: AnonMap,
    lane: usize,
    refuses_raw: bool,
    prefers_slots: bool,
}

impl Workspace {
    /// Makes one. Its memory is touched only when used. `None` without address
    /// space.
    #[must_use]
    pub fn new(kind: CodecKind) -> Option<Self> {
        // Workspaces spread over the open segments in the order they are made.
        static NEXT_LANE: AtomicUsize = AtomicUsize::new(0);
        let zstd = match kind {
            CodecKind::Lz4 | CodecKind::Raw => None,
            CodecKind::Zstd(level) => Some(Zstd::new(level).ok()?),
        };
        Some(Self {
            codec: Codec {
                lz4: Lz4::new().ok()?,
                zstd,
                raw: kind == CodecKind::Raw,
            },
            aside: AnonMap::new(ASIDE_BYTES, PAGE_SIZE).ok()?,
            io: AnonMap::new(IO_BYTES, PAGE_SIZE).ok()?,
            lane: NEXT_LANE.fetch_add(1, Ordering::Relaxed),
            refuses_raw: false,
            prefers_slots: false,
        })
    }

    /// The open segment this workspace appends to, before the store's modulus.
    pub(crate) const fn lane(&self) -> usize {
        self.lane
    }

    /// From now on pages that hardly shrink are refused (where no device would
    /// take them) instead of stored raw.
    pub const fn set_refuses_raw(&mut self, refuses: bool) {
        self.refuses_raw = refuses;
    }

    /// From now on pages go to plain slots where they may, also those that compress: the log has its share of RAM.
    pub const fn set_prefers_slots(&mut self, prefers: bool) {
        self.prefers_slots = prefers;
    }

    /// See [`Workspace::set_prefers_slots`].
    #[must_use]
    pub const fn prefers_slots(&self) -> bool {
        self.prefers_slots
    }

    /// [`Codec::pack`] straight into `out`, the tail of an open segment.
    ///
    /// # Errors
    /// `Incompressible`, where such pages are refused.
    pub(crate) fn pack(
        &mut self,
        owner: u64,
        page: &[u8],
        out: &mut [u8],
    ) -> Result<u16, StoreError> {
        let stored_bytes = self
            .codec
            .pack(owner, page, out)
            .ok_or(StoreError::NoRoom)?;
        worthwhile(stored_bytes, self.refuses_raw)
    }

    /// [`Codec::pack`] into the buffer of the workspace; returns the object
    /// with its header, and its stored length.
    ///
    /// # Errors
    /// `Incompressible`, where such pages are refused.
    pub(crate) fn pack_aside(
        &mut self,
        owner: u64,
        page: &[u8],
    ) -> Result<(&[u8], u16), StoreError> {
        let aside = self
            .aside
            .slice_mut(0, ASIDE_BYTES)
            .ok_or(StoreError::NoRoom)?;
        let stored_bytes = self
            .codec
            .pack(owner, page, aside)
            .ok_or(StoreError::NoRoom)?;
        worthwhile(stored_bytes, self.refuses_raw)?;
        let length = HEADER_BYTES + usize::from(stored_bytes);
        let object = self.aside.slice(0, length).ok_or(StoreError::NoRoom)?;
        Ok((object, stored_bytes))
    }

    /// The same for a page that compresses; `None` for another.
    pub(crate) fn pack_shorter_aside(&mut self, owner: u64, page: &[u8]) -> Option<(&[u8], u16)> {
        let stored_bytes =
            self.codec
                .pack_shorter(owner, page, self.aside.slice_mut(0, ASIDE_BYTES)?)?;
        let length = HEADER_BYTES + usize::from(stored_bytes);
        Some((self.aside.slice(0, length)?, stored_bytes))
    }
}

#[inline]
fn worthwhile(stored_bytes: u16, refuses_raw: bool) -> Result<u16, StoreError> {
    if refuses_raw && usize::from(stored_bytes) > WORTHWHILE_IN_RAM {
        Err(StoreError::Incompressible)
    } else {
        Ok(stored_bytes)
    }
}

impl Codec {
    /// Makes the object of `page` at the start of `out`, which must have room
    /// for the longest one, and returns its stored length.
    #[inline]
    pub(crate) fn pack(&mut self, owner: u64, page: &[u8], out: &mut [u8]) -> Option<u16> {
        let body = out.get_mut(HEADER_BYTES..)?;
        let room = body.len().min(COMPRESS_BOUND);
        let header = match self.compress(page, body.get_mut(..room)?) {
            Some((tag, stored_bytes)) => Header {
                owner,
                stored_bytes,
                tag,
            },
            None => {
                body.get_mut(..MAX_STORED)?.copy_from_slice(page);
                Header {
                    owner,
                    stored_bytes: MAX_STORED as u16,
                    tag: Tag::Raw,
                }
            }
        };
        header.seal(out)?;
        Some(header.stored_bytes)
    }

    /// [`Codec::pack`] of a page that compresses; `None` for another.
    fn pack_shorter(&mut self, owner: u64, page: &[u8], out: &mut [u8]) -> Option<u16> {
        let body = out.get_mut(HEADER_BYTES..)?;
        let room = body.len().min(COMPRESS_BOUND);
        let (tag, stored_bytes) = self.compress(page, body.get_mut(..room)?)?;
        let header = Header {
            owner,
            stored_bytes,
            tag,
        };
        header.seal(out)?;
        Some(stored_bytes)
    }

    /// `None` when the page is better stored raw.
    #[inline]
    fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<(Tag, u16)> {
        if self.raw {
            return None;
        }
        let (tag, length) = match &mut self.zstd {
            Some(zstd) => (Tag::Zstd, zstd.compress(page, out)?),
            None => (Tag::Lz4, self.lz4.compress(page, out)?),
        };
        if length >= WORTHWHILE {
            return None;
        }
        Some((tag, u16::try_from(length).ok()?))
    }

    /// Decodes stored bytes into a page. `None` when they are no page.
    #[inline]
    pub(crate) fn decode(&mut self, tag: Tag, stored: &[u8], out: &mut [u8]) -> Option<()> {
        let length = match tag {
            Tag::Raw => {
                out.get_mut(..stored.len())?.copy_from_slice(stored);
                stored.len()
            }
            Tag::Lz4 => Lz4::decompress(stored, out)?,
            Tag::Zstd => self.zstd.as_mut()?.decompress(stored, out)?,
        };
        (length == PAGE_SIZE).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Object;

    fn round_trip(kind: CodecKind, page: &[u8]) -> Tag {
        let mut ws = Workspace::new(kind).unwrap();
        let mut object = vec![0; MAX_OBJECT];
        let length = ws.codec.pack(7, page, &mut object).unwrap();
        let parsed = Object::parse(&object).unwrap();
        assert!(parsed.is_intact());
        assert_eq!(
            (parsed.header.owner, parsed.header.stored_bytes),
            (7, length)
        );
        let mut out = vec![1; PAGE_SIZE];
        ws.codec
            .decode(parsed.header.tag, parsed.stored, &mut out)
            .unwrap();
        assert_eq!(out, page);
        parsed.header.tag
    }

    #[test]
    fn a_page_that_does_not_shrink_is_stored_raw() {
        let noise = crate::testing::noise_page(1);
        assert_eq!(round_trip(CodecKind::Lz4, &noise), Tag::Raw);
        assert_eq!(round_trip(CodecKind::Zstd(1), &noise), Tag::Raw);
    }

    #[test]
    fn a_page_that_hardly_shrinks_is_refused_where_that_was_asked_for() {
        let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
        ws.set_refuses_raw(true);
        let mut object = vec![0; MAX_OBJECT];
        let noise = crate::testing::noise_page(1);
        assert_eq!(
            ws.pack(7, &noise, &mut object),
            Err(StoreError::Incompressible)
        );
        assert!(
            ws.pack(7, &crate::testing::text_page(1), &mut object)
                .is_ok()
        );
        ws.set_refuses_raw(false);
        assert_eq!(ws.pack(7, &noise, &mut object), Ok(4096));
    }

    #[test]
    fn a_page_that_shrinks_is_compressed() {
        let text = crate::testing::text_page(1);
        assert_eq!(round_trip(CodecKind::Lz4, &text), Tag::Lz4);
        assert_eq!(round_trip(CodecKind::Zstd(3), &text), Tag::Zstd);
    }

    #[test]
    fn what_does_not_decode_to_a_page_is_refused() {
        let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
        let mut out = vec![0; PAGE_SIZE];
        assert_eq!(ws.codec.decode(Tag::Raw, &[1, 2, 3], &mut out), None);
        assert_eq!(ws.codec.decode(Tag::Lz4, &[0xff; 40], &mut out), None);
        assert_eq!(ws.codec.decode(Tag::Zstd, &[0; 40], &mut out), None);
    }
}
