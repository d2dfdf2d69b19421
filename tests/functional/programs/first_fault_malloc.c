/* The first fault of a new thread allocates nothing: this program's own malloc comes before
 * everybody's and counts the calls made while it is armed. */
#include "vswap_test.h"
#include <stdatomic.h>

#define LENGTH (4 * MIB)
#define THREADS 20

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static atomic_int armed, calls;

static void count(void) {
    if (atomic_load(&armed))
        atomic_fetch_add(&calls, 1);
}

void *malloc(size_t size) {
    count();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    count();
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size) {
    count();
    return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    count();
    *out = __libc_memalign(alignment, size);
    return *out ? 0 : ENOMEM;
}

void free(void *block) {
    if (block)
        count();
    __libc_free(block);
}

static char *memory;

static void *first_fault(void *offset) {
    volatile uint64_t *word = (uint64_t *)(memory + (size_t)(uintptr_t)offset);
    atomic_store(&armed, 1);
    uint64_t found = *word;
    *word = found;
    atomic_store(&armed, 0);
    CHECK(found == pattern_word(1, (uintptr_t)offset / 8), "wrong bytes");
    return NULL;
}

int main(void) {
    memory = map_pages(LENGTH);
    fill(memory, LENGTH, 1);
    evict_all(memory, LENGTH);
    for (uintptr_t i = 0; i < THREADS; i++) {
        pthread_t thread;
        void *offset = (void *)(i * 32 * PAGE);
        CHECK(pthread_create(&thread, NULL, first_fault, offset) == 0, "pthread_create");
        CHECK(pthread_join(thread, NULL) == 0, "pthread_join");
        CHECK(atomic_load(&calls) == 0, "%d calls of malloc during the first fault of thread %d",
              atomic_load(&calls), (int)i);
    }
    self_check();
    return 0;
}
