//! The one parser of sizes a user types: `300M`, `1.5GiB`, `64 MB`, `4096`.

use crate::Bytes;
use core::fmt;

/// Why a text is not a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseSizeError {
    /// Nothing but blanks.
    Empty,
    /// It does not start with a number.
    NotANumber,
    /// The number is followed by something that is no unit.
    UnknownUnit,
    /// More bytes than fit in 64 bits.
    TooLarge,
}

impl fmt::Display for ParseSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a size is missing (write it like 300M or 2G)",
            Self::NotANumber => "a size starts with a number, like 300M or 2G",
            Self::UnknownUnit => "unknown unit in a size (use K, M, G or T, like 300M)",
            Self::TooLarge => "the size does not fit in 64 bits",
        })
    }
}

impl core::error::Error for ParseSizeError {}

impl Bytes {
    /// Reads a size as users type it. Units are powers of 1024 in every
    /// spelling (`M`, `MB`, `MiB`, any case); a fraction is allowed.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, ParseSizeError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ParseSizeError::Empty);
        }
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let shift = unit_shift(unit.trim()).ok_or(if number.is_empty() {
            ParseSizeError::NotANumber
        } else {
            ParseSizeError::UnknownUnit
        })?;
        scaled(number, shift).map(Self)
    }
}

impl core::str::FromStr for Bytes {
    type Err = ParseSizeError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

fn unit_shift(unit: &str) -> Option<u32> {
    let mut letters = unit.chars().map(|c| c.to_ascii_lowercase());
    let shift = match letters.next() {
        None => return Some(0),
        Some('b') => return letters.next().is_none().then_some(0),
        Some('k') => 10,
        Some('m') => 20,
        Some('g') => 30,
        Some('t') => 40,
        Some(_) => return None,
    };
    let tail: (Option<char>, Option<char>, Option<char>) =
        (letters.next(), letters.next(), letters.next());
    matches!(
        tail,
        (None, None, None) | (Some('b'), None, None) | (Some('i'), Some('b') | None, None)
    )
    .then_some(shift)
}

/// Exact decimal arithmetic: a float would misread sizes above 2^53.
fn scaled(number: &str, shift: u32) -> Result<u64, ParseSizeError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(ParseSizeError::NotANumber);
    }
    let whole = digits(whole)?;
    let bytes = whole
        .checked_mul(1 << shift)
        .ok_or(ParseSizeError::TooLarge)?;
    // Nine decimals are far below one byte of any size that can be typed.
    let mut part: u128 = 0;
    let mut unit: u128 = 1;
    for digit in fraction.bytes().take(9) {
        part = part * 10 + u128::from(digit - b'0');
        unit *= 10;
    }
    let rest = (part << shift) / unit;
    u64::try_from(rest)
        .ok()
        .and_then(|rest| bytes.checked_add(rest))
        .ok_or(ParseSizeError::TooLarge)
}

fn digits(text: &str) -> Result<u64, ParseSizeError> {
    text.bytes().try_fold(0_u64, |sum, digit| {
        sum.checked_mul(10)
            .and_then(|sum| sum.checked_add(u64::from(digit - b'0')))
            .ok_or(ParseSizeError::TooLarge)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_unit_mean_the_same() {
        for text in ["300M", "300MB", "300MiB", "300m", " 300 mib ", "300Mi"] {
            assert_eq!(Bytes::parse(text), Ok(Bytes::mib(300)), "{text}");
        }
        assert_eq!(Bytes::parse("2G"), Ok(Bytes::gib(2)));
        assert_eq!(Bytes::parse("1T"), Ok(Bytes::gib(1024)));
        assert_eq!(Bytes::parse("7k"), Ok(Bytes::kib(7)));
    }

    #[test]
    fn a_plain_number_is_bytes() {
        assert_eq!(Bytes::parse("4096"), Ok(Bytes(4096)));
        assert_eq!(Bytes::parse("4096B"), Ok(Bytes(4096)));
        assert_eq!(Bytes::parse("0"), Ok(Bytes(0)));
    }

    #[test]
    fn fractions_are_exact() {
        assert_eq!(Bytes::parse("1.5K"), Ok(Bytes(1536)));
        assert_eq!(Bytes::parse(".5M"), Ok(Bytes::kib(512)));
    }

    #[test]
    fn nonsense_is_refused_by_its_reason() {
        assert_eq!(Bytes::parse("  "), Err(ParseSizeError::Empty));
        assert_eq!(Bytes::parse("lots"), Err(ParseSizeError::NotANumber));
        assert_eq!(Bytes::parse("-3M"), Err(ParseSizeError::NotANumber));
        assert_eq!(Bytes::parse("M"), Err(ParseSizeError::NotANumber));
        assert_eq!(Bytes::parse("."), Err(ParseSizeError::NotANumber));
        assert_eq!(Bytes::parse("1.2.3M"), Err(ParseSizeError::NotANumber));
        assert_eq!(Bytes::parse("3X"), Err(ParseSizeError::UnknownUnit));
        assert_eq!(Bytes::parse("3Mx"), Err(ParseSizeError::UnknownUnit));
        assert_eq!(Bytes::parse("3MBx"), Err(ParseSizeError::UnknownUnit));
        assert_eq!(Bytes::parse("3 M B"), Err(ParseSizeError::UnknownUnit));
        assert_eq!(
            Bytes::parse("99999999999999999999"),
            Err(ParseSizeError::TooLarge)
        );
        assert_eq!(Bytes::parse("99999999999T"), Err(ParseSizeError::TooLarge));
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        for size in [Bytes(12), Bytes::kib(4), Bytes::mib(300), Bytes::gib(3)] {
            assert_eq!(Bytes::parse(&size.to_string()), Ok(size));
        }
    }
}
