/* A stand-in for the engine: the same C interface over malloc, so that the
 * Python package can be tested without Rust. Preloaded, it claims a slot of the
 * tree memory and offers stats and control memories, as the engine does. With
 * FAKE_ENGINE=absent it does not come up, as in a program that escapes; with
 * FAKE_ENGINE=idle it claims no slot, as in one that allocates little. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef BUILD_ID
#define BUILD_ID "fake-build-0001"
#endif
#ifndef ABI
#define ABI 1
#endif

typedef struct vswap_space {
    uint64_t ram, blocks, bytes, pins, evicted;
    int retired, closed;
    char config[4096];
} vswap_space;
typedef struct { vswap_space *space; size_t threshold; } np_context;

static const char *const NAMES[] = {
#include "names.inc"
};
enum { COUNT = sizeof NAMES / sizeof NAMES[0], BUCKETS = 106 };
static vswap_space current_space;

static int index_of(const char *name) {
    for (int i = 0; i < COUNT; i++)
        if (!strcmp(NAMES[i], name)) return i;
    abort();
}

uint32_t vswap_abi_version(void) { return ABI; }
const char *vswap_build_id(void) { return BUILD_ID; }
const char *vswap_version(void) { return "0.0-fake"; }

int vswap_space_create(const char *config, vswap_space **out, char *err, size_t err_len) {
    const char *fail = getenv("FAKE_ENGINE_FAIL");
    if (fail) {
        snprintf(err, err_len, "the fake engine was told to fail");
        return -atoi(fail);
    }
    vswap_space *space = calloc(1, sizeof *space);
    snprintf(space->config, sizeof space->config, "%s", config);
    sscanf(strstr(config, "ram="), "ram=%lu", &space->ram);
    *out = space;
    return 0;
}
vswap_space *vswap_current(void) { return getenv("VSWAP_RAM") ? &current_space : NULL; }

/* Blocks carry their space and size in front, 64 bytes to keep alignment. */
typedef struct { vswap_space *space; size_t size; char pad[48]; } head;
static void *take(vswap_space *space, size_t size) {
    head *h = calloc(1, sizeof *h + size);
    if (!h) return NULL;
    h->space = space; h->size = size;
    space->blocks++; space->bytes += size;
    return h + 1;
}
static void give(void *p) {
    head *h = (head *)p - 1;
    h->space->blocks--; h->space->bytes -= h->size;
    free(h);
}
void *vswap_malloc(vswap_space *s, size_t size, size_t align) { (void)align; return take(s, size); }
void *vswap_calloc(vswap_space *s, size_t n, size_t size) { return take(s, n * size); }
void *vswap_realloc(vswap_space *s, void *p, size_t size) {
    void *q = take(s, size);
    size_t old = ((head *)p - 1)->size;
    memcpy(q, p, old < size ? old : size);
    give(p);
    return q;
}
void vswap_free(vswap_space *s, void *p) { (void)s; if (p) give(p); }
size_t vswap_usable_size(vswap_space *s, const void *p) { (void)s; return ((const head *)p - 1)->size; }
int vswap_owns(vswap_space *s, const void *p) { return ((const head *)p - 1)->space == s; }
int vswap_live(vswap_space *s, uint64_t *blocks, uint64_t *bytes) {
    *blocks = s->blocks; *bytes = s->bytes;
    return 0;
}
int vswap_retire(vswap_space *s) { s->retired = 1; return 0; }
void vswap_space_destroy(vswap_space *s) { s->closed = 2; }
int vswap_close(vswap_space *s) { if (s->blocks) return -EBUSY; s->closed = 1; return 0; }
int64_t vswap_evict(vswap_space *s, void *p, size_t n) { (void)p; s->evicted += n / 4096; return n / 4096; }
int64_t vswap_prefetch(vswap_space *s, void *p, size_t n) { (void)s; (void)p; return n / 4096; }
int64_t vswap_pin(vswap_space *s, void *p, size_t n) { (void)p; s->pins += n / 4096; return 0; }
int64_t vswap_unpin(vswap_space *s, void *p, size_t n) { (void)p; s->pins -= n / 4096; return 0; }
int vswap_set_ram(vswap_space *s, uint64_t bytes) { s->ram = bytes; return 0; }

size_t vswap_counter_count(void) { return COUNT; }
const char *vswap_counter_name(size_t i) { return NAMES[i]; }
const char *vswap_counter_help(size_t i) { (void)i; return "help"; }
int vswap_counter_kind(size_t i) { (void)i; return 0; }
int vswap_counters(vswap_space *s, uint64_t *values, size_t n) {
    memset(values, 0, n * 8);
    if (s->closed == 2) return -EINVAL;
    values[index_of("ram_budget_bytes")] = s->ram;
    values[index_of("handed_out_bytes")] = s->bytes;
    values[index_of("pinned_pages")] = s->pins;
    values[index_of("swap_out_pages")] = s->evicted;
    return n;
}
int vswap_check(vswap_space *s, char *report, size_t len) {
    if (!s->retired || !getenv("FAKE_ENGINE_BROKEN")) { *report = 0; return 0; }
    snprintf(report, len, "one law\nanother law");
    return 2;
}
int vswap_describe(vswap_space *s, char *json, size_t len) {
    snprintf(json, len, "{\"ram_bytes\": %lu}", s->ram);
    return 0;
}

int vswap_np_context(vswap_space *s, size_t threshold, void **ctx) {
    np_context *made = malloc(sizeof *made);
    made->space = s; made->threshold = threshold;
    *ctx = made;
    return 0;
}
/* A retired space takes nothing new; below the threshold, and of a size that
 * says so again at free, a block is libc's. Marked by its head's space. */
static void *np_take(np_context *c, size_t size) {
    if (size >= c->threshold && !c->space->retired) return take(c->space, size);
    static vswap_space libc_blocks;
    return take(&libc_blocks, size);
}
void *vswap_np_malloc(void *ctx, size_t size) { return np_take(ctx, size); }
void *vswap_np_calloc(void *ctx, size_t n, size_t size) { return np_take(ctx, n * size); }
void *vswap_np_realloc(void *ctx, void *p, size_t size) {
    void *q = np_take(ctx, size);
    if (p) {
        size_t old = ((head *)p - 1)->size;
        memcpy(q, p, old < size ? old : size);
        give(p);
    }
    return q;
}
void vswap_np_free(void *ctx, void *p, size_t size) { (void)ctx; (void)size; if (p) give(p); }

/* --- preloaded: the shared memories ------------------------------------ */

static void claim_slot(void) {
    const char *fd = getenv("VSWAP_TREE_FD");
    if (!fd) return;
    char *m = mmap(NULL, 4096 + 256 * 8192, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(fd), 0);
    if (m == MAP_FAILED) return;
    for (int i = 0; i < 256; i++) {
        char *slot = m + 4096 + i * 8192;
        uint32_t free_slot = 0;
        if (!__atomic_compare_exchange_n((uint32_t *)slot, &free_slot, getpid(), 0, 5, 5)) continue;
        ssize_t n = readlink("/proc/self/exe", slot + 16, 63);
        (void)n;
        uint64_t *values = (uint64_t *)(slot + 128);
        values[index_of("ram_budget_bytes")] = strtoull(getenv("VSWAP_RAM"), NULL, 10);
        values[index_of("held_peak_bytes")] = 20 << 20;
        values[index_of("faults")] = 100;
        values[index_of("swap_out_pages")] = 1000;
        values[index_of("swap_out_bytes")] = 1000 * 1024;
        values[COUNT + 17] = 100;
        break;
    }
    munmap(m, 4096 + 256 * 8192);
}

static char *memory(const char *name, size_t len) {
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, len)) return NULL;
    return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

static void *serve(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "vswap-fake");
    char *stats = memory("vswap-stats", 8 * 4096), *control = memory("vswap-control", 4096);
    if (!stats || !control) return NULL;
    char *schema = stats + 2 * 4096;
    size_t at = sprintf(schema, "[");
    for (int i = 0; i < COUNT; i++)
        at += sprintf(schema + at, "%s{\"name\":\"%s\",\"kind\":\"gauge\",\"help\":\"h\"}", i ? "," : "", NAMES[i]);
    at += sprintf(schema + at, "]");
    uint64_t *values = (uint64_t *)(stats + 4096);
    values[index_of("ram_budget_bytes")] = strtoull(getenv("VSWAP_RAM"), NULL, 10);
    values[index_of("held_bytes")] = 5 << 20;
    uint64_t words[] = {1 | (uint64_t)COUNT << 32, getpid(), 1, 2 * 4096, at, 4096,
                        4096 + COUNT * 8, BUCKETS, 7 * 4096, 2};
    memcpy(stats + 7 * 4096, "{}", 2);
    memcpy(stats + 8, words, sizeof words);
    memcpy(control, "VSWAPCT1", 8);
    memcpy(stats, "VSWAPST1", 8);
    uint64_t seen = 0;
    for (;;) {
        uint64_t generation = __atomic_load_n((uint64_t *)(control + 8), 5);
        if (generation != seen) values[index_of("ram_budget_bytes")] = *(uint64_t *)(control + 16);
        seen = generation;
        usleep(5000);
    }
}

__attribute__((constructor)) static void start(void) {
    const char *mode = getenv("FAKE_ENGINE");
    if (!getenv("VSWAP_RAM") || (mode && !strcmp(mode, "absent"))) return;
    if (getenv("VSWAP_TREE_FD")) {
        ssize_t n = pwrite(atoi(getenv("VSWAP_TREE_FD")), "\1", 1, 16);
        (void)n;
    }
    if (mode && !strcmp(mode, "idle")) return;
    claim_slot();
    pthread_t thread;
    if (mode && !strcmp(mode, "serve")) pthread_create(&thread, NULL, serve, NULL);
}
