/* A daemon closes every descriptor it did not open, then reads memory that was swapped out. */
#include "vswap_test.h"

#define LENGTH (32 * MIB)

static void close_all(const char *how) {
    if (strcmp(how, "libc") == 0) {
        CHECK(close_range(3, ~0U, 0) == 0, "close_range");
    } else if (strcmp(how, "raw") == 0) {
        CHECK(syscall(SYS_close_range, 3, ~0U, 0) == 0, "close_range");
    } else if (strcmp(how, "closefrom") == 0) {
        closefrom(3);
    } else {
        for (int descriptor = 3; descriptor < 1024; descriptor++)
            close(descriptor);
    }
}

static void use_memory(char *memory, uint64_t seed) {
    verify(memory, LENGTH, seed);
    fill(memory, LENGTH, seed + 100);
    evict_all(memory, LENGTH);
    verify(memory, LENGTH, seed + 100);
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "usage: closes_descriptors libc|raw|closefrom|loop");
    char *memory = map_pages(LENGTH);
    fill(memory, LENGTH, 1);
    evict_all(memory, LENGTH);
    pid_t child = fork();
    if (child == 0) {
        setsid();
        close_all(argv[1]);
        use_memory(memory, 1);
        self_check();
        _exit(0);
    }
    expect_success(child);
    evict_all(memory, LENGTH);
    close_all(argv[1]);
    /* What was open before is not: new descriptors start at 3 and may be put over the engine's. */
    int first = open("/dev/null", O_RDWR);
    CHECK(first == 3, "first descriptor after closing all is %d", first);
    for (int number = 4; number < 64; number++)
        CHECK(dup2(first, number) == number, "dup2");
    use_memory(memory, 1);
    self_check();
    return 0;
}
