/* Fork with pages swapped out, cached and resident; reclaim in parent and child, also when the child
 * is gone; each sees its own bytes only. */
#include "vswap_test.h"

#define PART (8 * MIB)
#define PARTS 4
#define LENGTH (PARTS * PART)

static char *memory;

/* Part 0 swapped out, part 1 swapped out and read back, part 2 in and dirty, part 3 just pushed out
 * and touched again at once (the swap cache, where there is one). */
static void arrange(uint64_t seed) {
    fill(memory, LENGTH, seed);
    evict_all(memory, 2 * PART);
    for (size_t offset = PART; offset < 2 * PART; offset += PAGE)
        (void)*(volatile char *)(memory + offset);
    evict(memory + 3 * PART, PART);
    for (size_t offset = 3 * PART; offset < 4 * PART; offset += 4 * PAGE)
        (void)*(volatile char *)(memory + offset);
}

static void live(uint64_t before, uint64_t after, int turns) {
    verify(memory, LENGTH, before);
    for (int turn = 0; turn < turns; turn++) {
        evict_all(memory, LENGTH);
        verify(memory, LENGTH, turn ? after + (uint64_t)turn - 1 : before);
        fill(memory, LENGTH, after + (uint64_t)turn);
        evict(memory, LENGTH);
        verify(memory, LENGTH, after + (uint64_t)turn);
    }
}

static void both_at_once(uint64_t seed) {
    arrange(seed);
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        live(seed, seed + 1000, 2);
        self_check();
        _exit(0);
    }
    live(seed, seed + 2000, 2);
    expect_success(child);
    evict_all(memory, LENGTH);
    verify(memory, LENGTH, seed + 2001);
}

/* The child ends without touching anything; every page of the parent is still marked as shared. */
static void child_is_gone(uint64_t seed) {
    arrange(seed);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    expect_success(child);
    live(seed, seed + 3000, 1);
}

static void parent_first(uint64_t seed) {
    int gate[2];
    char byte = 0;
    arrange(seed);
    CHECK(pipe(gate) == 0, "pipe");
    pid_t child = fork();
    if (child == 0) {
        CHECK(read(gate[0], &byte, 1) == 1, "read");
        live(seed, seed + 4000, 1);
        pid_t grandchild = fork();
        if (grandchild == 0) {
            live(seed + 4000, seed + 5000, 1);
            self_check();
            _exit(0);
        }
        expect_success(grandchild);
        live(seed + 4000, seed + 6000, 1);
        self_check();
        _exit(0);
    }
    live(seed, seed + 7000, 1);
    munmap(memory, LENGTH); /* the places on a device are still the child's */
    CHECK(write(gate[1], "g", 1) == 1, "write");
    memory = map_pages(LENGTH);
    fill(memory, LENGTH, seed + 8000);
    evict_all(memory, LENGTH);
    expect_success(child);
    verify(memory, LENGTH, seed + 8000);
    close(gate[0]), close(gate[1]);
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 2;
    memory = map_pages(LENGTH);
    for (int round = 0; round < rounds; round++) {
        uint64_t seed = (uint64_t)round * 100000 + 1;
        both_at_once(seed);
        child_is_gone(seed + 20);
        parent_first(seed + 40);
        self_check();
    }
    return 0;
}
