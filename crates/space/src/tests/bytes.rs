//! Lives told as bytes: those the fuzzer found worth keeping, and any others.

use crate::testing::{Tally, live};
use proptest::prelude::*;

/// The lives of the fuzzer's corpus, each a line of hexadecimal.
fn corpus() -> impl Iterator<Item = Vec<u8>> {
    include_str!("../../../../fuzz/corpus.txt")
        .lines()
        .map(|line| {
            let digits: Vec<_> = line.chars().map(|c| c.to_digit(16).unwrap()).collect();
            digits
                .chunks(2)
                .map(|pair| (pair[0] * 16 + pair[1]) as u8)
                .collect()
        })
}

#[test]
fn every_life_of_the_corpus_keeps_every_byte_and_every_law() {
    let lives = corpus().map(|life| live(&life).unwrap());
    let sum = lives.fold(Tally::default(), Tally::plus);
    assert!(sum.without_room > 0 && sum.written > 0, "{sum:?}");
    assert!(sum.shared > 0, "{sum:?}");
    assert!(
        sum.slotted > 0 && sum.migrated > 0 && sum.kept > 0,
        "{sum:?}"
    );
    assert!(
        sum.moved > 0 && sum.failed_reads > 0 && sum.swapoffs > 0,
        "{sum:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_are_a_life_that_keeps_every_byte_and_every_law(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        live(&bytes).unwrap();
    }
}
