/* Memory that the program wrote and then made read-only or inaccessible is swapped out like any
 * other: it fits the budget, keeps its bytes and its protection, whatever happens meanwhile. */
#include "faulting.h"
#include "ring.h"
#include <stdatomic.h>
#include <sys/uio.h>

#define BLOCK (16 * PAGE)

static void protect(void *start, size_t length, int protection) {
    CHECK(mprotect(start, length, protection) == 0, "mprotect %d", protection);
}

/* One page in four is a repeated word, and needs no bytes anywhere. */
static uint64_t word_of(uint64_t seed, size_t page, size_t index) {
    size_t at = page * (PAGE / 8);
    return page % 4 == 1 ? mix(seed + page) : pattern_word(seed, at + index);
}

static void fill_page(char *memory, size_t page, uint64_t seed) {
    uint64_t *words = (uint64_t *)(memory + page * PAGE);
    for (size_t i = 0; i < PAGE / 8; i++)
        words[i] = word_of(seed, page, i);
}

static void verify_page(const char *memory, size_t page, uint64_t seed) {
    const volatile uint64_t *words = (const uint64_t *)(memory + page * PAGE);
    for (size_t i = 0; i < PAGE / 8; i++) {
        uint64_t found = words[i];
        CHECK(found == word_of(seed, page, i), "word %zu of page %zu is %llx, seed %llu", i, page,
              (unsigned long long)found, (unsigned long long)seed);
    }
}

static void fill_all(char *memory, size_t length, uint64_t seed) {
    for (size_t page = 0; page < length / PAGE; page++)
        fill_page(memory, page, seed);
}

static void verify_all(const char *memory, size_t length, uint64_t seed) {
    for (size_t page = 0; page < length / PAGE; page++)
        verify_page(memory, page, seed);
}

static void verify_at_random(const char *memory, size_t length, uint64_t seed, size_t count) {
    for (size_t i = 0; i < count; i++)
        verify_page(memory, mix(seed + i) % (length / PAGE), seed);
}

/* Most of the program is read-only; the test holds it to its budget. */
static void most_memory_is_read_only(void) {
    size_t length = 128 * MIB, pages = length / PAGE;
    char *memory = map_pages(length);
    fill_all(memory, length, 1);
    protect(memory, length, PROT_READ);
    verify_at_random(memory, length, 1, pages / 8);
    verify_all(memory, length, 1);
    if (engine())
        CHECK(resident_pages(memory, length) < pages / 4, "%zu of %zu read-only pages are in memory",
              resident_pages(memory, length), pages);
    CHECK(faults_on_write(memory + length / 2), "a read-only page was written");
    char *other = map_pages(length / 4); /* room for it comes out of what is read-only */
    fill_all(other, length / 4, 2);
    verify_at_random(memory, length, 1, pages / 16);
    verify_all(other, length / 4, 2);
    CHECK(munmap(other, length / 4) == 0, "munmap");
    protect(memory, length, PROT_READ | PROT_WRITE);
    fill_all(memory, length, 3);
    verify_all(memory, length, 3);
    CHECK(munmap(memory, length) == 0, "munmap");
}

/* Every protection mprotect knows, and borders between them in the middle of blocks. */
static void every_protection(void) {
    size_t length = 8 * MIB, pages = length / PAGE;
    const int kinds[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC,
                         PROT_READ | PROT_WRITE | PROT_EXEC};
    char *memory = map_pages(length);
    fill_all(memory, length, 4);
    for (size_t step = 0; step < 5; step++) { /* pieces of 1 to 29 pages */
        size_t kind = step;
        for (size_t page = 0; page < pages; kind++) {
            size_t count = 1 + mix(page + step) % 29;
            count = count < pages - page ? count : pages - page;
            protect(memory + page * PAGE, count * PAGE, kinds[kind % 5]);
            page += count;
        }
        evict_all(memory, length);
        for (size_t page = 0, shown = step; page < pages; shown++) {
            size_t count = 1 + mix(page + step) % 29;
            char *at = memory + page * PAGE;
            if (kinds[shown % 5] == PROT_NONE)
                CHECK(faults_on_read(at), "page %zu can be read", page);
            else
                verify_page(memory, page, 4);
            if (!(kinds[shown % 5] & PROT_WRITE))
                CHECK(faults_on_write(at), "page %zu can be written", page);
            page += count;
        }
        protect(memory, length, PROT_NONE);
        evict_all(memory, length);
        protect(memory, length, PROT_READ);
        verify_all(memory, length, 4);
    }
    CHECK(munmap(memory, length) == 0, "munmap");
}

static size_t locked_kib(void) { return status_kib("VmLck"); }

/* Locked behind the engine's back: pages stay, and stay locked. */
static void locked_pages_stay(void) {
    size_t length = MIB, locked = 8 * PAGE;
    char *memory = map_pages(length);
    fill_all(memory, length, 12);
    protect(memory, length, PROT_READ);
    CHECK(syscall(SYS_mlock, memory + 20 * PAGE, locked) == 0, "raw mlock");
    evict(memory, length);
    CHECK(resident_pages(memory + 20 * PAGE, locked) == 8, "locked pages are out");
    CHECK(locked_kib() == locked / 1024, "%zu KiB are locked", locked_kib());
    if (engine())
        CHECK(resident_pages(memory, length) <= 16, "pages beside them stay");
    CHECK(syscall(SYS_munlock, memory + 20 * PAGE, locked) == 0, "raw munlock");
    protect(memory, length, PROT_READ);
    evict_all(memory, length);
    verify_all(memory, length, 12);
    CHECK(munmap(memory, length) == 0, "munmap");
}

static void fork_shares_it(void) {
    size_t length = 16 * MIB;
    char *memory = map_pages(length);
    fill_all(memory, length, 5);
    protect(memory, length, PROT_READ);
    evict_all(memory, length / 2);
    for (int turn = 0; turn < 3; turn++) {
        pid_t child = fork();
        CHECK(child >= 0, "fork");
        evict_all(memory, length);
        verify_all(memory, length, 5);
        if (child == 0) {
            protect(memory, length, PROT_READ | PROT_WRITE);
            fill_all(memory, length, 6);
            protect(memory, length, PROT_NONE);
            evict_all(memory, length);
            protect(memory, length, PROT_READ);
            verify_all(memory, length, 6);
            self_check();
            _exit(0);
        }
        expect_success(child);
        verify_all(memory, length, 5);
    }
    CHECK(munmap(memory, length) == 0, "munmap");
}

/* What threads do at once: change the protection (also behind the engine's back), write, read,
 * swap out.  Who holds a part's lock knows what is in it. */
#define PARTS 64UL
#define PART (24 * PAGE) /* blocks with two parts, parts with two blocks */

static char *contended;
static atomic_int stop;
static struct {
    pthread_mutex_t lock;
    uint64_t seed;
    int writable;
} parts[PARTS];

static void raw_protect(void *start, size_t length, int protection) {
    CHECK(syscall(SYS_mprotect, start, length, protection) == 0, "raw mprotect");
}

static void *changer(void *number) {
    uint64_t state = mix((uint64_t)number);
    while (!atomic_load(&stop)) {
        state = mix(state);
        size_t part = state % PARTS, page = part * (PART / PAGE);
        char *at = contended + part * PART;
        void (*change)(void *, size_t, int) = state >> 20 & 1 ? raw_protect : protect;
        pthread_mutex_lock(&parts[part].lock);
        if (state >> 21 & 1) {
            change(at, PART, PROT_READ | PROT_WRITE);
            parts[part].seed = state;
            for (size_t i = 0; i < PART / PAGE; i++)
                fill_page(contended, page + i, state);
            change(at, PART, state >> 22 & 1 ? PROT_READ : PROT_NONE);
            if (state >> 23 & 1)
                CHECK(faults_on_write(at + state % PART), "a protected page was written");
        }
        change(at, PART, PROT_READ);
        for (size_t i = 0; i < PART / PAGE; i++)
            verify_page(contended, page + i, parts[part].seed);
        CHECK(faults_on_write(at + (state >> 8) % PART), "a read-only page was written");
        pthread_mutex_unlock(&parts[part].lock);
    }
    return NULL;
}

static void *evictor(void *unused) {
    (void)unused;
    for (uint64_t state = 1; !atomic_load(&stop); state = mix(state))
        evict(contended + state % PARTS * PART, 4 * PART);
    return NULL;
}

static void threads_change_it(double how_long) {
    size_t length = (PARTS + 4) * PART;
    pthread_t threads[4];
    contended = map_pages(length);
    for (size_t part = 0; part < PARTS; part++) {
        parts[part].seed = part;
        pthread_mutex_init(&parts[part].lock, NULL);
        for (size_t i = 0; i < PART / PAGE; i++)
            fill_page(contended, part * (PART / PAGE) + i, part);
    }
    protect(contended, length, PROT_READ);
    for (size_t i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, changer, (void *)(i + 1)) == 0, "pthread_create");
    CHECK(pthread_create(&threads[3], NULL, evictor, NULL) == 0, "pthread_create");
    for (double until = seconds() + how_long; seconds() < until;)
        usleep(10000);
    atomic_store(&stop, 1);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    protect(contended, length, PROT_READ);
    for (size_t page = 0; page < PARTS * (PART / PAGE); page++)
        verify_page(contended, page, parts[page / (PART / PAGE)].seed);
    CHECK(munmap(contended, length) == 0, "munmap");
}

/* A device may write to pages that the program itself may not: those it was told of before.  In
 * every block four such pages lie between others. */
#define BLOCKS 32UL
#define FIRST (5 * PAGE)
#define PINNED (4 * PAGE)

static void read_into_protected(struct ring *ring, int file, char *memory, uint64_t seed) {
    char *pages = malloc(BLOCKS * BLOCK);
    CHECK(pages, "malloc");
    fill_all(pages, BLOCKS * BLOCK, seed);
    CHECK(pwrite(file, pages, BLOCKS * BLOCK, 0) == (ssize_t)(BLOCKS * BLOCK), "pwrite");
    free(pages);
    for (size_t block = 0; block < BLOCKS; block++) {
        size_t at = block * BLOCK + FIRST;
        evict(memory, BLOCKS * BLOCK);
        struct io_uring_sqe entry = {.opcode = IORING_OP_READ_FIXED,
                                     .fd = file,
                                     .off = at,
                                     .addr = (uintptr_t)memory + at,
                                     .len = PINNED,
                                     .buf_index = (uint16_t)block};
        int result = submit_and_wait(ring, entry);
        CHECK(result == (int)PINNED, "a fixed read gave %d", result);
    }
}

static void verify_blocks(const char *memory, uint64_t pinned, uint64_t others) {
    for (size_t page = 0; page < BLOCKS * 16; page++) {
        size_t at = page % 16 * PAGE;
        int is_pinned = at >= FIRST && at < FIRST + PINNED;
        verify_page(memory, page, is_pinned ? pinned : others);
    }
}

static int a_device_writes_to_it(void) {
    size_t length = BLOCKS * BLOCK;
    char *memory = map_pages(length), name[] = "vswap-pinned-XXXXXX";
    struct iovec buffers[BLOCKS];
    struct ring ring;
    if (!open_ring(&ring))
        return 0;
    /* Of a huge page every part is pinned with one. */
    CHECK(madvise(memory, length, MADV_NOHUGEPAGE) == 0, "madvise");
    int file = mkstemp(name);
    CHECK(file >= 0 && unlink(name) == 0, "mkstemp in the current directory");
    fill_all(memory, length, 7);
    for (size_t block = 0; block < BLOCKS; block++)
        buffers[block] = (struct iovec){memory + block * BLOCK + FIRST, PINNED};
    int error = (int)syscall(SYS_io_uring_register, ring.descriptor, IORING_REGISTER_BUFFERS,
                             buffers, BLOCKS);
    CHECK(error == 0, "registering");
    const int kinds[] = {PROT_READ, PROT_NONE, PROT_READ};
    for (uint64_t turn = 0; turn < 3; turn++) {
        protect(memory, length, kinds[turn]);
        read_into_protected(&ring, file, memory, 8 + turn);
        evict(memory, length);
        if (engine())
            CHECK(resident_pages(memory, length) < length / PAGE / 2, "%zu pages are in memory",
                  resident_pages(memory, length));
        if (kinds[turn] == PROT_NONE)
            CHECK(faults_on_read(memory + FIRST), "an inaccessible page was read");
        CHECK(faults_on_write(memory + FIRST), "a protected page was written");
        protect(memory, length, PROT_READ);
        verify_blocks(memory, 8 + turn, 7);
    }
    error = (int)syscall(SYS_io_uring_register, ring.descriptor, IORING_UNREGISTER_BUFFERS, NULL, 0);
    CHECK(error == 0, "unregistering");
    evict_all(memory, length);
    verify_blocks(memory, 10, 7);
    protect(memory, length, PROT_READ | PROT_WRITE);
    fill_all(memory, length, 11);
    evict_all(memory, length);
    verify_all(memory, length, 11);
    CHECK(munmap(memory, length) == 0, "munmap");
    return 1;
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_handler = on_fault};
    CHECK(argc == 3, "usage: protected_pages budget|every|fork|threads|device SECONDS");
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0, "sigaction");
    if (strcmp(argv[1], "budget") == 0) {
        most_memory_is_read_only();
    } else if (strcmp(argv[1], "every") == 0) {
        every_protection();
        locked_pages_stay();
    } else if (strcmp(argv[1], "fork") == 0) {
        fork_shares_it();
    } else if (strcmp(argv[1], "threads") == 0) {
        threads_change_it(atof(argv[2]));
    } else {
        printf("io_uring %d\n", a_device_writes_to_it());
    }
    self_check();
    return 0;
}
