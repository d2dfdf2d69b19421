"""The C interface as Python sees it: the declarations of include/vswap.h.

A test keeps this text equal to the header.  Nothing here loads the library.
"""

from __future__ import annotations

import importlib
from typing import Any

ABI_VERSION = 1
"""The interface this package was written for; the SONAME carries it too."""

SONAME = "libvswap.so.1"

SCOPE_SPACE = "space"
SCOPE_PROCESS = "process"

CDEF = """
typedef struct vswap_space vswap_space;
typedef struct vswap_layer vswap_layer;
typedef int (*vswap_progress)(void *ctx, uint64_t moved, uint64_t total);

uint32_t vswap_abi_version(void);
const char *vswap_build_id(void);
const char *vswap_version(void);

int vswap_space_create(const char *config, vswap_space **out, char *err, size_t err_len);
void vswap_space_destroy(vswap_space *space);
vswap_space *vswap_current(void);
int vswap_live(vswap_space *space, uint64_t *blocks, uint64_t *bytes);
int vswap_retire(vswap_space *space);
int vswap_close(vswap_space *space);
int vswap_set_ram(vswap_space *space, uint64_t bytes);

void *vswap_malloc(vswap_space *space, size_t size, size_t align);
void *vswap_calloc(vswap_space *space, size_t count, size_t size);
void *vswap_realloc(vswap_space *space, void *block, size_t size);
void vswap_free(vswap_space *space, void *block);
size_t vswap_usable_size(vswap_space *space, const void *block);
int vswap_owns(vswap_space *space, const void *addr);

int64_t vswap_evict(vswap_space *space, void *addr, size_t len);
int64_t vswap_prefetch(vswap_space *space, void *addr, size_t len);
int64_t vswap_pin(vswap_space *space, void *addr, size_t len);
int64_t vswap_unpin(vswap_space *space, void *addr, size_t len);

size_t vswap_counter_count(void);
const char *vswap_counter_name(size_t index);
const char *vswap_counter_help(size_t index);
int vswap_counter_kind(size_t index);
int vswap_counters(vswap_space *space, uint64_t *values, size_t count);
size_t vswap_latency_buckets(void);
uint64_t vswap_latency_ns(vswap_space *space, double quantile);
int vswap_check(vswap_space *space, char *report, size_t len);
int vswap_describe(vswap_space *space, char *json, size_t len);

int vswap_swapon(vswap_space *space, const char *spec, char *err, size_t err_len);
int vswap_swapoff(vswap_space *space, const char *path, vswap_progress progress, void *ctx,
    char *err, size_t err_len);
int vswap_devices(vswap_space *space, char *json, size_t len);
int vswap_trace_on(vswap_space *space, int on);
size_t vswap_trace_capacity(void);
int64_t vswap_trace_read(vswap_space *space, uint64_t from, uint64_t *words, size_t count);

int vswap_group_create(vswap_space *space, uint32_t parent, const char *name, const char *limits,
                       uint32_t *out, char *err, size_t err_len);
int vswap_group_set(vswap_space *space, uint32_t group, const char *limits, char *err,
                    size_t err_len);
int vswap_group_close(vswap_space *space, uint32_t group, char *err, size_t err_len);
int64_t vswap_group_drain(vswap_space *space, uint32_t group, uint64_t bytes);
int64_t vswap_groups(vswap_space *space, char *json, size_t len);
void *vswap_group_malloc(vswap_space *space, uint32_t group, size_t size, size_t align);

int vswap_np_context(vswap_space *space, size_t threshold, void **out);
int vswap_np_group_context(vswap_space *space, uint32_t group, size_t threshold, void **out);
void vswap_np_context_free(void *ctx);
void *vswap_np_malloc(void *ctx, size_t size);
void *vswap_np_calloc(void *ctx, size_t count, size_t size);
void *vswap_np_realloc(void *ctx, void *block, size_t size);
void vswap_np_free(void *ctx, void *block, size_t size);

vswap_layer *vswap_layer_create(uint32_t ram_segments, int zstd, int dedup);
void vswap_layer_destroy(vswap_layer *layer);
int vswap_layer_allocate(vswap_layer *layer, size_t count, uint64_t *first);
int vswap_layer_free(vswap_layer *layer, uint64_t first, size_t count);
int64_t vswap_layer_duplicate(vswap_layer *layer, uint64_t entry);
uint64_t vswap_layer_count(vswap_layer *layer, uint64_t entry);
int vswap_layer_store(vswap_layer *layer, uint64_t entry, const void *page);
int vswap_layer_load(vswap_layer *layer, uint64_t entry, void *page);
int vswap_layer_backing(vswap_layer *layer, uint64_t entry);
int vswap_layer_cache(vswap_layer *layer, uint64_t entry, uint32_t frame);
int64_t vswap_layer_take_frame(vswap_layer *layer, uint64_t entry);
int vswap_layer_poison(vswap_layer *layer, uint64_t entry);
vswap_layer *vswap_layer_create_null(size_t entries, uint32_t places);
int64_t vswap_layer_fill(vswap_layer *layer, uint64_t *entries, size_t count);
int vswap_layer_memory(vswap_layer *layer, uint64_t *values, size_t count);
int vswap_layer_gauges(vswap_layer *layer, uint64_t *values, size_t count);
int vswap_layer_attach(vswap_layer *layer, uint32_t places, int priority, int slots);
int vswap_layer_swapoff(vswap_layer *layer, size_t device, uint32_t ram_segments, uint32_t most);
int vswap_layer_device(vswap_layer *layer, size_t device, int64_t *values, size_t count);
int vswap_layer_device_of(vswap_layer *layer, uint64_t entry);
int vswap_layer_fault(vswap_layer *layer, size_t device, int call, uint64_t nth, int kind);
int vswap_layer_condition(vswap_layer *layer, size_t device, int gone, uint32_t delay_us);
int64_t vswap_layer_calls(vswap_layer *layer, size_t device, int call);
int vswap_layer_look(vswap_layer *layer);
int vswap_layer_prefer_slots(vswap_layer *layer, int on);
int vswap_layer_group_create(vswap_layer *layer, size_t parent);
int vswap_layer_group_end(vswap_layer *layer, size_t group);
int vswap_layer_group_limit(vswap_layer *layer, size_t group, int resource, int64_t segments);
int vswap_layer_group_rules(vswap_layer *layer, size_t group, int writeback,
                            uint32_t forbidden_devices, uint32_t forbidden_slots);
int vswap_layer_group_charge(vswap_layer *layer, size_t group, uint64_t *values, size_t count);
int vswap_layer_allocate_for(vswap_layer *layer, size_t group, size_t count, uint64_t *first);
int vswap_layer_group_of(vswap_layer *layer, uint64_t entry);
int vswap_layer_group_writeback(vswap_layer *layer, size_t group, size_t segments);
int vswap_layer_writeback(vswap_layer *layer, size_t segments);
int vswap_layer_clean(vswap_layer *layer);
int vswap_layer_check(vswap_layer *layer, char *report, size_t len);

int vswap_touch_pages(void *base, const uint32_t *order, size_t count, uint32_t *latency_ns);
int vswap_write_pages(void *base, const uint32_t *order, size_t count, uint32_t *latency_ns);
"""


def new_ffi() -> Any:
    """Return a cffi FFI that knows the declarations.

    cffi has no type information of its own, so it is imported by name and
    everything it gives is ``Any``: this keeps the untyped part in one place.
    """
    ffi = importlib.import_module("cffi").FFI()
    ffi.cdef(CDEF)
    return ffi
