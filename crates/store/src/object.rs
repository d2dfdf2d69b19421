//! The bytes of one object in a segment.
//!
//! ```text
//!  byte 0                          8          12
//!  +-------------------------------+----------+----------------------+
//!  | owner:41 len:13 codec:4 fl:6  | crc32c   | len stored bytes ... | padding to 4
//!  +-------------------------------+----------+----------------------+
//! ```
//! Both words are little endian. The checksum is the crc32c of the stored
//! bytes, begun from a value made of the header word: so it also notices a
//! damaged owner, length or codec, at no cost beyond one multiplication.
//! A header of all zeros is no object: every codec has a tag above 0.

use crate::{GRANULE_BYTES, OWNER_BITS};

/// Bytes before the stored bytes.
pub(crate) const HEADER_BYTES: usize = 12;
/// The longest stored form: a raw page.
pub(crate) const MAX_STORED: usize = vswap_units::PAGE_SIZE;
/// The longest object with its header.
pub(crate) const MAX_OBJECT: usize = HEADER_BYTES + MAX_STORED;

const LENGTH_SHIFT: u32 = OWNER_BITS;
const LENGTH_MASK: u64 = (1 << 13) - 1;
const CODEC_SHIFT: u32 = LENGTH_SHIFT + 13;
const CODEC_MASK: u64 = 0xf;
const FLAGS_SHIFT: u32 = CODEC_SHIFT + 4;
const OWNER_MASK: u64 = (1 << OWNER_BITS) - 1;

/// How the stored bytes were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tag {
    /// The page as it is.
    Raw = 1,
    /// One lz4 block.
    Lz4 = 2,
    /// One zstd frame.
    Zstd = 3,
}

impl Tag {
    const fn from_bits(bits: u64) -> Option<Self> {
        match bits {
            1 => Some(Self::Raw),
            2 => Some(Self::Lz4),
            3 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// The first word of an object, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The owner word: the reverse map, opaque here.
    pub(crate) owner: u64,
    /// Stored bytes, 1 to 4096.
    pub(crate) stored_bytes: u16,
    /// How they were made.
    pub(crate) tag: Tag,
}

impl Header {
    const fn word(self) -> u64 {
        (self.owner & OWNER_MASK)
            | (self.stored_bytes as u64 & LENGTH_MASK) << LENGTH_SHIFT
            | (self.tag as u64) << CODEC_SHIFT
    }

    const fn from_word(word: u64) -> Option<Self> {
        let stored_bytes = word >> LENGTH_SHIFT & LENGTH_MASK;
        let Some(tag) = Tag::from_bits(word >> CODEC_SHIFT & CODEC_MASK) else {
            return None;
        };
        // No flag has a meaning yet: a set one is damage, or a later version.
        let plain = word >> FLAGS_SHIFT == 0;
        let length_fits = match tag {
            Tag::Raw => stored_bytes as usize == MAX_STORED,
            Tag::Lz4 | Tag::Zstd => stored_bytes > 0 && (stored_bytes as usize) < MAX_STORED,
        };
        if !plain || !length_fits {
            return None;
        }
        Some(Self {
            owner: word & OWNER_MASK,
            stored_bytes: stored_bytes as u16,
            tag,
        })
    }

    /// Writes the header of an object whose stored bytes are already in place
    /// behind it. `None` when `object` is too short for what the header says.
    pub(crate) fn seal(self, object: &mut [u8]) -> Option<()> {
        let (head, body) = object.split_first_chunk_mut::<HEADER_BYTES>()?;
        let stored = body.get(..usize::from(self.stored_bytes))?;
        let word = self.word();
        let (word_part, crc_part) = head.split_first_chunk_mut::<8>()?;
        *word_part = word.to_le_bytes();
        *crc_part.first_chunk_mut::<4>()? = checksum(word, stored).to_le_bytes();
        Some(())
    }
}

/// One object as read: its header and its stored bytes, not yet verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a> {
    /// The header.
    pub(crate) header: Header,
    /// The stored bytes.
    pub(crate) stored: &'a [u8],
    word: u64,
    crc: u32,
}

impl<'a> Object<'a> {
    /// The object at the start of `bytes`; `None` when none can be there.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (word, rest) = bytes.split_first_chunk::<8>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let word = u64::from_le_bytes(*word);
        let header = Header::from_word(word)?;
        Some(Self {
            header,
            stored: rest.get(..usize::from(header.stored_bytes))?,
            word,
            crc: u32::from_le_bytes(*crc),
        })
    }

    /// Are header and stored bytes what was written?
    pub(crate) fn is_intact(&self) -> bool {
        checksum(self.word, self.stored) == self.crc
    }
}

/// Crc32c of `stored`, begun from a value that spreads every bit of `word`.
fn checksum(word: u64, stored: &[u8]) -> u32 {
    let seed = (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    crc32c::crc32c_append(seed, stored)
}

/// Granules an object with that many stored bytes takes.
pub(crate) const fn granules_of(stored_bytes: usize) -> usize {
    (HEADER_BYTES + stored_bytes).div_ceil(GRANULE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers() -> impl Strategy<Value = Header> {
        (0..=OWNER_MASK, 1u16..4096, 0..3u8).prop_map(|(owner, len, kind)| Header {
            owner,
            stored_bytes: if kind == 0 { 4096 } else { len },
            tag: [Tag::Raw, Tag::Lz4, Tag::Zstd][usize::from(kind)],
        })
    }

    fn sealed(header: Header, fill: u8) -> Vec<u8> {
        let mut bytes = vec![fill; HEADER_BYTES + usize::from(header.stored_bytes)];
        header.seal(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn a_header_survives_its_bytes(header in headers()) {
            prop_assert_eq!(Header::from_word(header.word()), Some(header));
        }

        #[test]
        fn a_sealed_object_parses_and_is_intact(header in headers(), fill: u8) {
            let bytes = sealed(header, fill);
            let object = Object::parse(&bytes).unwrap();
            prop_assert_eq!(object.header, header);
            prop_assert!(object.is_intact());
            prop_assert!(object.stored.iter().all(|&b| b == fill));
        }

        #[test]
        fn any_single_damaged_bit_is_noticed(header in headers(), fill: u8, bit: prop::sample::Index) {
            let mut bytes = sealed(header, fill);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!Object::parse(&bytes).is_some_and(|object| object.is_intact()));
        }

        #[test]
        fn any_bytes_can_be_parsed_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(object) = Object::parse(&bytes) {
                prop_assert!(object.stored.len() <= bytes.len());
            }
        }
    }

    #[test]
    fn zeros_are_no_object() {
        assert!(Object::parse(&[0; 8192]).is_none());
    }

    #[test]
    fn the_longest_object_takes_1027_granules() {
        assert_eq!(granules_of(MAX_STORED), 1027);
        assert_eq!(granules_of(4), 4);
        assert_eq!(granules_of(5), 5);
        assert_eq!(MAX_OBJECT, 4108);
    }

    #[test]
    fn the_checksum_is_crc32c() {
        // The check value of the polynomial, so that the seed is all we add.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }
}
