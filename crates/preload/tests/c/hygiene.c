/* A program that closes descriptors, installs SIGBUS handlers, blocks every
 * signal and gives stacks of its own still finds its swapped memory. */
#include <pthread.h>

#include "check.h"

int close_range(unsigned first, unsigned last, int flags);

#define LEN (96 * MIB)

static unsigned char *memory;

static void swap_out(void) { /* by using more than the budget */
  for (size_t i = 0; i < LEN; i += 64) memory[i] = pattern(i, 1);
}

static int is_right(void) {
  for (size_t i = 0; i < LEN; i += 64) {
    if (memory[i] != pattern(i, 1)) return 0;
  }
  return 1;
}

static void after_closing_every_descriptor(void) {
  for (int fd = 3; fd < 1024; fd++) close(fd);
  CHECK(is_right());
  close_range(3, ~0U, 0);
  CHECK(is_right());
}

static volatile sig_atomic_t bus_signals;
static void on_bus(int signal) { bus_signals += signal == SIGBUS; }

static void with_a_handler_of_its_own(void) {
  struct sigaction action = {.sa_handler = on_bus}, old;
  sigfillset(&action.sa_mask);
  CHECK(sigaction(SIGBUS, &action, &old) == 0 && old.sa_handler == SIG_DFL);
  CHECK(is_right());
  CHECK(sigaction(SIGBUS, NULL, &old) == 0 && old.sa_handler == on_bus);
  raise(SIGBUS);
  CHECK(bus_signals == 1);
  CHECK(signal(SIGBUS, SIG_IGN) == on_bus);
  raise(SIGBUS);
  CHECK(is_right());
  CHECK(signal(SIGBUS, SIG_DFL) == SIG_IGN);
}

static void with_every_signal_blocked(void) {
  sigset_t all, before, now;
  sigfillset(&all);
  CHECK(sigprocmask(SIG_SETMASK, &all, &before) == 0);
  CHECK(is_right());
  CHECK(sigprocmask(SIG_BLOCK, NULL, &now) == 0 && sigismember(&now, SIGBUS) == 1);
  CHECK(pthread_sigmask(SIG_SETMASK, &before, &now) == 0);
  CHECK(sigismember(&now, SIGBUS) == 1 && sigismember(&now, SIGTERM) == 1);
  CHECK(sigprocmask(SIG_BLOCK, NULL, &now) == 0 && sigismember(&now, SIGBUS) == 0);
}

static volatile sig_atomic_t in_handler_right;
static void read_in_handler(int signal) {
  (void)signal;
  in_handler_right = is_right();
}

static void in_a_handler_that_blocks_everything(void) {
  struct sigaction action = {.sa_handler = read_in_handler};
  sigfillset(&action.sa_mask);
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  raise(SIGUSR1);
  CHECK(in_handler_right);
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  CHECK(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
  in_handler_right = 0;
  raise(SIGUSR1);
  sigset_t waiting;
  sigfillset(&waiting);
  sigdelset(&waiting, SIGUSR1);
  CHECK(sigsuspend(&waiting) == -1 && errno == EINTR);
  CHECK(in_handler_right);
}

static void *right_on_thread(void *unused) {
  (void)unused;
  unsigned char local[100 * 1024];
  memset(local, 1, sizeof local);
  return is_right() && local[5] == 1 ? memory : NULL;
}

static void on_stacks_of_its_own(void) {
  size_t size = MIB;
  void *stack = NULL, *result = NULL;
  CHECK(posix_memalign(&stack, 4096, size) == 0);
  swap_out();
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  CHECK(pthread_attr_setstack(&attributes, stack, size) == 0);
  pthread_t thread;
  CHECK(pthread_create(&thread, &attributes, right_on_thread, NULL) == 0);
  CHECK(pthread_join(thread, &result) == 0 && result == memory);

  stack_t alternate = {.ss_sp = malloc(MIB), .ss_size = MIB};
  swap_out();
  CHECK(sigaltstack(&alternate, NULL) == 0);
  struct sigaction action = {.sa_handler = read_in_handler, .sa_flags = SA_ONSTACK};
  CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
  in_handler_right = 0;
  raise(SIGUSR2);
  CHECK(in_handler_right);
}

static void in_a_forked_child(void) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    alarm(60);
    CHECK(is_right());
    memory[0] = 99;
    swap_out();
    CHECK(is_right());
    _exit(0);
  }
  CHECK(is_right());
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK(is_right());
}

static void in_a_spawned_program(void) {
  CHECK(system("exit 7") >> 8 == 7);
  FILE *pipe = popen("echo hello", "r");
  char line[16] = "";
  CHECK(pipe != NULL && fgets(line, sizeof line, pipe) != NULL);
  CHECK(strcmp(line, "hello\n") == 0 && pclose(pipe) == 0);
}

int main(void) {
  memory = malloc(LEN);
  CHECK(memory != NULL);
  swap_out();
  CHECK(is_right());
  after_closing_every_descriptor();
  with_a_handler_of_its_own();
  with_every_signal_blocked();
  in_a_handler_that_blocks_everything();
  on_stacks_of_its_own();
  in_a_forked_child();
  in_a_spawned_program();
  return 0;
}
