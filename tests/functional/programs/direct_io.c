/* Buffers the kernel holds on to while they are read into: O_DIRECT and io_uring registered buffers,
 * by raw system calls, while the same memory is being pushed out.  A raw call into memory that is out
 * gets EFAULT in signal mode, so there the buffers are in when they are registered; once registered
 * they must stay where the kernel knows them. */
#include "ring.h"
#include <stdatomic.h>
#include <sys/uio.h>

#define LENGTH (4 * MIB)
#define PIECE (256UL * 1024)

static char *memory;
static atomic_int stop, held_off;

static void *evictor(void *unused) {
    (void)unused;
    while (!atomic_load(&stop)) {
        if (!atomic_load(&held_off))
            evict(memory, LENGTH);
        usleep(200);
    }
    return NULL;
}

/* A file with the pattern, opened for direct I/O where the file system can do that. */
static int pattern_file(int *direct) {
    char name[] = "vswap-direct-XXXXXX";
    int file = mkstemp(name);
    CHECK(file >= 0, "mkstemp in the current directory");
    evict_all(memory, LENGTH);
    CHECK(write(file, memory, LENGTH) == (ssize_t)LENGTH, "write from swapped memory");
    CHECK(fsync(file) == 0, "fsync");
    int opened = open(name, O_RDWR | O_DIRECT);
    *direct = opened >= 0;
    unlink(name);
    if (opened < 0)
        return file;
    close(file);
    return opened;
}

static void read_and_write(int file) {
    for (int round = 0; round < 20; round++) {
        for (size_t offset = 0; offset < LENGTH; offset += PIECE) {
            ssize_t done = pread(file, memory + offset, PIECE, (off_t)offset);
            CHECK(done == (ssize_t)PIECE, "pread returned %zd", done);
        }
        verify(memory, LENGTH, 1);
        for (size_t offset = 0; offset < LENGTH; offset += PIECE) {
            ssize_t done = pwrite(file, memory + offset, PIECE, (off_t)offset);
            CHECK(done == (ssize_t)PIECE, "pwrite returned %zd", done);
        }
    }
}

static void ring_reads(struct ring *ring, int file, int opcode) {
    for (int round = 0; round < 10; round++) {
        memset(memory, 0xee, LENGTH);
        evict(memory, LENGTH);
        for (size_t offset = 0; offset < LENGTH; offset += PIECE) {
            struct io_uring_sqe entry = {.opcode = (uint8_t)opcode,
                                         .fd = file,
                                         .off = offset,
                                         .addr = (uintptr_t)memory + offset,
                                         .len = PIECE};
            int result = submit_and_wait(ring, entry);
            CHECK(result == (int)PIECE, "io_uring opcode %d gave %d", opcode, result);
        }
        verify(memory, LENGTH, 1);
    }
}

int main(int argc, char **argv) {
    int thread_mode = argc > 1 && strcmp(argv[1], "thread") == 0, direct = 0;
    pthread_t pusher;
    struct ring ring;
    memory = map_pages(LENGTH);
    fill(memory, LENGTH, 1);
    int file = pattern_file(&direct);
    CHECK(pthread_create(&pusher, NULL, evictor, NULL) == 0, "pthread_create");
    read_and_write(file);
    int have_ring = open_ring(&ring);
    if (have_ring) {
        atomic_store(&held_off, !thread_mode);
        usleep(50000);
        evict_all(memory, LENGTH);
        if (!thread_mode)
            fill(memory, LENGTH, 1);
        struct iovec whole = {memory, LENGTH};
        int error = (int)syscall(SYS_io_uring_register, ring.descriptor, IORING_REGISTER_BUFFERS,
                                 &whole, 1);
        CHECK(error == 0, "registering");
        atomic_store(&held_off, 0);
        ring_reads(&ring, file, IORING_OP_READ_FIXED);
        error = (int)syscall(SYS_io_uring_register, ring.descriptor, IORING_UNREGISTER_BUFFERS,
                             NULL, 0);
        CHECK(error == 0, "unregistering");
        if (thread_mode)
            ring_reads(&ring, file, IORING_OP_READ);
    }
    atomic_store(&stop, 1);
    pthread_join(pusher, NULL);
    evict(memory, LENGTH);
    verify(memory, LENGTH, 1);
    self_check();
    printf("direct %d io_uring %d\n", direct, have_ring);
    return 0;
}
