//! The engine's counters: the one list that reports, the C interface and the
//! shared memory are made from.

crate::counters! {
    /// Everything the engine counts. Lives in shared memory; all-zero is valid.
    pub struct Counters;
    gauge ram_budget_bytes "RAM the engine keeps itself within";
    gauge held_bytes "RAM held now, unmanaged memory included";
    peak held_peak_bytes "highest RAM held";
    gauge unmanaged_bytes "RAM the program holds that vswap does not manage";
    peak unmanaged_peak_bytes "highest unmanaged RAM";
    gauge resident_pages "managed pages in their place in memory";
    gauge frame_pages "pages of the staging area holding swap-cached pages";
    gauge pool_bytes "RAM in segments of compressed pages";
    gauge table_bytes "RAM in the engine's tables";
    gauge arena_bytes "RAM in the engine's own allocator";
    gauge handed_out_bytes "managed bytes the program has allocated";
    peak handed_out_peak_bytes "highest managed bytes allocated";
    gauge swapped_pages "pages out of memory now";
    peak swapped_peak_pages "highest number of pages out of memory";
    gauge same_filled_pages "swapped pages of one repeated word, which take no space";
    gauge stored_pages "swapped pages with bytes in the store";
    gauge stored_bytes "compressed bytes of stored pages";
    gauge slot_pages "swapped pages that lie in plain slots of a device, as they are";
    gauge device_bytes "bytes in use on swap devices";
    peak device_peak_bytes "highest bytes in use on swap devices";
    counter faults "page faults vswap resolved";
    counter faults_zero_fill "faults on pages never written before";
    counter faults_cached "faults on pages still in the swap cache";
    counter faults_swap_in "faults that brought a page back from the store";
    counter faults_stale "faults another thread had already resolved";
    counter moved_out_pages "pages moved out of their place, into the swap cache first";
    counter swap_out_pages "pages swapped out";
    counter swap_out_bytes "compressed bytes of pages swapped out";
    counter swap_out_same_pages "pages swapped out as one repeated word";
    counter swap_out_raw_pages "pages swapped out that did not compress";
    counter swap_out_slot_pages "pages swapped out to plain slots, as they are";
    counter swap_in_pages "pages brought back from the store";
    counter ahead_swap_in_pages "of those, pages that were brought back before the program touched them";
    counter ahead_zero_fill_pages "zero pages put in place before the program touched them";
    counter second_chance_pages "pages taken back from the swap cache before they were compressed";
    counter freed_dropped_pages "freed pages given back without swapping them";
    counter rejected_pages "pages that hardly compress and stayed in memory because no device would take them";
    counter unmovable_pages "times a page could not be moved out and stayed";
    gauge pinned_pages "pages that may not be swapped out";
    counter device_written_bytes "bytes written to swap devices";
    counter device_read_bytes "bytes read from swap devices";
    counter device_errors "errors of swap devices";
    counter cleaned_bytes "live bytes the cleaner copied";
    counter cleaned_segments "half-dead segments the cleaner emptied and gave back";
    counter demoted_bytes "compressed bytes moved from a full device to one of lower priority";
    counter promoted_bytes "compressed bytes moved to a device of higher priority because they were read again";
    counter entry_lookups "looks into the swap layer's table of descriptors";
    counter entry_pins "swap entries pinned, to read or change where their page is";
    counter descriptor_changes "steps that descriptors of swap entries made";
    counter cluster_locks "locks of clusters of swap entries taken, to hand entries out or back";
    counter device_write_calls "writes to swap devices";
    counter device_read_calls "reads from swap devices";
    counter waited_ns "nanoseconds threads waited in faults";
    counter direct_reclaims "faults that had to make room themselves";
    counter over_budget_faults "faults that went over the budget because no room could be made in time";
    counter alloc_failures "allocations refused because nothing more could be moved out";
    counter poisoned_pages "pages whose bytes could not be read back";
    counter workingset_refault_pages "pages that came back after they had been written out";
    counter workingset_activate_pages "of those, pages whose block reclaim spares since, because it came back soon";
    gauge active_blocks "blocks of 16 pages that reclaim spares because they are in use";
    gauge second_chance_window_pages "pages that may stay in the swap cache before the oldest are written out";
    counter dedup_hits "pages swapped out by sharing bytes that were stored already";
    counter dedup_different "pages that looked like a stored one and were not";
    gauge shared_objects "stored objects that several pages share or shared";
    gauge shared_pages "swapped pages that are shares in such an object";
    gauge dedup_saved_bytes "compressed bytes that are not stored twice";
    gauge groups "groups of memory with a name";
    gauge armed "1 while managed memory is registered for faults";
    gauge full "1 while nothing more can be moved out";
    gauge mode "fault delivery: 1 thread, 2 signal";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_unique_name_and_a_line_of_help() {
        for (i, row) in Counters::TABLE.iter().enumerate() {
            assert!(row.help.len() > 5, "{}", row.name);
            let twin = Counters::TABLE.iter().skip(i + 1);
            assert!(twin.clone().all(|other| other.name != row.name));
        }
        assert_eq!(size_of::<Counters>(), Counters::COUNT * 8);
    }
}
