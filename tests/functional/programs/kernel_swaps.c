/* The kernel's own swap takes pages that are then swapped out by the engine too. */
#include "vswap_test.h"

#define LENGTH (8 * MIB)

/* Pages of the range that the kernel's swap has. */
static size_t swapped_by_kernel(const char *start) {
    static uint64_t entries[LENGTH / PAGE];
    int pagemap = open("/proc/self/pagemap", O_RDONLY);
    off_t at = (off_t)((uintptr_t)start / PAGE * sizeof *entries);
    CHECK(pread(pagemap, entries, sizeof entries, at) == (ssize_t)sizeof entries, "pagemap");
    close(pagemap);
    size_t count = 0;
    for (size_t page = 0; page < LENGTH / PAGE; page++)
        count += entries[page] >> 62 & 1;
    return count;
}

/* Has the kernel take pages until half of them are in its swap and nowhere else.  A page stays in
 * memory until it is written; one that was read back since is clean, and goes at once. */
static void let_kernel_take(char *start) {
    size_t there = LENGTH / PAGE;
    for (int attempt = 0; attempt < 500 && there > LENGTH / PAGE / 2; attempt++) {
        for (size_t page = 0; page < LENGTH / PAGE; page++)
            (void)*(volatile char *)(start + page * PAGE);
        /* Not by madvise(), which is the engine's. */
        CHECK(syscall(SYS_madvise, start, LENGTH, MADV_PAGEOUT) == 0, "madvise");
        usleep(2000);
        there = resident_pages(start, LENGTH);
    }
    CHECK(there <= LENGTH / PAGE / 2, "%zu pages are in memory", there);
    CHECK(swapped_by_kernel(start) >= LENGTH / PAGE / 2, "swap has %zu", swapped_by_kernel(start));
}

int main(void) {
    char *memory = map_pages(LENGTH);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        fill(memory, LENGTH, seed);
        let_kernel_take(memory);
        evict_all(memory, LENGTH);
        CHECK(!engine() || swapped_by_kernel(memory) <= LENGTH / PAGE / 32, "the kernel has %zu",
              swapped_by_kernel(memory));
        verify(memory, LENGTH, seed);
    }
    self_check();
    return 0;
}
