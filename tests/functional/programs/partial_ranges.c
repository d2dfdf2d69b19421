/* mprotect, munmap, mremap and madvise on parts of memory that is swapped out, swapped in and
 * resident: what Linux says must hold, and what lies around must not change. */
#include "faulting.h"
#include "vswap_test.h"

#define LENGTH (8 * MIB)
#define PART (2 * MIB)
#define HOLE (3 * MIB + 3 * PAGE)
#define HOLE_LENGTH (MIB + 5 * PAGE)

/* Everything but the hole carries the pattern. */
static void verify_around(char *memory, uint64_t seed, size_t hole, size_t hole_length) {
    volatile uint64_t *words = (uint64_t *)memory;
    for (size_t i = 0; i < LENGTH / 8; i++)
        if (i * 8 < hole || i * 8 >= hole + hole_length)
            CHECK(words[i] == pattern_word(seed, i), "word %zu changed", i);
}

/* Swapped out, half of it read back, some of it dirty: the states an operation may meet. */
static char *arranged(uint64_t seed) {
    char *memory = map_pages(LENGTH);
    fill(memory, LENGTH, seed);
    evict_all(memory, LENGTH);
    for (size_t offset = 0; offset < LENGTH; offset += 2 * 16 * PAGE)
        (void)*(volatile char *)(memory + offset);
    return memory;
}

static void protect(void) {
    char *memory = arranged(1);
    CHECK(mprotect(memory + HOLE, HOLE_LENGTH, PROT_READ) == 0, "mprotect");
    CHECK(faults_on_write(memory + HOLE), "a read-only page was written");
    CHECK(faults_on_write(memory + HOLE + HOLE_LENGTH - PAGE), "a read-only page was written");
    verify(memory, LENGTH, 1);
    evict(memory, LENGTH);
    verify(memory, LENGTH, 1);
    CHECK(faults_on_write(memory + HOLE), "a read-only page was written after swap-in");
    CHECK(!faults_on_write(memory + HOLE - PAGE), "the page before is not writable");
    CHECK(mprotect(memory + HOLE, HOLE_LENGTH, PROT_NONE) == 0, "mprotect");
    CHECK(faults_on_read(memory + HOLE), "a PROT_NONE page was read");
    evict(memory, LENGTH);
    verify_around(memory, 1, HOLE, HOLE_LENGTH);
    CHECK(faults_on_read(memory + HOLE), "a PROT_NONE page was read after swap-out");
    CHECK(mprotect(memory, LENGTH, PROT_READ | PROT_WRITE) == 0, "mprotect");
    verify(memory, LENGTH, 1);
    fill(memory, LENGTH, 2);
    evict_all(memory, LENGTH);
    verify(memory, LENGTH, 2);
    CHECK(munmap(memory, LENGTH) == 0, "munmap");
}

static void unmap(void) {
    char *memory = arranged(3);
    CHECK(munmap(memory + HOLE, HOLE_LENGTH) == 0, "munmap");
    CHECK(faults_on_read(memory + HOLE), "an unmapped page was read");
    evict(memory, HOLE);
    verify_around(memory, 3, HOLE, HOLE_LENGTH);
    char *again = mmap(memory + HOLE, HOLE_LENGTH, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(again == memory + HOLE, "MAP_FIXED into the hole");
    verify_zero(again, HOLE_LENGTH);
    verify_around(memory, 3, HOLE, HOLE_LENGTH);
    CHECK(munmap(memory, LENGTH) == 0, "munmap");
}

static void map_over(void) {
    char *memory = arranged(4);
    char *over = mmap(memory + HOLE, HOLE_LENGTH, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(over == memory + HOLE, "MAP_FIXED over swapped pages");
    verify_zero(over, HOLE_LENGTH);
    int file = open("/proc/self/exe", O_RDONLY);
    char first[4] = {0};
    over = mmap(memory + HOLE, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0);
    CHECK(over == memory + HOLE && pread(file, first, 4, 0) == 4, "a file over swapped pages");
    CHECK(memcmp(over, first, 4) == 0, "the file's bytes are not there");
    evict(memory, LENGTH);
    CHECK(memcmp(over, first, 4) == 0, "the file's bytes are not there after swap-out");
    verify_around(memory, 4, HOLE, HOLE_LENGTH);
    close(file);
    CHECK(munmap(memory, LENGTH) == 0, "munmap");
}

static void advise(int advice, int zero_at_once) {
    char *memory = arranged(5);
    CHECK(madvise(memory + HOLE, HOLE_LENGTH, advice) == 0, "madvise %d", advice);
    if (zero_at_once)
        verify_zero(memory + HOLE, HOLE_LENGTH);
    verify_around(memory, 5, HOLE, HOLE_LENGTH);
    volatile uint64_t *word = (uint64_t *)(memory + HOLE);
    CHECK(*word == 0 || *word == pattern_word(5, HOLE / 8), "neither old nor zero: %llx",
          (unsigned long long)*word);
    memset(memory + HOLE, 0x5a, HOLE_LENGTH); /* written after the advice: stays */
    evict_all(memory, LENGTH);
    for (size_t i = 0; i < HOLE_LENGTH; i++)
        CHECK(memory[HOLE + i] == 0x5a, "byte %zu written after the advice is lost", i);
    verify_around(memory, 5, HOLE, HOLE_LENGTH);
    CHECK(munmap(memory, LENGTH) == 0, "munmap");
}

static void remap_size(void) {
    char *memory = arranged(6);
    char *smaller = mremap(memory, LENGTH, LENGTH - PART, 0);
    CHECK(smaller == memory, "shrinking in place");
    verify(memory, LENGTH - PART, 6);
    char *larger = mremap(memory, LENGTH - PART, 2 * LENGTH, MREMAP_MAYMOVE);
    CHECK(larger != MAP_FAILED, "growing");
    verify(larger, LENGTH - PART, 6);
    verify_zero(larger + LENGTH - PART, LENGTH + PART);
    evict_all(larger, 2 * LENGTH);
    verify(larger, LENGTH - PART, 6);
    verify_zero(larger + LENGTH - PART, LENGTH + PART);
    CHECK(munmap(larger, 2 * LENGTH) == 0, "munmap");
}

static void remap_part(void) {
    char *memory = arranged(7), *target = map_pages(LENGTH);
    fill(target, LENGTH, 8);
    evict_all(target, LENGTH);
    char *moved = mremap(memory + PART, PART, PART, MREMAP_MAYMOVE | MREMAP_FIXED, target + PART);
    CHECK(moved == target + PART, "MREMAP_FIXED onto swapped pages");
    const uint64_t *words = (uint64_t *)moved;
    for (size_t i = 0; i < PART / 8; i++)
        CHECK(words[i] == pattern_word(7, PART / 8 + i), "moved word %zu is wrong", i);
    verify_around(target, 8, PART, PART);
    CHECK(faults_on_read(memory + PART), "the old place is still mapped");
    verify_around(memory, 7, PART, PART);
    evict(target, LENGTH);
    CHECK(words[77] == pattern_word(7, PART / 8 + 77), "moved word lost");
    verify_around(target, 8, PART, PART);
    CHECK(munmap(target, LENGTH) == 0 && munmap(memory, LENGTH) == 0, "munmap");
}

static void heap(void) {
    char *block = malloc(LENGTH);
    CHECK(block, "malloc");
    fill(block, LENGTH, 9);
    evict(block, LENGTH);
    block = realloc(block, 3 * LENGTH);
    CHECK(block, "realloc");
    verify(block, LENGTH, 9);
    evict(block, 3 * LENGTH);
    block = realloc(block, PART);
    CHECK(block, "realloc");
    verify(block, PART, 9);
    free(block);
    uint64_t *zeros = calloc(LENGTH, 1);
    CHECK(zeros, "calloc");
    verify_zero(zeros, LENGTH);
    free(zeros);
    for (size_t alignment = 64; alignment <= 2 * MIB; alignment *= 8) {
        char *aligned = aligned_alloc(alignment, PART);
        CHECK(aligned && (uintptr_t)aligned % alignment == 0, "aligned_alloc %zu", alignment);
        fill(aligned, PART, alignment);
        evict(aligned, PART);
        verify(aligned, PART, alignment);
        free(aligned);
    }
}

int main(void) {
    struct sigaction action = {.sa_handler = on_fault};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0, "sigaction");
    protect();
    unmap();
    map_over();
    advise(MADV_DONTNEED, 1);
    advise(MADV_FREE, 0);
    remap_size();
    remap_part();
    heap();
    self_check();
    return 0;
}
