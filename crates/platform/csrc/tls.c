/* The engine's per-thread block: 64 bytes in the static TLS area.
 *
 * initial-exec, because any other model may call malloc at a thread's first
 * access, and that access may happen inside a page fault. 64 bytes fit in the
 * surplus the loader keeps for libraries opened with dlopen. */
#include <stdint.h>

struct vswap_thread_block {
    uintptr_t word[8];
};

static __thread struct vswap_thread_block block
    __attribute__((tls_model("initial-exec"), aligned(64)));

__attribute__((visibility("hidden"))) struct vswap_thread_block *vswap_thread_block(void);

struct vswap_thread_block *vswap_thread_block(void)
{
    return &block;
}
