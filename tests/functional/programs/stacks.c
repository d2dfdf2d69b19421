/* Small stacks, stacks the program gives out of memory that was swapped out, alternate stacks. */
#include "vswap_test.h"
#include <limits.h>

#define LENGTH (8 * MIB)
#define STACK (256UL * 1024)
#define SMALL 16384UL

static char *memory;

static void *reader(void *unused) {
    (void)unused;
    const volatile uint64_t *words = (uint64_t *)memory;
    for (size_t i = 0; i < LENGTH / 8; i += PAGE / 8)
        if (words[i] != pattern_word(1, i))
            _exit(3);
    return NULL;
}

/* Touches most of a user-given stack, then the swapped memory from deep within it. */
static uint64_t __attribute__((noinline)) deep(int level) {
    volatile char frame[2048];
    memset((char *)frame, level, sizeof frame);
    if (level == 0)
        return (uint64_t)(uintptr_t)reader(NULL);
    uint64_t below = deep(level - 1);
    CHECK(frame[7] == (char)level && frame[2040] == (char)level, "stack frame changed");
    return below;
}

static void *deep_reader(void *stack) {
    for (int turn = 0; turn < 20; turn++) {
        deep(60);
        evict(memory, LENGTH);
    }
    return stack;
}

static void run_on(void *(*body)(void *), void *stack, size_t size) {
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    if (stack)
        CHECK(pthread_attr_setstack(&attributes, stack, size) == 0, "setstack");
    else
        CHECK(pthread_attr_setstacksize(&attributes, size) == 0, "setstacksize");
    int error = pthread_create(&thread, &attributes, body, stack);
    CHECK(error == 0, "pthread_create: %s", strerror(error));
    if (stack)
        for (int turn = 0; turn < 20; turn++, usleep(500))
            evict(stack, size); /* also while somebody stands on it */
    CHECK(pthread_join(thread, NULL) == 0, "join");
    pthread_attr_destroy(&attributes);
}

static volatile int handled;

static void on_alternate_stack(int number) {
    (void)number;
    reader(NULL);
    handled++;
}

static void alternate_stack(void) {
    stack_t given = {.ss_sp = map_pages(STACK), .ss_size = STACK};
    fill(given.ss_sp, STACK, 9);
    evict_all(given.ss_sp, STACK);
    CHECK(sigaltstack(&given, NULL) == 0, "sigaltstack");
    struct sigaction action = {.sa_handler = on_alternate_stack, .sa_flags = SA_ONSTACK};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
    for (int turn = 0; turn < 5; turn++) {
        evict_all(memory, LENGTH);
        evict(given.ss_sp, STACK);
        raise(SIGUSR1);
    }
    CHECK(handled == 5, "handler ran %d times", handled);
    stack_t none = {.ss_flags = SS_DISABLE};
    CHECK(sigaltstack(&none, NULL) == 0, "sigaltstack");
}

int main(void) {
    memory = map_pages(LENGTH);
    fill(memory, LENGTH, 1);
    for (int turn = 0; turn < 10; turn++) {
        evict_all(memory, LENGTH);
        run_on(reader, NULL, SMALL > (size_t)PTHREAD_STACK_MIN ? SMALL : (size_t)PTHREAD_STACK_MIN);
    }
    for (int turn = 0; turn < 5; turn++) {
        char *stack = map_pages(STACK);
        fill(stack, STACK, 2);
        evict_all(stack, STACK);
        evict_all(memory, LENGTH);
        run_on(deep_reader, stack, STACK);
        munmap(stack, STACK);
    }
    alternate_stack();
    self_check();
    return 0;
}
