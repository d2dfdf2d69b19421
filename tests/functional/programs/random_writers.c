/* Eight threads fault and write at random while reclaim runs; each owns one word of every page and
 * knows what it last wrote there. */
#include "vswap_test.h"

#define THREADS 8

static char *memory;
static size_t pages;
static double until;

static uint64_t value(size_t page, uint64_t owner, uint64_t version) {
    return version ? mix(page * 64 + owner) + version : 0;
}

static volatile uint64_t *word(size_t page, uint64_t owner) {
    return (uint64_t *)(memory + page * PAGE) + 61 * owner + 5;
}

static void *writer(void *number) {
    uint64_t owner = (uint64_t)(uintptr_t)number, random = mix(owner);
    uint8_t *version = calloc(pages, 1);
    CHECK(version, "calloc");
    while (seconds() < until) {
        for (int i = 0; i < 256; i++) {
            random = mix(random);
            size_t page = random % pages;
            uint64_t found = *word(page, owner), wanted = value(page, owner, version[page]);
            CHECK(found == wanted, "page %zu of writer %llu holds %llx, wanted %llx", page,
                  (unsigned long long)owner, (unsigned long long)found, (unsigned long long)wanted);
            version[page] = (uint8_t)(version[page] + 1) ? (uint8_t)(version[page] + 1) : 1;
            *word(page, owner) = value(page, owner, version[page]);
        }
    }
    for (size_t page = 0; page < pages; page++)
        CHECK(*word(page, owner) == value(page, owner, version[page]), "page %zu at the end", page);
    free(version);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 3, "usage: random_writers SECONDS MIB");
    pthread_t threads[THREADS];
    pages = (size_t)atoi(argv[2]) * MIB / PAGE;
    memory = map_pages(pages * PAGE);
    until = seconds() + atof(argv[1]);
    for (uint64_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, writer, (void *)(uintptr_t)i) == 0, "create");
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0, "join");
    self_check();
    return 0;
}
