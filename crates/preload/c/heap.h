/* The small-object heap: what the Rust side calls, and what it provides. */
#ifndef VSWAP_HEAP_H
#define VSWAP_HEAP_H

#include <stddef.h>

struct vswap_heap_hooks {
  /* Fresh zeroed read-write memory, 64 KiB aligned, or NULL. */
  void *(*map)(size_t len);
  int (*unmap)(void *addr, size_t len);
  /* The range may be forgotten; it reads as zero afterwards. */
  int (*discard)(void *addr, size_t len);
  /* Between these the calling thread's allocations are the C library's. */
  void (*enter)(void);
  void (*leave)(void);
};

void vswap_heap_start(const struct vswap_heap_hooks *hooks);

void *vswap_heap_malloc(size_t size);
void *vswap_heap_zalloc(size_t size);
void *vswap_heap_aligned(size_t size, size_t align, int zero);
void *vswap_heap_realloc(void *block, size_t size);
void vswap_heap_free(void *block);
size_t vswap_heap_usable(const void *block);
int vswap_heap_owns(const void *block);
void vswap_heap_collect(void);

/* Around fork: no thread is inside a lock of the heap while it is copied. */
void vswap_heap_fork_prepare(void);
void vswap_heap_fork_parent(void);
void vswap_heap_fork_child(void);

#endif
