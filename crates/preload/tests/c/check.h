/* The one assertion of the test programs: say where, and fail. */
#ifndef CHECK_H
#define CHECK_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what)                                                        \
  do {                                                                     \
    if (!(what)) {                                                         \
      fprintf(stderr, "%s:%d: not true: %s (errno %d)\n", __FILE__,        \
              __LINE__, #what, errno);                                     \
      _exit(1);                                                            \
    }                                                                      \
  } while (0)

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* Asks for enough that the engine is awake, and keeps nothing. */
static inline void wake_engine(void) {
  for (int i = 0; i < 4; i++) {
    volatile char *block = malloc(MIB);
    block[0] = 1;
    free((void *)block);
  }
}

static sigjmp_buf check_jump;
static void check_segv(int signal) { siglongjmp(check_jump, signal); }

/* Whether reading (or writing) the byte raises SIGSEGV. */
static inline int faults(volatile char *at, int writing) {
  struct sigaction action = {.sa_handler = check_segv}, old;
  sigaction(SIGSEGV, &action, &old);
  int faulted = sigsetjmp(check_jump, 1);
  if (faulted == 0) {
    if (writing) {
      *at = 1;
    } else {
      (void)*at;
    }
  }
  sigaction(SIGSEGV, &old, NULL);
  return faulted != 0;
}

static inline int all_bytes(const unsigned char *at, size_t len, int value) {
  for (size_t i = 0; i < len; i++) {
    if (at[i] != value) return 0;
  }
  return 1;
}

/* A pattern that tells every position from its neighbours. */
static inline unsigned char pattern(size_t i, unsigned seed) {
  return (unsigned char)((i * 2654435761u + seed) >> 13);
}

static inline void fill(unsigned char *at, size_t len, unsigned seed) {
  for (size_t i = 0; i < len; i++) at[i] = pattern(i, seed);
}

static inline int holds(const unsigned char *at, size_t len, unsigned seed) {
  for (size_t i = 0; i < len; i++) {
    if (at[i] != pattern(i, seed)) return 0;
  }
  return 1;
}
#endif
