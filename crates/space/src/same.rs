//! Pages of one repeated 64-bit word: told apart from others fast, and kept in the descriptor alone.
//!
//! The word has to fit in the 58 bits a descriptor has to spare, so only words with some redundancy are kept this way:
//! small numbers, negative numbers, addresses, floats with short mantissas (0.5, 1.0, NaN), and anything whose two halves are
//! equal (every 32-bit fill). That is nearly all of what programs fill memory with, and it costs no table, no lock and no
//! reference count. Another word (a page full of the double 0.1) is compressed like any page, to some 30 bytes.

/// Bits a packed word needs.
pub(crate) const PACKED_BITS: u32 = 58;

const VALUE_BITS: u32 = 56;
const VALUE_MASK: u64 = (1 << VALUE_BITS) - 1;
/// The top byte is 0: zero, counts, user-space addresses.
const KIND_SMALL: u64 = 0;
/// The top byte is 0xff: all ones, small negative numbers.
const KIND_NEGATIVE: u64 = 1;
/// The low byte is 0: doubles with a short mantissa.
const KIND_HIGH: u64 = 2;
/// Both halves are equal.
const KIND_HALVES: u64 = 3;

/// Packs a fill word into [`PACKED_BITS`] bits, if it has one of the forms that fit.
pub(crate) const fn pack(word: u64) -> Option<u64> {
    let (kind, value) = if word >> VALUE_BITS == 0 {
        (KIND_SMALL, word)
    } else if word >> VALUE_BITS == 0xff {
        (KIND_NEGATIVE, word & VALUE_MASK)
    } else if word & 0xff == 0 {
        (KIND_HIGH, word >> 8)
    } else if word >> 32 == word & 0xffff_ffff {
        (KIND_HALVES, word & 0xffff_ffff)
    } else {
        return None;
    };
    Some(kind << VALUE_BITS | value)
}

/// The fill word that was packed.
pub(crate) const fn unpack(packed: u64) -> u64 {
    let value = packed & VALUE_MASK;
    match packed >> VALUE_BITS & 3 {
        KIND_SMALL => value,
        KIND_NEGATIVE => value | !VALUE_MASK,
        KIND_HIGH => value << 8,
        _ => value << 32 | value,
    }
}

/// The word the whole page repeats, if it does.
///
/// Most pages that do not repeat already differ between their first and last word, so that is looked at first; the rest is
/// compared 64 bytes at a time, a step the compiler turns into vector instructions.
#[must_use]
pub fn repeated_word(page: &[u8]) -> Option<u64> {
    let first: [u8; 8] = *page.first_chunk()?;
    if page.last_chunk()? != &first {
        return None;
    }
    let word = u64::from_ne_bytes(first);
    let (blocks, rest) = page.as_chunks::<64>();
    (rest.is_empty() && blocks.iter().all(|block| block_repeats(block, word))).then_some(word)
}

/// The word that a descriptor can keep in place of the page, if there is one.
pub(crate) fn packed_word(page: &[u8]) -> Option<u64> {
    repeated_word(page).and_then(pack)
}

fn block_repeats(block: &[u8; 64], word: u64) -> bool {
    let (words, _) = block.as_chunks::<8>();
    words.iter().fold(0, |differences, bytes| {
        differences | (u64::from_ne_bytes(*bytes) ^ word)
    }) == 0
}

/// Fills a page with a word.
pub(crate) fn fill(page: &mut [u8], word: u64) {
    if word == 0 {
        page.fill(0);
        return;
    }
    for chunk in page.as_chunks_mut::<8>().0 {
        *chunk = word.to_ne_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page_of(word: u64) -> Vec<u8> {
        word.to_ne_bytes().repeat(512)
    }

    #[test]
    fn usual_fills_fit_in_a_descriptor() {
        let doubles = [0.0, 1.0, -1.0, 0.5, 1e6, f64::NAN, f64::INFINITY].map(f64::to_bits);
        let singles = [0.1f32, 3.75].map(|x| u64::from(x.to_bits()) << 32 | u64::from(x.to_bits()));
        let integers = [
            u64::MAX,
            1,
            42,
            (-7i64).cast_unsigned(),
            0x7f00_1234_5678,
            0xdead_beef_dead_beef,
            0xaaaa_aaaa_aaaa_aaaa,
        ];
        for word in doubles.into_iter().chain(singles).chain(integers) {
            assert_eq!(pack(word).map(unpack), Some(word), "{word:#x}");
        }
    }

    #[test]
    fn a_word_without_redundancy_is_left_to_the_codec() {
        assert_eq!(pack(0.1f64.to_bits()), None);
    }

    #[test]
    fn a_page_with_one_odd_byte_is_not_same_filled() {
        for at in [0, 7, 8, 63, 64, 2049, 4087, 4088, 4095] {
            let mut page = page_of(0x0101_0101_0101_0101);
            page[at] = 9;
            assert_eq!(repeated_word(&page), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn a_packed_word_comes_back(word: u64, shift in 0u32..64) {
            for word in [word, word >> shift, word << shift, word as u32 as u64 * 0x1_0000_0001] {
                if let Some(packed) = pack(word) {
                    prop_assert!(packed >> PACKED_BITS == 0);
                    prop_assert_eq!(unpack(packed), word);
                }
            }
        }

        #[test]
        fn a_filled_page_is_found_to_repeat_its_word(word: u64) {
            let mut page = vec![7; 4096];
            fill(&mut page, word);
            prop_assert_eq!(repeated_word(&page), Some(word));
        }
    }
}
