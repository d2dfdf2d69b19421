//! Lock ranks. A thread takes locks in ascending rank only; `platform::sync`
//! checks that in debug builds, so a deadlock shows as an abort with a line.

/// The place of a lock in the one order all threads follow.
pub type Rank = u8;

/// A group's charges.
pub const GROUP: Rank = 10;
/// One cluster of swap entries.
pub const CLUSTER: Rank = 20;
/// The run allocator of a region.
pub const REGION: Rank = 25;
/// No lock: being inside the gate that a fork and a check close.
pub const WORLD: Rank = 28;
/// One block of pages.
pub const PAGE: Rank = 30;
/// What the program may do with its pages.
pub const PROTECTION: Rank = 32;
/// The frame allocator.
pub const FRAME: Rank = 35;
/// Segments of the log.
pub const SEGMENT: Rank = 40;
/// A device's places.
pub const DEVICE: Rank = 50;
/// The engine's own allocator: innermost, so it may be used under any lock.
pub const ARENA: Rank = 60;

/// Ranks are tracked as bits of one word, so they stay below this.
pub const LIMIT: Rank = 64;

/// The name of a rank, for the line a violated order prints.
#[must_use]
pub const fn name(rank: Rank) -> &'static str {
    match rank {
        GROUP => "GROUP",
        CLUSTER => "CLUSTER",
        REGION => "REGION",
        WORLD => "WORLD",
        PAGE => "PAGE",
        PROTECTION => "PROTECTION",
        FRAME => "FRAME",
        SEGMENT => "SEGMENT",
        DEVICE => "DEVICE",
        ARENA => "ARENA",
        _ => "unnamed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_ascend_in_the_documented_order() {
        let order = [
            GROUP, CLUSTER, REGION, WORLD, PAGE, PROTECTION, FRAME, SEGMENT, DEVICE, ARENA, LIMIT,
        ];
        assert!(order.is_sorted_by(|a, b| a < b));
    }
}
