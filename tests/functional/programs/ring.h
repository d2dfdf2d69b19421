/* As much of io_uring as the tests need, without its library. */
#ifndef VSWAP_TEST_RING_H
#define VSWAP_TEST_RING_H

#include "vswap_test.h"
#include <linux/io_uring.h>

#define ENTRIES 16

struct ring {
    int descriptor;
    char *submissions, *completions;
    struct io_uring_sqe *entries;
    struct io_uring_params parameters;
};

static int open_ring(struct ring *ring) {
    memset(ring, 0, sizeof *ring);
    ring->descriptor = (int)syscall(SYS_io_uring_setup, ENTRIES, &ring->parameters);
    if (ring->descriptor < 0)
        return 0;
    struct io_uring_params *p = &ring->parameters;
    size_t sq = p->sq_off.array + p->sq_entries * 4;
    size_t cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    ring->submissions = mmap(NULL, sq, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                             ring->descriptor, IORING_OFF_SQ_RING);
    ring->completions = mmap(NULL, cq, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                             ring->descriptor, IORING_OFF_CQ_RING);
    ring->entries = mmap(NULL, p->sq_entries * sizeof *ring->entries, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_POPULATE, ring->descriptor, IORING_OFF_SQES);
    CHECK(ring->submissions != MAP_FAILED && ring->completions != MAP_FAILED, "ring");
    return 1;
}

static int submit_and_wait(struct ring *ring, struct io_uring_sqe wanted) {
    struct io_uring_params *p = &ring->parameters;
    uint32_t *tail = (uint32_t *)(ring->submissions + p->sq_off.tail);
    uint32_t *array = (uint32_t *)(ring->submissions + p->sq_off.array);
    uint32_t *head = (uint32_t *)(ring->completions + p->cq_off.head);
    uint32_t mask = *(uint32_t *)(ring->completions + p->cq_off.ring_mask);
    uint32_t slot = *tail & (p->sq_entries - 1);
    ring->entries[slot] = wanted;
    array[slot] = slot;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    long done = syscall(SYS_io_uring_enter, ring->descriptor, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0);
    CHECK(done == 1, "io_uring_enter returned %ld", done);
    struct io_uring_cqe *entries = (struct io_uring_cqe *)(ring->completions + p->cq_off.cqes);
    int result = entries[*head & mask].res;
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    return result;
}

#endif
