/* Buffers larger than the budget through every family of calls that hands
 * memory to the kernel. */
#include <poll.h>
#include <pthread.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/uio.h>

#include "check.h"

#define LEN (64 * MIB)

static unsigned char *in, *out;

/* Words that differ everywhere, quickly. */
static void fill_words(unsigned char *at, size_t len, uint64_t seed) {
  uint64_t *words = (uint64_t *)at;
  for (size_t i = 0; i < len / 8; i++) words[i] = (i + seed) * 0x9e3779b97f4a7c15u >> 44;
}

static int holds_words(const unsigned char *at, size_t len, uint64_t seed) {
  const uint64_t *words = (const uint64_t *)at;
  for (size_t i = 0; i < len / 8; i++) {
    if (words[i] != ((i + seed) * 0x9e3779b97f4a7c15u) >> 44) return 0;
  }
  return 1;
}

static int scratch_file(void) {
  char path[] = "/var/tmp/vswap-io-XXXXXX";
  int fd = mkstemp(path);
  CHECK(fd >= 0 && unlink(path) == 0);
  return fd;
}

static void files_hold_what_was_written(void) {
  int fd = scratch_file();
  fill_words(in, LEN, 1);
  memset(out, 0xaa, LEN);
  CHECK(write(fd, in, LEN) == (ssize_t)LEN);
  CHECK(lseek(fd, 0, SEEK_SET) == 0);
  CHECK(read(fd, out, LEN) == (ssize_t)LEN);
  CHECK(holds_words(out, LEN, 1));
  fill_words(in, LEN, 2);
  CHECK(pwrite(fd, in, LEN, 8) == (ssize_t)LEN);
  CHECK(pread(fd, out, LEN, 8) == (ssize_t)LEN);
  CHECK(holds_words(out, LEN, 2));
  struct iovec parts[3] = {{in, 10 * MIB}, {in + 10 * MIB, 30 * MIB}, {in + 40 * MIB, 24 * MIB}};
  fill_words(in, LEN, 3);
  CHECK(lseek(fd, 0, SEEK_SET) == 0 && writev(fd, parts, 3) == (ssize_t)LEN);
  for (int i = 0; i < 3; i++) parts[i].iov_base = out + ((unsigned char *)parts[i].iov_base - in);
  CHECK(preadv(fd, parts, 3, 0) == (ssize_t)LEN);
  CHECK(holds_words(out, LEN, 3));
  CHECK(read(fd, out, LEN) == 8 && read(fd, out, LEN) == 0);
  close(fd);
}

static void streams_hold_what_was_written(void) {
  FILE *file = fdopen(scratch_file(), "w+");
  fill_words(in, LEN, 4);
  memset(out, 0, LEN);
  CHECK(fwrite(in, 48, LEN / 48, file) == LEN / 48);
  rewind(file);
  CHECK(fread(out, 48, LEN / 48, file) == LEN / 48);
  CHECK(holds_words(out, LEN / 48 * 48, 4));
  CHECK(fread(out, 48, 10, file) == 0 && feof(file));
  char *text = (char *)in;
  memset(text, 'x', LEN);
  text[10 * MIB] = 0;
  rewind(file);
  CHECK(fputs(text, file) >= 0);
  CHECK(ftell(file) == (long)(10 * MIB));
  fclose(file);
}

static void *send_all(void *fd) {
  size_t done = 0;
  while (done < LEN) {
    ssize_t sent = send((int)(intptr_t)fd, in + done, LEN - done, 0);
    CHECK(sent > 0);
    done += (size_t)sent;
  }
  shutdown((int)(intptr_t)fd, SHUT_WR);
  return NULL;
}

static void sockets_carry_everything(void) {
  int pair[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  fill_words(in, LEN, 5);
  memset(out, 0, LEN);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, send_all, (void *)(intptr_t)pair[0]) == 0);
  CHECK(recv(pair[1], out, LEN, MSG_WAITALL) == (ssize_t)LEN);
  CHECK(recv(pair[1], out, 1, 0) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(holds_words(out, LEN, 5));
  close(pair[0]);
  close(pair[1]);
}

static void no_datagram_is_lost_or_cut(void) {
  int pair[2];
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
  fill_words(in, LEN, 6);
  for (size_t at = 0; at + 100000 <= LEN; at += 100000) {
    CHECK(send(pair[0], in + at, 100000, 0) == 100000);
    memset(out + at, 0, 100000);
    CHECK(recv(pair[1], out + at, LEN - at, MSG_DONTWAIT) == 100000);
  }
  CHECK(holds_words(out, LEN / 100000 * 100000, 6));
  struct iovec part = {in, 50000};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  CHECK(sendmsg(pair[0], &message, 0) == 50000);
  part.iov_base = out + 50 * MIB;
  part.iov_len = MIB;
  CHECK(recvmsg(pair[1], &message, 0) == 50000);
  CHECK(memcmp(in, out + 50 * MIB, 50000) == 0);
  close(pair[0]);
  close(pair[1]);
}

static void outputs_never_touched_are_filled(void) {
  unsigned char *fresh = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(fresh != MAP_FAILED);
  CHECK(getrandom(fresh, 8 * MIB, 0) == (ssize_t)(8 * MIB));
  CHECK(!all_bytes(fresh, MIB, 0) && !all_bytes(fresh + 7 * MIB, MIB, 0));
  struct pollfd *table = malloc(MIB);
  for (size_t i = 0; i < 1000; i++) table[i] = (struct pollfd){.fd = -1};
  CHECK(poll(table, 1000, 0) == 0);
  munmap(fresh, 8 * MIB);
  free(table);
}

int main(void) {
  in = malloc(LEN);
  out = malloc(LEN);
  CHECK(in != NULL && out != NULL);
  files_hold_what_was_written();
  streams_hold_what_was_written();
  sockets_carry_everything();
  no_datagram_is_lost_or_cut();
  outputs_never_touched_are_filled();
  return 0;
}
