/* Data that does not compress, more than there is room for: allocations fail with ENOMEM, nothing
 * that is held is lost, and when some of it is freed the program goes on. */
#include "vswap_test.h"

#define BLOCK (4 * MIB)
#define MOST 512

static uint64_t *blocks[MOST];

static void fill_random(uint64_t *words, uint64_t seed) {
    for (size_t i = 0; i < BLOCK / 8; i++)
        words[i] = mix(seed * (BLOCK / 8) + i);
}

static void verify_random(const uint64_t *words, uint64_t seed) {
    for (size_t i = 0; i < BLOCK / 8; i++)
        CHECK(words[i] == mix(seed * (BLOCK / 8) + i), "word %zu of block %llu lost", i,
              (unsigned long long)seed);
}

static int fill_until_refused(int limit) {
    int count = 0;
    for (int i = 0; i < limit; i++) {
        if (blocks[i])
            continue;
        errno = 0;
        blocks[i] = malloc(BLOCK);
        if (!blocks[i]) {
            CHECK(errno == ENOMEM, "malloc failed with another errno");
            return count;
        }
        fill_random(blocks[i], (uint64_t)i);
        count++;
    }
    CHECK(0, "%d blocks of random bytes and no refusal", limit);
    return count;
}

int main(int argc, char **argv) {
    int limit = argc > 1 ? atoi(argv[1]) : 64, filled = fill_until_refused(limit);
    CHECK(filled > 4, "only %d blocks before the refusal", filled);
    for (int i = 0; i < filled; i++)
        verify_random(blocks[i], (uint64_t)i);
    for (int round = 0; round < 3; round++) {
        for (int i = round & 1; i < filled; i += 2) {
            free(blocks[i]);
            blocks[i] = NULL;
        }
        usleep(200000); /* room is given back at the engine's pace */
        int again = fill_until_refused(limit);
        CHECK(again >= filled / 4, "only %d of %d blocks after half was freed", again, filled / 2);
        for (int i = 0; i < limit; i++)
            if (blocks[i])
                verify_random(blocks[i], (uint64_t)i);
        filled = 0;
        while (filled < limit && blocks[filled])
            filled++;
    }
    self_check();
    printf("%d blocks\n", filled);
    return 0;
}
