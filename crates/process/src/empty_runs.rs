//! Which frame runs have no physical page: a bit each, so that neighbours are found.

/// Bits of one word.
const WORD: usize = u64::BITS as usize;

/// A set of run numbers. The lowest is taken first, which keeps neighbours together.
pub(crate) struct EmptyRuns {
    words: Vec<u64>,
    /// No word before this one has a bit.
    from: usize,
    len: usize,
}

impl EmptyRuns {
    /// All runs below `count`.
    pub(crate) fn all(count: u32) -> Self {
        let words = vec![0; (count as usize).div_ceil(WORD)];
        let mut all = Self {
            words,
            from: 0,
            len: 0,
        };
        (0..count).for_each(|run| all.insert(run));
        all
    }

    /// Puts a run in that is not in it.
    pub(crate) fn insert(&mut self, run: u32) {
        let (at, bit) = (run as usize / WORD, run as usize % WORD);
        if let Some(word) = self.words.get_mut(at) {
            *word |= 1 << bit;
            self.len += 1;
            self.from = self.from.min(at);
        }
    }

    /// Takes the lowest run out.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        self.pop_side_by_side(1)
    }

    /// Takes out `count` neighbours, the lowest there are; returns the first.
    pub(crate) fn pop_side_by_side(&mut self, count: usize) -> Option<u32> {
        let mut seen_any = false;
        for (at, word) in self.words.iter_mut().enumerate().skip(self.from) {
            if !seen_any && *word != 0 {
                (self.from, seen_any) = (at, true);
            }
            // A bit stays where it and the `count - 1` bits above it are set.
            let starts = (1..count).fold(*word, |starts, by| starts & (*word >> by));
            if starts != 0 {
                let bit = starts.trailing_zeros();
                (0..count as u32).for_each(|by| *word &= !(1 << (bit + by)));
                self.len -= count;
                return Some(at as u32 * WORD as u32 + bit);
            }
        }
        None
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Is this run in it?
    pub(crate) fn contains(&self, run: u32) -> bool {
        let word = self.words.get(run as usize / WORD);
        word.is_some_and(|word| word >> (run as usize % WORD) & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_run_is_taken_first_and_each_once() {
        let mut runs = EmptyRuns::all(130);
        let taken: Vec<_> = std::iter::from_fn(|| runs.pop()).collect();
        assert_eq!(taken, (0..130).collect::<Vec<_>>());
        assert_eq!(runs.len(), 0);
        runs.insert(129);
        runs.insert(3);
        assert!(runs.contains(3) && !runs.contains(4));
        assert_eq!(runs.len(), 2);
        assert_eq!(
            [runs.pop(), runs.pop(), runs.pop()],
            [Some(3), Some(129), None]
        );
    }

    #[test]
    fn neighbours_are_taken_together_or_not_at_all() {
        let mut runs = EmptyRuns::all(70);
        assert_eq!(runs.pop_side_by_side(4), Some(0));
        // 4..64 and 64..70: a group does not reach over a word.
        for first in (4..64).step_by(4) {
            assert_eq!(runs.pop_side_by_side(4), Some(first));
        }
        assert_eq!(runs.pop_side_by_side(4), Some(64));
        assert_eq!(runs.pop_side_by_side(4), None);
        assert_eq!(runs.pop_side_by_side(2), Some(68));
        for run in [10, 11, 13, 14, 15] {
            runs.insert(run);
        }
        assert_eq!(runs.pop_side_by_side(3), Some(13));
        assert_eq!(runs.pop_side_by_side(3), None);
        assert_eq!(runs.pop(), Some(10));
        assert_eq!(runs.pop(), Some(11));
        assert_eq!(runs.len(), 0);
    }
}
