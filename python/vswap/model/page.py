"""What the swap layer sees in a page."""

from __future__ import annotations

PAGE_BYTES = 4096
_WORD = 8
_HALF = 32


def repeated_word(page: bytes) -> int | None:
    """Return the 64-bit word a page consists of, if it does."""
    word = page[:_WORD]
    return int.from_bytes(word, "little") if page == word * (PAGE_BYTES // _WORD) else None


def fits_descriptor(word: int) -> bool:
    """Say whether a word has one of the forms that fit the 58 bits of a descriptor.

    Small and small negative numbers, doubles with a short mantissa, and words of two equal halves:
    nearly all of what programs fill memory with.  Other words are compressed like any page.
    """
    top, low = word >> 56, word & 0xFF
    return top in (0, 0xFF) or low == 0 or word >> _HALF == word & ((1 << _HALF) - 1)


def is_same_filled(page: bytes) -> bool:
    """Say whether a page takes no memory when swapped out, since its descriptor says it all."""
    word = repeated_word(page)
    return word is not None and fits_descriptor(word)
