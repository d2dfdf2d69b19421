/* Holds memory of which most is swapped out, says so, and waits to be killed. */
#include "vswap_test.h"

int main(int argc, char **argv) {
    size_t length = (argc > 1 ? (size_t)atoi(argv[1]) : 64) * MIB;
    char *memory = map_pages(length);
    fill(memory, length, 1);
    evict_all(memory, length);
    printf("ready\n");
    fflush(stdout);
    for (;;)
        pause();
}
