/* Arguments and environment of children lie in memory that is swapped out when they are started. */
#include "vswap_test.h"
#include <spawn.h>

#define WORDS 40
#define BLOCK (1 * MIB)
#define CHILD_STATUS 42

static char *block;

/* The words lie a page apart, the vectors that point at them in the same swapped block. */
static char **make_arguments(const char *program) {
    char **vector = (char **)block;
    for (int i = 0; i < WORDS; i++) {
        vector[i] = block + (size_t)(i + 1) * PAGE;
        snprintf(vector[i], PAGE, "word-%d-%llx", i, (unsigned long long)mix((uint64_t)i));
    }
    strcpy(vector[0], program);
    strcpy(vector[1], "child");
    vector[WORDS] = NULL;
    return vector;
}

static char **make_environment(void) {
    char **vector = (char **)(block + 64 * PAGE), *next = block + 65 * PAGE;
    int count = 0;
    for (char **entry = environ; *entry; entry++) {
        size_t size = strlen(*entry) + 1;
        CHECK(next + size < block + BLOCK && count < 500, "environment too large");
        vector[count++] = memcpy(next, *entry, size);
        next += size;
    }
    vector[count] = NULL;
    return vector;
}

static int child(int argc, char **argv) {
    char wanted[64];
    CHECK(argc == WORDS, "%d words", argc);
    for (int i = 2; i < WORDS; i++) {
        snprintf(wanted, sizeof wanted, "word-%d-%llx", i, (unsigned long long)mix((uint64_t)i));
        CHECK(strcmp(argv[i], wanted) == 0, "word %d is %s", i, argv[i]);
    }
    CHECK(getenv("VSWAP_TEST_TOKEN"), "environment lost");
    return CHILD_STATUS;
}

static void expect_child(pid_t pid) {
    int status = 0;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid, "waitpid");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == CHILD_STATUS, "child ended with %#x", status);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "child") == 0)
        return child(argc, argv);
    setenv("VSWAP_TEST_TOKEN", "here", 1);
    block = map_pages(BLOCK);
    char **arguments = make_arguments("/proc/self/exe"), **environment = make_environment();
    char *program = block + 50 * PAGE, *command = block + 52 * PAGE;
    CHECK(readlink("/proc/self/exe", program, PAGE) > 0, "readlink");
    snprintf(command, PAGE, "test \"$VSWAP_TEST_TOKEN\" = here && exit %d", CHILD_STATUS);
    for (int turn = 0; turn < 5; turn++) {
        pid_t pid = 0;
        evict_all(block, BLOCK);
        int error = posix_spawn(&pid, program, NULL, NULL, arguments, environment);
        CHECK(error == 0, "posix_spawn: %s", strerror(error));
        expect_child(pid);

        evict_all(block, BLOCK);
        pid = vfork();
        if (pid == 0) {
            execve(program, arguments, environment);
            _exit(9);
        }
        expect_child(pid);

        evict_all(block, BLOCK);
        pid = fork();
        if (pid == 0) {
            execve(program, arguments, environment);
            _exit(9);
        }
        expect_child(pid);

        evict_all(block, BLOCK);
        int status = system(command);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == CHILD_STATUS, "system: %#x", status);

        evict_all(block, BLOCK);
        FILE *pipe = popen(command, "r");
        CHECK(pipe, "popen");
        status = pclose(pipe);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == CHILD_STATUS, "popen: %#x", status);
    }
    self_check();
    return 0;
}
