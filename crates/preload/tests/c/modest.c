/* A program that allocates little never has an engine: no thread, no file. */
#include <dirent.h>

#include "check.h"

static int entries(const char *path) {
  DIR *directory = opendir(path);
  CHECK(directory != NULL);
  int count = 0;
  while (readdir(directory) != NULL) count++;
  closedir(directory);
  return count - 2;
}

int main(void) {
  for (int i = 0; i < 100; i++) free(malloc(1000));
  CHECK(entries("/proc/self/task") == 1);
  wake_engine();
  free(malloc(MIB));
  return 0;
}
