/* With an engine, every kind of allocation is in managed memory. */
#include <dlfcn.h>

#include "check.h"

static void *(*current)(void);
static int (*owns)(void *, const void *);

static int managed(const void *at) { return owns(current(), at) == 1; }

int main(void) {
  current = (void *(*)(void))dlsym(RTLD_DEFAULT, "vswap_current");
  owns = (int (*)(void *, const void *))dlsym(RTLD_DEFAULT, "vswap_owns");
  if (current == NULL || owns == NULL) {
    fprintf(stderr, "the C ABI is not exported\n");
    return 77;
  }
  wake_engine();
  CHECK(current() != NULL);
  CHECK(managed(malloc(10)));
  CHECK(managed(malloc(1000)));
  CHECK(managed(malloc(60 * KIB)));
  CHECK(managed(malloc(64 * KIB)));
  CHECK(managed(calloc(1, 10 * MIB)));
  CHECK(managed(aligned_alloc(64 * KIB, 100)));
  CHECK(managed(strdup("a string of glibc's")));
  void *at = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(managed(at));
  at = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(!managed(at));
  CHECK(!managed(&at));
  char *grown = NULL;
  for (size_t size = 10; size < 8 * MIB; size *= 3) {
    grown = realloc(grown, size);
    CHECK(managed(grown));
  }
  return 0;
}
