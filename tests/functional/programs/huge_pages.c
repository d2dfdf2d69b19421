/* Huge pages asked for, got or not, swapped out and read back; a huge page in part only. */
#include "vswap_test.h"

#define LENGTH (64 * MIB)
#define HUGE_PAGE (2 * MIB)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

int main(void) {
    char *memory = map_pages(LENGTH);
    CHECK(madvise(memory, LENGTH, MADV_HUGEPAGE) == 0, "madvise");
    fill(memory, LENGTH, 1);
    evict_all(memory, LENGTH);
    verify(memory, LENGTH, 1);
    fill(memory, LENGTH, 2);

    char *part = (char *)(((uintptr_t)memory + 2 * HUGE_PAGE) & ~(HUGE_PAGE - 1));
    evict_all(part + 5 * PAGE, 200 * PAGE);
    verify(memory, LENGTH, 2);

    evict_all(part + 64 * PAGE, 64 * PAGE);
    (void)madvise(part, HUGE_PAGE, MADV_COLLAPSE); /* may be refused, must not lose anything */
    verify(memory, LENGTH, 2);
    CHECK(madvise(memory, LENGTH, MADV_NOHUGEPAGE) == 0, "madvise");
    evict_all(memory, LENGTH);
    CHECK(madvise(memory, LENGTH, MADV_HUGEPAGE) == 0, "madvise");
    verify(memory, LENGTH, 2);

    /* One byte in each huge page of fresh memory: the rest reads as zeros, also after swap-out. */
    char *sparse = map_pages(LENGTH);
    CHECK(madvise(sparse, LENGTH, MADV_HUGEPAGE) == 0, "madvise");
    for (size_t offset = 0; offset < LENGTH; offset += HUGE_PAGE)
        sparse[offset] = 7;
    evict_all(sparse, LENGTH);
    for (size_t offset = 0; offset < LENGTH; offset += HUGE_PAGE) {
        CHECK(sparse[offset] == 7, "byte at %zu lost", offset);
        verify_zero(sparse + offset + PAGE, 8 * PAGE);
    }
    self_check();
    return 0;
}
