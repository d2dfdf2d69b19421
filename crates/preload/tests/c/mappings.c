/* mmap, munmap, mprotect, mremap, madvise: what Linux says. */
#include "check.h"

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define PAGE ((size_t)4096)

static unsigned char *map(size_t len) {
  unsigned char *at = mmap(NULL, len, RW, ANON, -1, 0);
  CHECK(at != MAP_FAILED);
  return at;
}

static void new_memory_is_zero_even_where_old_was_dirty(void) {
  for (int i = 0; i < 8; i++) {
    unsigned char *at = map(MIB);
    CHECK(all_bytes(at, MIB, 0));
    memset(at, 0xff, MIB);
    CHECK(munmap(at, MIB) == 0);
    unsigned char *block = malloc(MIB);
    memset(block, 0xee, MIB);
    free(block);
  }
}

static void a_hole_in_the_middle_faults_and_the_rest_stays(void) {
  unsigned char *at = map(64 * PAGE);
  fill(at, 64 * PAGE, 1);
  CHECK(munmap(at + 20 * PAGE, 10 * PAGE) == 0);
  CHECK(faults((char *)at + 20 * PAGE, 0));
  CHECK(faults((char *)at + 29 * PAGE, 1));
  CHECK(holds(at, 20 * PAGE, 1));
  for (size_t i = 30 * PAGE; i < 64 * PAGE; i++) CHECK(at[i] == pattern(i, 1));
  CHECK(munmap(at, 64 * PAGE) == 0); /* holes are fine */
  CHECK(faults((char *)at, 0));
}

static void protection_is_kept(void) {
  unsigned char *at = map(64 * PAGE);
  fill(at, 64 * PAGE, 2);
  CHECK(mprotect(at + 8 * PAGE, 8 * PAGE, PROT_READ) == 0);
  CHECK(!faults((char *)at + 8 * PAGE, 0));
  CHECK(faults((char *)at + 8 * PAGE, 1));
  CHECK(mprotect(at + 8 * PAGE, 4 * PAGE, PROT_NONE) == 0);
  CHECK(faults((char *)at + 8 * PAGE, 0));
  CHECK(mprotect(at, 64 * PAGE, RW) == 0);
  CHECK(holds(at, 64 * PAGE, 2));
  CHECK(munmap(at, 64 * PAGE) == 0);

  at = mmap(NULL, MIB, PROT_NONE, ANON, -1, 0);
  CHECK(at != MAP_FAILED && faults((char *)at, 0));
  CHECK(mprotect(at, MIB, RW) == 0);
  CHECK(all_bytes(at, MIB, 0));
  memset(at, 3, MIB);
  CHECK(munmap(at, MIB) == 0);
}

static void advice_discards(void) {
  unsigned char *at = map(MIB);
  fill(at, MIB, 3);
  CHECK(madvise(at + 16 * PAGE, 16 * PAGE, MADV_DONTNEED) == 0);
  CHECK(holds(at, 16 * PAGE, 3));
  CHECK(all_bytes(at + 16 * PAGE, 16 * PAGE, 0));
  CHECK(at[32 * PAGE] == pattern(32 * PAGE, 3));
  memset(at, 9, MIB);
  CHECK(madvise(at, MIB, MADV_FREE) == 0);
  for (size_t i = 0; i < MIB; i++) CHECK(at[i] == 0 || at[i] == 9);
  memset(at, 8, MIB);
  CHECK(posix_madvise(at, MIB, POSIX_MADV_DONTNEED) == 0);
  CHECK(all_bytes(at, MIB, 8));
  CHECK(madvise(at, MIB, MADV_HUGEPAGE) == 0 || errno == EINVAL);
  CHECK(madvise(at, MIB, MADV_WILLNEED) == 0);
  CHECK(munmap(at, MIB) == 0);
}

static void remapping_keeps_bytes(void) {
  size_t len = 64 * KIB;
  unsigned char *at = map(len);
  fill(at, len, 4);
  for (size_t longer = 128 * KIB; longer <= 16 * MIB; longer *= 2) {
    at = mremap(at, len, longer, MREMAP_MAYMOVE);
    CHECK(at != MAP_FAILED && holds(at, len, 4));
    CHECK(all_bytes(at + len, longer - len, 0));
    fill(at, longer, 4);
    len = longer;
  }
  CHECK(mremap(at, len, MIB, 0) == at);
  CHECK(holds(at, MIB, 4) && faults((char *)at + MIB, 0));

  unsigned char *place = mmap(NULL, 2 * MIB, PROT_NONE, ANON | MAP_STACK, -1, 0);
  CHECK(mremap(at, MIB, 2 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place);
  CHECK(holds(place, MIB, 4) && all_bytes(place + MIB, MIB, 0));
  CHECK(faults((char *)at, 0));
  CHECK(munmap(place, 2 * MIB) == 0);

  at = map(MIB);
  fill(at, MIB, 5);
  place = mremap(at, MIB, MIB, MREMAP_MAYMOVE | 4 /* DONTUNMAP */, NULL);
  CHECK(place != MAP_FAILED && holds(place, MIB, 5) && all_bytes(at, MIB, 0));
  CHECK(munmap(place, MIB) == 0 && munmap(at, MIB) == 0);
}

static void a_fixed_mapping_replaces(void) {
  unsigned char *at = map(MIB);
  memset(at, 6, MIB);
  CHECK(mmap(at + 64 * KIB, 64 * KIB, RW, ANON | MAP_FIXED, -1, 0) == at + 64 * KIB);
  CHECK(at[64 * KIB - 1] == 6 && all_bytes(at + 64 * KIB, 64 * KIB, 0));
  CHECK(at[128 * KIB] == 6);

  char path[] = "/tmp/vswap-test-XXXXXX";
  int fd = mkstemp(path);
  CHECK(fd >= 0 && unlink(path) == 0);
  unsigned char page[4096];
  memset(page, 7, sizeof page);
  CHECK(write(fd, page, sizeof page) == sizeof page);
  CHECK(mmap(at + 256 * KIB, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) ==
        at + 256 * KIB);
  CHECK(all_bytes(at + 256 * KIB, PAGE, 7));
  CHECK(at[256 * KIB - 1] == 6 && at[256 * KIB + PAGE] == 6);
  CHECK(munmap(at, MIB) == 0);
  close(fd);
  for (int i = 0; i < 16; i++) { /* the place may be reused, as zeros */
    unsigned char *again = map(MIB);
    CHECK(all_bytes(again, MIB, 0));
    memset(again, 1, MIB);
  }
}

static void errors_are_the_kernels(void) {
  unsigned char *at = map(MIB);
  CHECK(munmap(at + 1, PAGE) == -1 && errno == EINVAL);
  CHECK(munmap(at, 0) == -1 && errno == EINVAL);
  CHECK(mprotect(at + 1, PAGE, RW) == -1 && errno == EINVAL);
  CHECK(mprotect(at, 0, RW) == 0);
  CHECK(madvise(at + 1, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
  CHECK(madvise(at, MIB, 12345) == -1 && errno == EINVAL);
  CHECK(mmap(NULL, 0, RW, ANON, -1, 0) == MAP_FAILED && errno == EINVAL);
  CHECK(mremap(at + 1, PAGE, PAGE, 0) == MAP_FAILED && errno == EINVAL);
  CHECK(mremap(at, MIB, 0, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
  CHECK(mlock(at, PAGE) == 0 && munlock(at, PAGE) == 0);
  CHECK(munmap(at, MIB) == 0);
}

static void a_range_beyond_the_managed_one_is_split(void) {
  unsigned char *at = mmap(NULL, MIB, RW, ANON | MAP_STACK, -1, 0);
  CHECK(at != MAP_FAILED && at[0] == 0);
  memset(at, 1, MIB);
  CHECK(madvise(at, MIB, MADV_DONTNEED) == 0 && all_bytes(at, MIB, 0));
  CHECK(mprotect(at, PAGE, PROT_NONE) == 0 && faults((char *)at, 0));
  CHECK(munmap(at, MIB) == 0 && faults((char *)at, 0));
}

int main(void) {
  wake_engine();
  new_memory_is_zero_even_where_old_was_dirty();
  a_hole_in_the_middle_faults_and_the_rest_stays();
  protection_is_kept();
  advice_discards();
  remapping_keeps_bytes();
  a_fixed_mapping_replaces();
  errors_are_the_kernels();
  a_range_beyond_the_managed_one_is_split();
  return 0;
}
