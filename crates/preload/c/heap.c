/* The small-object heap: mimalloc, compiled here so that what it asks of the
 * system goes to the engine.
 *
 * mimalloc is one translation unit (static.c), so its calls are redirected by
 * renaming them before it is included: nothing depends on symbol resolution,
 * and the renamed calls cannot be interposed by another library. What is
 * redirected, and why:
 *   mmap, munmap, madvise, mprotect  its arenas live in the managed region;
 *   prctl                            naming a mapping splits it, and pages are
 *                                    moved only within one mapping;
 *   pthread_setspecific              may call calloc, while the thread's heap
 *                                    is half made;
 *   pthread_mutex_*                  a fork waits until no thread holds one;
 *   environ                          MIMALLOC_* is meant for the program's own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "heap.h"

/* mimalloc's own tables (page map and its parts) are at most this large and
 * stay ordinary memory; arenas are larger and come from the engine. */
enum { TABLE_MAX = 64 << 10, TABLES_MAX = 1024 };

static struct vswap_heap_hooks hooks;
static int starting;
static _Atomic int tables;

static void *raw_mmap(void *addr, size_t len, int prot) {
  long got = syscall(SYS_mmap, addr, len, prot,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return (void *)got;
}

static int is_table(size_t len) {
  if (starting) return 1;
  if (len > TABLE_MAX) return 0;
  return atomic_fetch_add(&tables, 1) < TABLES_MAX;
}

static void *heap_mmap(void *addr, size_t len, int prot) {
  if (prot == PROT_NONE || is_table(len)) return raw_mmap(addr, len, prot);
  void *got = hooks.map(len);
  if (got != NULL) return got;
  errno = ENOMEM;
  return MAP_FAILED;
}

static int heap_munmap(void *addr, size_t len) {
  return hooks.unmap(addr, len);
}

static int heap_madvise(void *addr, size_t len, int advice) {
  if (advice == MADV_DONTNEED || advice == MADV_FREE) {
    return hooks.discard(addr, len);
  }
  return 0; /* huge pages are the engine's decision */
}

static int heap_mprotect(void *addr, size_t len, int prot) {
  return (int)syscall(SYS_mprotect, addr, len, prot);
}

static int heap_setspecific(pthread_key_t key, const void *value) {
  hooks.enter();
  int result = pthread_setspecific(key, value);
  hooks.leave();
  return result;
}

/* ---- the fork gate ---- */

static _Atomic unsigned gates_closed;
static _Atomic int holders;
static __thread int held;

static void gate_enter(void) {
  if (held++ > 0) return;
  for (;;) {
    atomic_fetch_add(&holders, 1);
    if (atomic_load(&gates_closed) == 0) return;
    atomic_fetch_sub(&holders, 1);
    while (atomic_load(&gates_closed) != 0) sched_yield();
  }
}

static void gate_leave(void) {
  if (--held == 0) atomic_fetch_sub(&holders, 1);
}

static int heap_mutex_lock(pthread_mutex_t *mutex) {
  gate_enter();
  return pthread_mutex_lock(mutex);
}

static int heap_mutex_trylock(pthread_mutex_t *mutex) {
  gate_enter();
  int result = pthread_mutex_trylock(mutex);
  if (result != 0) gate_leave();
  return result;
}

static int heap_mutex_unlock(pthread_mutex_t *mutex) {
  int result = pthread_mutex_unlock(mutex);
  gate_leave();
  return result;
}

void vswap_heap_fork_prepare(void) {
  atomic_fetch_add(&gates_closed, 1);
  while (atomic_load(&holders) != 0) sched_yield();
}

void vswap_heap_fork_parent(void) { atomic_fetch_sub(&gates_closed, 1); }

void vswap_heap_fork_child(void) { atomic_store(&gates_closed, 0); }

/* ---- mimalloc ---- */

static char *no_variables[1];
static char **heap_environ = no_variables;

#define mmap(addr, len, prot, flags, fd, offset) heap_mmap(addr, len, prot)
#define munmap heap_munmap
#define madvise heap_madvise
#define mprotect heap_mprotect
#define prctl(...) 0
#define pthread_setspecific heap_setspecific
#define pthread_mutex_lock heap_mutex_lock
#define pthread_mutex_trylock heap_mutex_trylock
#define pthread_mutex_unlock heap_mutex_unlock
#define environ heap_environ
#define MI_PRIM_HAS_PROCESS_ATTACH 1 /* no constructor, no work at exit */
#include "static.c"

void vswap_heap_start(const struct vswap_heap_hooks *given) {
  hooks = *given;
  starting = 1;
  mi_option_set(mi_option_arena_eager_commit, 1);
  mi_option_set(mi_option_arena_reserve, 32 * 1024); /* KiB: its least */
  mi_option_set(mi_option_allow_large_os_pages, 0);
  mi_option_set(mi_option_use_numa_nodes, 1);
  mi_option_set(mi_option_purge_delay, 200);
  mi_option_set(mi_option_show_errors, 0);
  _mi_auto_process_init();
  starting = 0;
}

/* The C library aligns every block to 16, and programs rely on it. */
static inline size_t at_least(size_t size) { return size < 16 ? 16 : size; }

void *vswap_heap_malloc(size_t size) { return mi_malloc(at_least(size)); }
void *vswap_heap_zalloc(size_t size) { return mi_zalloc(at_least(size)); }

void *vswap_heap_aligned(size_t size, size_t align, int zero) {
  size = at_least(size);
  return zero ? mi_zalloc_aligned(size, align) : mi_malloc_aligned(size, align);
}

void *vswap_heap_realloc(void *block, size_t size) {
  return mi_realloc(block, at_least(size));
}

void vswap_heap_free(void *block) { mi_free(block); }
size_t vswap_heap_usable(const void *block) { return mi_usable_size(block); }
int vswap_heap_owns(const void *block) { return mi_is_in_heap_region(block); }
void vswap_heap_collect(void) { mi_collect(false); }
