//! Deduplication, as far as it is about bytes: a fingerprint of a page, an
//! index of fingerprints, whether looking pays (`policy.rs`), and the two things
//! sharing asks of the log: do these bytes equal that object, and copy that
//! object under another owner. Who shares what with whom is the floor above's.
//!
//! **The fingerprint** is xxh3 of 240 of the page's 4096 bytes: its first 176,
//! which the compressor reads first anyway, and its last 64, which the look for
//! one repeated word has touched. Hashing all of the page took 360 to 420 ns, and
//! each other place of it a cache miss of 60 to 90 ns, beside 1250 to 1880 ns for
//! compressing it; a whole look by the two ends takes 165 ns (`looking_costs`
//! below, 2 CPUs AMD EPYC, 2026-11). Only where the
//! ends repeat one word are three places between them looked at too. The
//! fingerprint only has to lead to candidates, since nothing is shared before
//! every byte was compared. **If this is wrong** (many pages that differ in the
//! middle alone), a comparison in vain costs one decode; `policy.rs` bounds how
//! many there are.

mod index;
mod policy;

pub use index::Index;
pub use policy::Policy;

use vswap_units::PAGE_SIZE;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::GRANULE_BYTES;
use crate::codec::Workspace;
use crate::error::StoreError;
use crate::groups::GroupId;
use crate::location::Stored;
use crate::object::{HEADER_BYTES, Header, Object, Tag};
use crate::read::{ReadItem, checked};
use crate::store::Store;
use crate::word::Rest;

/// What leads to candidates. Any function will do; a bad one costs time only.
pub type Fingerprint = fn(&[u8]) -> u64;

/// Bytes hashed at the start of a page and at its end: 240 in all, the most that
/// xxh3 takes in its short form.
const HEAD: usize = 176;
const TAIL: usize = 64;
/// Where else to look when the ends say nothing, in lines of 64 bytes.
const INNER: [usize; 3] = [13, 27, 43];
/// An object shorter than this is not worth a row of the table of shared ones.
const WORTH_SHARING: u16 = 128;
const _: () = assert!(WORTH_SHARING as usize > 2 * GRANULE_BYTES);

/// The fingerprint that is used outside of tests.
#[must_use]
pub fn fingerprint(page: &[u8]) -> u64 {
    let (Some(head), Some(tail)) = (page.first_chunk::<HEAD>(), page.last_chunk::<TAIL>()) else {
        return 0;
    };
    let mut ends = [0_u8; HEAD + TAIL];
    let (first, last) = ends.split_at_mut(HEAD);
    first.copy_from_slice(head);
    last.copy_from_slice(tail);
    let (words, _) = ends.as_chunks::<8>();
    if words
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a != b))
    {
        return xxh3_64(&ends);
    }
    let lines = page.as_chunks::<64>().0;
    INNER.iter().fold(xxh3_64(&ends), |seed, &line| {
        let line = lines.get(line).map_or(&[][..], <[u8; 64]>::as_slice);
        xxh3_64_with_seed(line, seed)
    })
}

impl Store {
    /// Is the object worth sharing, and where looking at it costs no I/O?
    #[must_use]
    pub fn is_worth_sharing(&self, at: Stored) -> bool {
        at.stored_bytes >= WORTH_SHARING && self.is_in_ram(at)
    }

    /// Does the object hold exactly these bytes? Never does I/O: false when it is
    /// not in RAM, or is damaged. **Context**: as [`Store::read`].
    pub fn holds_page(&self, at: Stored, owner: u64, page: &[u8], ws: &mut Workspace) -> bool {
        let item = ReadItem { at, owner };
        let compared = self.with_ram_bytes(&item, |bytes| {
            let object = checked(&item, bytes, self.verify_ram).ok()?;
            if object.header.tag == Tag::Raw {
                return Some(object.stored == page);
            }
            let Workspace { codec, aside, .. } = ws;
            let out = aside.slice_mut(0, PAGE_SIZE)?;
            codec.decode(object.header.tag, object.stored, out)?;
            Some(out == page)
        });
        compared.flatten().unwrap_or(false)
    }

    /// Appends a copy of an object in RAM for another owner, at the cost of
    /// `group`, without decoding it.
    /// **Context**: as [`Store::append`]; the owner keeps the object meanwhile.
    ///
    /// # Errors
    /// `NoRoom`; `Corrupt` when the object is not in RAM or is damaged.
    pub fn append_copy(
        &self,
        at: Stored,
        owner: u64,
        group: GroupId,
        new_owner: u64,
        ws: &mut Workspace,
    ) -> Result<Stored, StoreError> {
        let item = ReadItem { at, owner };
        let length = HEADER_BYTES + usize::from(at.stored_bytes);
        let aside = ws.aside.slice_mut(0, length).ok_or(StoreError::NoRoom)?;
        self.with_ram_bytes(&item, |bytes| copy_as(new_owner, bytes, aside))
            .flatten()
            .ok_or(item.corrupt())?;
        let mut open = self.lane(ws.lane(), group).lock();
        self.put(&mut open, group, aside, at.stored_bytes, 0)
    }

    /// Appends a copy of an object in RAM for the same owner, at the cost of
    /// another group. `None`: it is not in RAM, or the group has no room for it.
    /// **Context**: no lock of rank SEGMENT or above; the owner keeps the object.
    pub fn append_for_payer(&self, at: Stored, owner: u64, group: GroupId) -> Option<Stored> {
        let item = ReadItem { at, owner };
        self.with_ram_bytes(&item, |bytes| {
            checked(&item, bytes, true).ok()?;
            let mut open = self.lane(0, group).lock();
            self.put(&mut open, group, bytes, at.stored_bytes, 0).ok()
        })
        .flatten()
    }

    /// Calls with the object's bytes, header included, if they are in RAM.
    fn with_ram_bytes<R>(&self, item: &ReadItem, call: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let row = self.table.get(item.at.location.segment)?;
        let word = row.word.load();
        let Rest::Ram(slot) = word.rest() else {
            return None;
        };
        let (start, end) = item.span()?;
        let _reading = self.enter_ram(row, slot, word)?;
        self.ram.bytes(slot, start, end - start).map(call)
    }
}

/// Makes in `copy` the object that `bytes` is, but for its owner.
fn copy_as(owner: u64, bytes: &[u8], copy: &mut [u8]) -> Option<()> {
    let object = Object::parse(bytes).filter(Object::is_intact)?;
    copy.get_mut(HEADER_BYTES..)?.copy_from_slice(object.stored);
    let header = Header {
        owner,
        ..object.header
    };
    header.seal(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise_page, text_page};
    use crate::{CodecKind, StoreOptions};
    use vswap_units::Bytes;

    fn store() -> (Store, Workspace) {
        let store = Store::new(StoreOptions::new(16, 0)).unwrap();
        (store, Workspace::new(CodecKind::Lz4).unwrap())
    }

    #[test]
    fn only_equal_bytes_are_held_to_be_equal() {
        let (store, mut ws) = store();
        for page in [text_page(1), noise_page(1)] {
            let at = store.append(5, &page, &mut ws).unwrap();
            assert!(store.holds_page(at, 5, &page, &mut ws));
            assert!(!store.holds_page(at, 6, &page, &mut ws), "another owner's");
            for byte in [0, 100, 2048, 4095] {
                let mut other = page.clone();
                other[byte] ^= 1;
                assert!(!store.holds_page(at, 5, &other, &mut ws), "byte {byte}");
            }
        }
    }

    #[test]
    fn a_copy_has_the_same_bytes_and_another_owner() {
        let (store, mut ws) = store();
        for (owner, page) in (1..).zip([text_page(2), noise_page(2)]) {
            let at = store.append(owner, &page, &mut ws).unwrap();
            let copy = store
                .append_copy(at, owner, GroupId::ROOT, owner + 100, &mut ws)
                .unwrap();
            assert_eq!(copy.stored_bytes, at.stored_bytes);
            store.free(at);
            let mut out = vec![0; PAGE_SIZE];
            store.read(copy, owner + 100, &mut out, &mut ws).unwrap();
            assert_eq!(out, page);
            assert!(store.read(copy, owner, &mut out, &mut ws).is_err());
            store.free(copy);
        }
        assert_eq!(store.live_bytes(), Bytes(0));
    }

    #[test]
    fn what_is_at_the_ends_changes_the_fingerprint() {
        let page = text_page(3);
        assert_eq!(fingerprint(&page), fingerprint(&page.clone()));
        for byte in (0..HEAD).chain(PAGE_SIZE - TAIL..PAGE_SIZE) {
            let mut other = page.clone();
            other[byte] ^= 1;
            assert_ne!(fingerprint(&page), fingerprint(&other), "byte {byte}");
        }
    }

    #[test]
    fn pages_with_empty_ends_are_told_apart_by_what_is_between() {
        let page = vec![0; PAGE_SIZE];
        for line in INNER {
            let mut other = page.clone();
            other[line * 64 + 5] = 1;
            assert_ne!(fingerprint(&page), fingerprint(&other));
        }
    }

    /// What looking costs beside compressing, awake and dozing, in CPU time of this thread. Run with
    /// `--release -- --ignored --nocapture looking_costs`.
    #[test]
    #[ignore = "a measurement, not a check"]
    fn looking_costs() {
        const PAGES: u64 = 16384;
        const TURNS: usize = 5;
        let mut ws = Workspace::new(CodecKind::Lz4).unwrap();
        let mut out = vec![0; 2 * PAGE_SIZE];
        for (kind, make) in [
            ("text", text_page as fn(u64) -> Vec<u8>),
            ("noise", noise_page),
        ] {
            let pages: Vec<_> = (0..PAGES).map(make).collect();
            let index = Index::new(1 << 18).unwrap();
            let mut timed = |look: &dyn Fn(&[u8]) -> Option<u64>| {
                let start = vswap_platform::clock::thread_cpu_ns();
                for (owner, page) in (1..).zip(&pages) {
                    // As the look for one repeated word does.
                    std::hint::black_box((page[0], page[PAGE_SIZE - 1]));
                    let print = look(page);
                    ws.codec.pack(1, page, &mut out).unwrap();
                    if let Some(print) = print {
                        index.remember(print, owner);
                    }
                }
                (vswap_platform::clock::thread_cpu_ns() - start) / PAGES
            };
            let full = |page: &[u8]| Some(xxh3_64(page));
            let dozing = Policy::new(0);
            while dozing.share() != 8 {
                dozing.admits(0);
            }
            let by = |policy: Option<&Policy>, page: &[u8]| {
                let print = fingerprint(page);
                let admitted = policy.is_none_or(|policy| policy.admits(print));
                admitted.then(|| {
                    std::hint::black_box(index.find(print));
                    print
                })
            };
            let mut least = [u64::MAX; 4];
            for _ in 0..TURNS {
                let now = [
                    timed(&|_| None),
                    timed(&|page| by(None, page)),
                    timed(&|page| by(Some(&dozing), page)),
                    timed(&full),
                ];
                least = std::array::from_fn(|i| least[i].min(now[i]));
            }
            let names = ["lz4 alone", "awake", "dozing", "all of the page hashed"];
            for (name, ns) in names.into_iter().zip(least) {
                println!("{kind:<6}{name:<24}{ns:6} ns/page");
            }
        }
    }
}
