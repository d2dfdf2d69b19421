/* The malloc family: alignment, sizes, zeros, growth, errors. */
#include "check.h"

static void every_size_is_aligned_and_usable(void) {
  for (size_t size = 0; size < 300 * KIB; size = size * 5 / 4 + 1) {
    unsigned char *block = malloc(size);
    CHECK(block != NULL);
    CHECK((uintptr_t)block % 16 == 0);
    size_t usable = malloc_usable_size(block);
    CHECK(usable >= size);
    memset(block, 0x5a, usable);
    free(block);
  }
  CHECK(malloc_usable_size(NULL) == 0);
}

static void two_blocks_never_overlap(void) {
  enum { COUNT = 400 };
  static unsigned char *blocks[COUNT];
  static size_t sizes[COUNT];
  unsigned state = 1;
  for (int round = 0; round < 20; round++) {
    for (unsigned i = 0; i < COUNT; i++) {
      state = state * 1103515245u + 12345u;
      if (blocks[i] != NULL) {
        CHECK(holds(blocks[i], sizes[i], i));
        if (state & 0x10000) continue;
        free(blocks[i]);
      }
      sizes[i] = (state >> 8) % (state & 0x20000 ? 200 * KIB : 2 * KIB);
      blocks[i] = malloc(sizes[i]);
      CHECK(blocks[i] != NULL);
      fill(blocks[i], sizes[i], i);
    }
  }
  for (unsigned i = 0; i < COUNT; i++) free(blocks[i]);
}

static void calloc_clears_what_was_dirty(void) {
  for (size_t size = 24; size < 3 * MIB; size = size * 3 / 2) {
    for (int i = 0; i < 4; i++) {
      unsigned char *dirty = malloc(size);
      memset(dirty, 0xff, size);
      free(dirty);
      unsigned char *clean = calloc(1, size);
      CHECK(clean != NULL && all_bytes(clean, size, 0));
      memset(clean, 0xee, size);
      free(clean);
    }
  }
}

static void realloc_keeps_bytes_across_all_sizes(void) {
  size_t old = 8;
  unsigned char *block = malloc(old);
  fill(block, old, 7);
  for (size_t size = 16; size < 20 * MIB; size = size * 9 / 5) {
    block = realloc(block, size);
    CHECK(block != NULL && holds(block, old, 7));
    fill(block, size, 7);
    old = size;
  }
  while (old > 16) {
    old = old * 2 / 3;
    block = realloc(block, old);
    CHECK(block != NULL && holds(block, old, 7));
  }
  free(block);
}

static void a_block_from_before_the_engine_may_grow(unsigned char *early) {
  early = realloc(early, 4 * MIB);
  CHECK(early != NULL && holds(early, 100, 3));
  early = realloc(early, 100);
  CHECK(holds(early, 100, 3));
  free(early);
}

static void alignments_are_what_was_asked_for(void) {
  for (size_t align = 8; align <= 4 * MIB; align *= 2) {
    for (size_t size = 1; size < 2 * MIB; size = size * 7 + 1) {
      void *block = NULL;
      CHECK(posix_memalign(&block, align, size) == 0);
      CHECK((uintptr_t)block % align == 0);
      CHECK(malloc_usable_size(block) >= size);
      memset(block, 1, size);
      block = realloc(block, size + 100);
      CHECK(((unsigned char *)block)[size - 1] == 1);
      free(block);
      block = aligned_alloc(align, size);
      CHECK(block != NULL && (uintptr_t)block % align == 0);
      free(block);
    }
  }
  void *block = memalign(48, 100); /* glibc rounds up */
  CHECK((uintptr_t)block % 64 == 0);
  free(block);
  block = valloc(100);
  CHECK((uintptr_t)block % 4096 == 0);
  free(block);
  block = pvalloc(100);
  CHECK((uintptr_t)block % 4096 == 0 && malloc_usable_size(block) >= 4096);
  free(block);
}

static void errors_are_glibcs(void) {
  volatile size_t huge = SIZE_MAX;
  void *out = (void *)&huge;
  errno = 0;
  CHECK(malloc(huge) == NULL && errno == ENOMEM);
  errno = 0;
  CHECK(malloc(huge / 2 + 1) == NULL && errno == ENOMEM);
  errno = 0;
  CHECK(calloc(huge / 2, 4) == NULL && errno == ENOMEM);
  errno = 0;
  CHECK(reallocarray(NULL, huge / 2, 4) == NULL && errno == ENOMEM);
  errno = 0;
  CHECK(memalign(huge / 2 + 2, 1) == NULL && errno == EINVAL);
  errno = 77;
  CHECK(posix_memalign(&out, 3, 8) == EINVAL && errno == 77);
  CHECK(posix_memalign(&out, 4, 8) == EINVAL && out == (void *)&huge);
  CHECK(posix_memalign(&out, 16, huge / 2) == ENOMEM);
  unsigned char *block = malloc(MIB);
  fill(block, MIB, 5);
  CHECK(realloc(block, huge / 2) == NULL && holds(block, MIB, 5));
  errno = 77;
  free(block);
  free(NULL);
  CHECK(errno == 77);
  CHECK(realloc(malloc(10), 0) == NULL);
  CHECK(realloc(malloc(MIB), 0) == NULL);
  void *one = malloc(0), *two = malloc(0);
  CHECK(one != NULL && two != NULL && one != two);
  free(one);
  free(two);
  malloc_trim(0);
}

int main(void) {
  unsigned char *early = malloc(100);
  fill(early, 100, 3);
  wake_engine();
  a_block_from_before_the_engine_may_grow(early);
  every_size_is_aligned_and_usable();
  two_blocks_never_overlap();
  calloc_clears_what_was_dirty();
  realloc_keeps_bytes_across_all_sizes();
  alignments_are_what_was_asked_for();
  errors_are_glibcs();
  return 0;
}
