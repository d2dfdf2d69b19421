//! For tests of this floor and those above: pages of several kinds, and a device
//! in memory that fails when told to.

mod faulty;

use vswap_units::PAGE_SIZE;

pub use faulty::{Call, Control, Fault, FaultyDevice};

/// A small generator of numbers, the same ones for the same seed.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Begins from a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next number below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A page that does not compress.
#[must_use]
pub fn noise_page(seed: u64) -> Vec<u8> {
    let mut numbers = Numbers::new(seed);
    (0..PAGE_SIZE / 8)
        .flat_map(|_| numbers.next().to_le_bytes())
        .collect()
}

/// A page that compresses about four to one, with the seed in it.
#[must_use]
pub fn text_page(seed: u64) -> Vec<u8> {
    let mut numbers = Numbers::new(seed);
    let words = [
        "page ", "swap ", "segment ", "of the ", "log ", "entry ", "device\n", "kernel ",
    ];
    let mut page = format!("{seed} ").into_bytes();
    while page.len() < PAGE_SIZE {
        let pick = numbers.below(words.len() as u64 * 4) as usize;
        match words.get(pick) {
            Some(word) => page.extend_from_slice(word.as_bytes()),
            None => page.extend_from_slice(b"and so on, and so on, "),
        }
    }
    page.truncate(PAGE_SIZE);
    page
}

/// A page of some kind: mostly compressible, sometimes noise, sometimes half.
#[must_use]
pub fn any_page(seed: u64) -> Vec<u8> {
    match seed % 8 {
        0 => noise_page(seed),
        1 => {
            let mut page = text_page(seed);
            page.splice(
                1024..2048 + (seed % 1024) as usize,
                noise_page(seed)
                    .into_iter()
                    .take(1024 + (seed % 1024) as usize),
            );
            page
        }
        _ => text_page(seed),
    }
}
