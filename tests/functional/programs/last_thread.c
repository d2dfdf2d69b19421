/* A process ends with the last of its threads: after main has said pthread_exit ("main"), and in a child that a thread
 * forked ("fork"). What happens at an exit must happen then, and the budget holds without the first thread. */
#include "vswap_test.h"

#define LENGTH (128 * MIB)

static pthread_t first;

static void at_exit(void) { printf("and exit was called\n"); }

static size_t held_mib(void) { return status_kib("RssAnon") / 1024; }

static void within_budget(void) {
    const char *most = getenv("VSWAP_TEST_MOST_MIB");
    if (!most)
        return;
    size_t held = held_mib();
    for (int attempt = 0; held > strtoul(most, NULL, 10) && attempt < 100; attempt++) {
        usleep(20000);
        held = held_mib();
    }
    CHECK(held <= strtoul(most, NULL, 10), "%zu MiB held, %s allowed", held, most);
}

static void *last(void *memory) {
    CHECK(pthread_join(first, NULL) == 0, "pthread_join of the first thread");
    fill(memory, LENGTH, 1);
    within_budget();
    verify(memory, LENGTH, 1);
    self_check();
    printf("memory is whole\n");
    return NULL;
}

static void *forks(void *memory) {
    fill(memory, LENGTH, 1);
    evict_all(memory, LENGTH);
    pid_t child = fork();
    if (child != 0)
        expect_success(child);
    verify(memory, LENGTH, 1);
    self_check();
    printf("memory is whole\n");
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t other;
    void *memory = map_pages(LENGTH);
    CHECK(argc == 2, "main or fork?");
    CHECK(atexit(at_exit) == 0, "atexit");
    first = pthread_self();
    if (strcmp(argv[1], "fork") == 0) {
        CHECK(pthread_create(&other, NULL, forks, memory) == 0, "pthread_create");
        CHECK(pthread_join(other, NULL) == 0, "pthread_join");
        return 0;
    }
    CHECK(pthread_create(&other, NULL, last, memory) == 0, "pthread_create");
    pthread_exit(NULL);
}
