/* Buffers the kernel holds on to while they are read into: O_DIRECT and io_uring registered buffers,
 * by raw system calls, while the same memory is being pushed out.  A raw call into memory that is out
 * gets EFAULT in signal mode, and registering it does so in thread mode too before Linux 6.8, which
 * waits for no fault there.  So there the buffers are in when they are registered; once registered
 * they must stay where the kernel knows them. */
#include "ring.h"
#include <stdatomic.h>
#include <sys/uio.h>
#include <sys/utsname.h>

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

static int is_older_than(int major, int minor) {
    struct utsname name;
    int is_major = 0, is_minor = 0;
    CHECK(uname(&name) == 0, "uname");
    CHECK(sscanf(name.release, "%d.%d", &is_major, &is_minor) == 2, "release %s", name.release);
    return is_major < major || (is_major == major && is_minor < minor);
}

/* The buffers are out, or where that cannot be in, as soon as the pusher has noticed. */
static void register_buffers(struct ring *ring, int may_be_out) {
    struct iovec whole = {memory, LENGTH};
    atomic_store(&held_off, !may_be_out);
    for (int attempt = 0; attempt < 500; attempt++) {
        if (may_be_out)
            evict_all(memory, LENGTH);
        else
            fill(memory, LENGTH, 1);
        if (syscall(SYS_io_uring_register, ring->descriptor, IORING_REGISTER_BUFFERS, &whole, 1) == 0)
            break;
        CHECK(errno == EFAULT && attempt < 499, "registering");
        CHECK(!may_be_out || is_older_than(6, 8), "registering what is out");
        may_be_out = 0;
        atomic_store(&held_off, 1);
        usleep(2000);
    }
    atomic_store(&held_off, 0);
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
        register_buffers(&ring, thread_mode);
        ring_reads(&ring, file, IORING_OP_READ_FIXED);
        int error = (int)syscall(SYS_io_uring_register, ring.descriptor,
                                 IORING_UNREGISTER_BUFFERS, NULL, 0);
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
