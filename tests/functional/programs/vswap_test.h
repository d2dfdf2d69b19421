/* What the test programs share: the engine they run under (found by dlsym, so that they build and
 * run without it too), patterns that are verified, and a way to fail with a sentence. */
#ifndef VSWAP_TEST_H
#define VSWAP_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define MIB (1UL << 20)
#define UNUSED __attribute__((unused))
#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail(__FILE__, __LINE__, #condition, __VA_ARGS__);                                     \
    } while (0)

UNUSED static void fail(const char *file, int line, const char *what, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    dprintf(2, "%s:%d: %s: %s (errno %d)\n", file, line, what, text, errno);
    _exit(1);
}

/* NULL when the program runs plainly. */
UNUSED static void *engine(void) {
    void *(*current)(void) = (void *(*)(void))dlsym(RTLD_DEFAULT, "vswap_current");
    void *found = current ? current() : NULL;
    if (!found)
        CHECK(!getenv("VSWAP_TEST_MANAGED"), "no engine in a process that vswap run started");
    return found;
}

/* A figure of this process's status, in KiB; asked by way of this thread, for the first may have ended. */
UNUSED static size_t status_kib(const char *name) {
    char line[256];
    size_t kib = 0, length = strlen(name);
    FILE *status = fopen("/proc/thread-self/status", "r");
    CHECK(status, "no status");
    while (fgets(line, sizeof line, status))
        if (strncmp(line, name, length) == 0 && sscanf(line + length, ": %zu", &kib) == 1)
            break;
    fclose(status);
    return kib;
}

/* Pages of the range that are in memory, as the kernel says. */
UNUSED static size_t resident_pages(void *start, size_t length) {
    static unsigned char present[1 << 16];
    size_t count = 0, most = sizeof present * PAGE;
    for (size_t done = 0; done < length; done += most) {
        size_t piece = length - done < most ? length - done : most;
        CHECK(syscall(SYS_mincore, (char *)start + done, piece, present) == 0, "mincore");
        for (size_t page = 0; page < (piece + PAGE - 1) / PAGE; page++)
            count += present[page] & 1;
    }
    return count;
}

/* Ask for the range to be swapped out, whatever becomes of it. */
UNUSED static void evict(void *start, size_t length) {
    void *space = engine();
    if (!space)
        return;
    int64_t (*call)(void *, void *, size_t) =
        (int64_t (*)(void *, void *, size_t))dlsym(RTLD_DEFAULT, "vswap_evict");
    int64_t pages = call(space, start, length);
    CHECK(pages >= 0, "vswap_evict returned %lld", (long long)pages);
}

/* Swap a page-aligned range out and make sure that it is: at most one page in 32 may stay. */
#define evict_all(start, length) evict_all_for(__LINE__, start, length)
UNUSED static void evict_all_for(int line, void *start, size_t length) {
    if (!engine())
        return;
    size_t left = 0, pages = length / PAGE;
    for (int attempt = 0; attempt < 200; attempt++) {
        evict(start, length);
        left = resident_pages(start, length);
        if (left <= pages / 32)
            return;
        usleep(2000);
    }
    CHECK(0, "asked at line %d, %zu of %zu pages stay in memory", line, left, pages);
}

UNUSED static void *map_pages(size_t length) {
    void *start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(start != MAP_FAILED, "mmap of %zu bytes", length);
    return start;
}

UNUSED static uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

/* Word `index` of a pattern: one word in four is random, so that lz4 shrinks it about three times. */
UNUSED static uint64_t pattern_word(uint64_t seed, size_t index) {
    return (index & 3) == 0 ? mix(seed * 0x10001 + index) : seed + (index >> 9);
}

UNUSED static void fill(void *start, size_t length, uint64_t seed) {
    uint64_t *words = start;
    for (size_t i = 0; i < length / 8; i++)
        words[i] = pattern_word(seed, i);
}

UNUSED static void verify(const void *start, size_t length, uint64_t seed) {
    const volatile uint64_t *words = start;
    for (size_t i = 0; i < length / 8; i++) {
        uint64_t found = words[i];
        CHECK(found == pattern_word(seed, i), "word %zu is %llx, wanted %llx (seed %llu)", i,
              (unsigned long long)found, (unsigned long long)pattern_word(seed, i),
              (unsigned long long)seed);
    }
}

UNUSED static void verify_zero(const void *start, size_t length) {
    const volatile uint64_t *words = start;
    for (size_t i = 0; i < length / 8; i++)
        CHECK(words[i] == 0, "word %zu is %llx, wanted zero", i, (unsigned long long)words[i]);
}

/* The engine's own conservation laws; every program ends with this. */
UNUSED static void self_check(void) {
    void *space = engine();
    if (!space)
        return;
    static char report[8192];
    int (*call)(void *, char *, size_t) =
        (int (*)(void *, char *, size_t))dlsym(RTLD_DEFAULT, "vswap_check");
    int broken = call(space, report, sizeof report);
    CHECK(broken == 0, "vswap_check: %d laws broken: %s", broken, report);
}

/* Wait for a child and make sure that it ended well. */
UNUSED static void expect_success(pid_t child) {
    int status = 0;
    CHECK(child > 0, "no child");
    CHECK(waitpid(child, &status, 0) == child, "waitpid");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child ended with status %#x", status);
}

UNUSED static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

#endif
