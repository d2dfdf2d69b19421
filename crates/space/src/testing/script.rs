//! Bytes read as operations.

/// What is left of the bytes.
pub(super) struct Script<'a> {
    bytes: &'a [u8],
}

impl<'a> Script<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The next byte; `None` when all were read.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// The next byte, or 0: an operation that is cut short is still one.
    pub(super) fn number(&mut self) -> usize {
        usize::from(self.byte().unwrap_or(0))
    }

    /// One of some values.
    pub(super) fn choice<T: Copy + Default>(&mut self, of: &[T]) -> T {
        let number = self.number();
        of.get(number % of.len().max(1))
            .copied()
            .unwrap_or_default()
    }
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Allocate,
    SwapOut,
    SwapIn,
    SwapInBlock,
    Free,
    FreeInto,
    FreePinned,
    Duplicate,
    Cache,
    TakeFrame,
    Poison,
    Clean,
    Writeback,
    FaultyWriteback,
    FaultySwapIn,
    FaultyClean,
    Gone,
    Trim,
    Fork,
    Check,
    Groups,
    Swapon,
    Swapoff,
    SwaponBetter,
    PreferSlots,
    SwapOutRun,
    Look,
    Drain,
    FaultyLook,
    FaultySwapOut,
    FaultyDiscard,
    FaultySwapoff,
}

impl Op {
    /// By the byte that asks for it; common ones several times.
    const ALL: [Self; 38] = [
        Self::Allocate,
        Self::SwapOut,
        Self::SwapIn,
        Self::Free,
        Self::Writeback,
        Self::Clean,
        Self::SwapOut,
        Self::Allocate,
        Self::Duplicate,
        Self::Cache,
        Self::TakeFrame,
        Self::SwapInBlock,
        Self::FreeInto,
        Self::FreePinned,
        Self::Poison,
        Self::FaultyWriteback,
        Self::FaultySwapIn,
        Self::FaultyClean,
        Self::Gone,
        Self::Trim,
        Self::Fork,
        Self::Check,
        Self::SwapOut,
        Self::Groups,
        Self::Swapon,
        Self::Swapoff,
        Self::Groups,
        Self::SwaponBetter,
        Self::PreferSlots,
        Self::SwapOutRun,
        Self::Look,
        Self::Drain,
        Self::FaultyLook,
        Self::FaultySwapOut,
        Self::FaultyDiscard,
        Self::FaultySwapoff,
        Self::SwaponBetter,
        Self::Look,
    ];

    pub(super) fn next(script: &mut Script<'_>) -> Option<Self> {
        let number = usize::from(script.byte()?);
        Self::ALL.get(number % Self::ALL.len()).copied()
    }
}
