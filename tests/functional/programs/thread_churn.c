/* Threads that start, fault and end, some of them cancelled in the middle of it, under reclaim. */
#include "vswap_test.h"
#include <stdatomic.h>

#define LENGTH (32 * MIB)
#define THREADS 16

static char *memory;
static atomic_int stop;
static atomic_ullong touched;

static void touch_some(uint64_t seed, int pages) {
    const volatile uint64_t *words = (uint64_t *)memory;
    for (int i = 0; i < pages; i++) {
        size_t index = mix(seed + (uint64_t)i) % (LENGTH / 8);
        CHECK(words[index] == pattern_word(1, index), "word %zu is %llx", index,
              (unsigned long long)words[index]);
    }
    atomic_fetch_add(&touched, (unsigned long long)pages);
}

static void *short_life(void *seed) {
    touch_some((uint64_t)(uintptr_t)seed, 50);
    return NULL;
}

static void *cancelled_life(void *seed) {
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    const volatile uint64_t *words = (uint64_t *)memory;
    for (uint64_t i = (uint64_t)(uintptr_t)seed;; i++) { /* nothing but memory: safe to cancel */
        size_t index = mix(i) % (LENGTH / 8);
        if (words[index] != pattern_word(1, index))
            _exit(4);
    }
    return NULL;
}

static void *evictor(void *unused) {
    (void)unused;
    while (!atomic_load(&stop)) {
        evict(memory, LENGTH);
        usleep(1000);
    }
    return NULL;
}

int main(int argc, char **argv) {
    double until = seconds() + (argc > 1 ? atof(argv[1]) : 5.0);
    pthread_t pusher, threads[THREADS];
    memory = map_pages(LENGTH);
    fill(memory, LENGTH, 1);
    evict_all(memory, LENGTH);
    CHECK(pthread_create(&pusher, NULL, evictor, NULL) == 0, "pthread_create");
    for (uint64_t round = 0; seconds() < until; round++) {
        for (uint64_t i = 0; i < THREADS; i++) {
            void *(*body)(void *) = i % 4 == 3 ? cancelled_life : short_life;
            void *seed = (void *)(uintptr_t)mix(round * THREADS + i);
            CHECK(pthread_create(&threads[i], NULL, body, seed) == 0, "pthread_create");
        }
        for (int i = 3; i < THREADS; i += 4)
            pthread_cancel(threads[i]);
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_join(threads[i], NULL) == 0, "pthread_join");
    }
    atomic_store(&stop, 1);
    pthread_join(pusher, NULL);
    verify(memory, LENGTH, 1);
    CHECK(touched > 0, "nothing was touched");
    self_check();
    return 0;
}
