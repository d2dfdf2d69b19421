/* Random operations on memory beside a model of what must be there: allocate, free, write, read,
 * protect, advise, move, swap out, fork.  The model is one byte per page: its version, 0 is zeros. */
#include "vswap_test.h"

#define SLOTS 24
#define MOST_PAGES 4096UL
#define VERSIONS 250

struct area {
    char *start;
    size_t pages;
    uint8_t version[MOST_PAGES];
    uint8_t writable;
    uint64_t seed;
};

static struct area *areas;
static uint64_t state;

static uint64_t draw(uint64_t below) {
    state = mix(state);
    return state % below;
}

static void write_page(struct area *area, size_t page) {
    uint8_t version = (uint8_t)(1 + draw(VERSIONS));
    uint64_t *words = (uint64_t *)(area->start + page * PAGE);
    uint64_t value = mix(area->seed + page * 256 + version);
    for (size_t i = 0; i < PAGE / 8; i++) /* one in five does not compress */
        words[i] = version % 5 == 0 ? mix(value + i) : version % 5 == 1 ? value : value + (i >> 6);
    area->version[page] = version;
}

static void check_page(const struct area *area, size_t page) {
    const volatile uint64_t *words = (uint64_t *)(area->start + page * PAGE);
    uint8_t version = area->version[page];
    uint64_t value = mix(area->seed + page * 256 + version);
    for (size_t i = 0; i < PAGE / 8; i++) {
        uint64_t wanted = version == 0       ? 0
                          : version % 5 == 0 ? mix(value + i)
                          : version % 5 == 1 ? value
                                             : value + (i >> 6);
        uint64_t found = words[i];
        CHECK(found == wanted, "page %zu of %zu, word %zu, version %d: %llx, wanted %llx", page,
              area->pages, i, version, (unsigned long long)found, (unsigned long long)wanted);
    }
}

static void drop(struct area *area) {
    CHECK(munmap(area->start, area->pages * PAGE) == 0, "munmap");
    area->start = NULL;
}

static void make(struct area *area) {
    memset(area, 0, sizeof *area);
    area->pages = 16 + draw(MOST_PAGES / 2 - 16);
    area->start = map_pages(area->pages * PAGE);
    area->writable = 1;
    area->seed = draw(1ULL << 40);
}

static void range_of(const struct area *area, size_t *first, size_t *count) {
    *first = draw(area->pages);
    *count = 1 + draw(area->pages - *first);
}

static void resize(struct area *area) {
    size_t pages = 16 + draw(MOST_PAGES / 2 - 16);
    char *moved = mremap(area->start, area->pages * PAGE, pages * PAGE, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED, "mremap from %zu to %zu pages", area->pages, pages);
    if (pages > area->pages)
        memset(area->version + area->pages, 0, pages - area->pages);
    area->start = moved;
    area->pages = pages;
}

static void check_all(void) {
    for (int i = 0; i < SLOTS; i++)
        for (size_t page = 0; areas[i].start && page < areas[i].pages; page++)
            check_page(&areas[i], page);
}

static void step(struct area *area, int may_fork);

static void in_a_child(void) {
    pid_t child = fork();
    CHECK(child >= 0, "fork");
    if (child == 0) {
        state ^= (uint64_t)getpid();
        for (int i = 0; i < 40; i++)
            step(&areas[draw(SLOTS)], 0);
        check_all();
        self_check();
        _exit(0);
    }
    for (int i = 0; i < 20; i++)
        step(&areas[draw(SLOTS)], 0);
    expect_success(child);
}

static void step(struct area *area, int may_fork) {
    size_t first = 0, count = 0;
    if (!area->start) {
        make(area);
        return;
    }
    range_of(area, &first, &count);
    char *start = area->start + first * PAGE;
    uint64_t what = draw(100);
    if (what < 30) {
        if (!area->writable)
            return;
        for (size_t i = 0; i < count && i < 256; i++)
            write_page(area, first + i);
    } else if (what < 55) {
        for (size_t i = 0; i < count && i < 256; i++)
            check_page(area, first + i);
    } else if (what < 75) {
        evict(start, count * PAGE);
    } else if (what < 80) {
        CHECK(madvise(start, count * PAGE, MADV_DONTNEED) == 0, "MADV_DONTNEED");
        memset(area->version + first, 0, count);
    } else if (what < 86) {
        area->writable = !area->writable;
        int protection = area->writable ? PROT_READ | PROT_WRITE : PROT_READ;
        CHECK(mprotect(area->start, area->pages * PAGE, protection) == 0, "mprotect");
    } else if (what < 92) {
        resize(area);
    } else if (what < 98 || !may_fork) {
        drop(area);
    } else {
        in_a_child();
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 3, "usage: random_operations SECONDS SEED");
    double until = seconds() + atof(argv[1]);
    state = mix((uint64_t)atoll(argv[2]));
    areas = calloc(SLOTS, sizeof *areas);
    CHECK(areas, "calloc");
    for (uint64_t turn = 0; seconds() < until; turn++) {
        step(&areas[draw(SLOTS)], 1);
        if (turn % 4096 == 4095) {
            check_all();
            self_check();
        }
    }
    check_all();
    self_check();
    return 0;
}
