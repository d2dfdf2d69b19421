/* Threads that allocate, free each other's blocks and end, while one forks. */
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"

enum { THREADS = 8, SLOTS = 512, ROUNDS = 30000, FORKS = 40 };

struct block {
  size_t size;
  unsigned char bytes[];
};

static _Atomic(struct block *) slots[SLOTS];
static atomic_int running;

static struct block *fresh(unsigned *state) {
  *state = *state * 1103515245u + 12345u;
  size_t size = (*state >> 8) % (*state % 16 == 0 ? 150 * KIB : KIB);
  struct block *block = malloc(sizeof *block + size);
  CHECK(block != NULL);
  block->size = size;
  memset(block->bytes, (int)(size & 0xff), size);
  return block;
}

static void check_and_free(struct block *block) {
  if (block == NULL) return;
  CHECK(all_bytes(block->bytes, block->size, (int)(block->size & 0xff)));
  free(block);
}

static void *churn(void *seed) {
  unsigned state = (unsigned)(uintptr_t)seed;
  for (int i = 0; i < ROUNDS; i++) {
    struct block *block = fresh(&state);
    check_and_free(atomic_exchange(&slots[(state >> 4) % SLOTS], block));
  }
  atomic_fetch_sub(&running, 1);
  return NULL;
}

static void in_child(void) {
  unsigned state = 5;
  for (int i = 0; i < 300; i++) check_and_free(fresh(&state));
  for (int i = 0; i < SLOTS; i++) check_and_free(atomic_load(&slots[i]));
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, churn, (void *)(uintptr_t)9) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  _exit(0);
}

int main(void) {
  wake_engine();
  pthread_t threads[THREADS];
  for (int round = 0; round < 2; round++) {
    atomic_store(&running, THREADS);
    for (uintptr_t i = 0; i < THREADS; i++) {
      CHECK(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)) == 0);
    }
    for (int i = 0; i < FORKS && atomic_load(&running) > 0; i++) {
      pid_t child = fork();
      CHECK(child >= 0);
      if (child == 0) {
        alarm(60);
        for (int j = 0; j < SLOTS; j++) {
          /* A block may have been in a thread's hands: start afresh. */
          atomic_store(&slots[j], NULL);
        }
        in_child();
      }
      int status = 0;
      CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  }
  for (int i = 0; i < SLOTS; i++) check_and_free(atomic_load(&slots[i]));
  return 0;
}
