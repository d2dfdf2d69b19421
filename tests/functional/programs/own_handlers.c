/* A program that has its own SIGBUS and SIGSEGV handlers and blocks whatever it can.  Faults on
 * swapped memory are not its business; its own faults must still reach it. */
#include "vswap_test.h"
#include <setjmp.h>

#define LENGTH (16 * MIB)

static char *memory;
static volatile int calls;
static void *volatile fault_address;
static sigjmp_buf back;

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    calls++;
    fault_address = info->si_addr;
    siglongjmp(back, 1);
}

static void on_user(int number) {
    (void)number;
    verify(memory, LENGTH, 1);
}

static void install(void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigfillset(&action.sa_mask);
    CHECK(sigaction(SIGBUS, &action, NULL) == 0, "sigaction");
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0, "sigaction");
}

static void swapped_memory_is_readable(void) {
    evict_all(memory, LENGTH);
    verify(memory, LENGTH, 1);
    CHECK(calls == 0, "the program's handler was called for a fault that is not its own");
}

static void own_faults_arrive(void) {
    static volatile char *volatile nowhere = (char *)0x10;
    if (sigsetjmp(back, 1) == 0)
        *nowhere = 1;
    CHECK(calls == 1 && fault_address == (void *)0x10, "own SIGSEGV: %d calls, address %p", calls,
          fault_address);

    char name[] = "/tmp/vswap-test-XXXXXX";
    int file = mkstemp(name);
    CHECK(file >= 0 && ftruncate(file, PAGE) == 0, "temporary file");
    volatile char *page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
    CHECK(page != MAP_FAILED && ftruncate(file, 0) == 0, "mapping");
    unlink(name);
    if (sigsetjmp(back, 1) == 0)
        (void)*page;
    CHECK(calls == 2 && fault_address == page, "own SIGBUS: %d calls, address %p", calls,
          fault_address);
    calls = 0;
}

static void all_signals_blocked(void) {
    sigset_t all, before;
    sigfillset(&all);
    CHECK(sigprocmask(SIG_BLOCK, &all, &before) == 0, "sigprocmask");
    swapped_memory_is_readable();
    CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0, "sigprocmask");
    CHECK(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0, "pthread_sigmask");
    swapped_memory_is_readable();
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0, "pthread_sigmask");
}

static void handler_with_full_mask(void) {
    struct sigaction action = {.sa_handler = on_user};
    sigfillset(&action.sa_mask);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
    evict_all(memory, LENGTH);
    CHECK(raise(SIGUSR1) == 0, "raise");
}

static void own_actions_read_back(void) {
    struct sigaction seen;
    sighandler_t own = (sighandler_t)(void *)on_fault;
    CHECK(sigaction(SIGBUS, NULL, &seen) == 0, "sigaction");
    CHECK(seen.sa_sigaction == on_fault && (seen.sa_flags & SA_SIGINFO), "another action");
    CHECK(signal(SIGBUS, SIG_IGN) == own, "signal returns another action");
    swapped_memory_is_readable();
    CHECK(signal(SIGBUS, SIG_DFL) == SIG_IGN, "signal returns another action");
    CHECK(signal(SIGSEGV, SIG_DFL) == own, "signal returns another action");
    swapped_memory_is_readable();
}

static void *in_a_thread(void *unused) {
    (void)unused;
    verify(memory, LENGTH, 1);
    return NULL;
}

static void thread_born_with_all_blocked(void) {
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    evict_all(memory, LENGTH);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    CHECK(pthread_create(&thread, NULL, in_a_thread, NULL) == 0, "pthread_create");
    pthread_join(thread, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* The death of a program by its own fault is still its death. */
static void default_action_still_kills(int number) {
    pid_t child = fork();
    if (child == 0) {
        signal(number, SIG_DFL);
        volatile char *page = mmap(NULL, MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (number == SIGSEGV)
            *page = 1;
        raise(number);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child, "waitpid");
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == number, "ended with %#x, not by signal %d",
          status, number);
}

int main(void) {
    memory = map_pages(LENGTH);
    fill(memory, LENGTH, 1);
    install(on_fault);
    swapped_memory_is_readable();
    own_faults_arrive();
    all_signals_blocked();
    handler_with_full_mask();
    thread_born_with_all_blocked();
    own_actions_read_back();
    default_action_still_kills(SIGSEGV);
    default_action_still_kills(SIGBUS);
    self_check();
    return 0;
}
