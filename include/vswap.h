/* vswap: memory that can be larger than RAM.
 *
 * Made from crates/capi by its test `header`; UPDATE_HEADER=1 writes it anew. */

#ifndef VSWAP_H
#define VSWAP_H

#include <stddef.h>
#include <stdint.h>

/**
 * Changes when a function or layout of this interface does.
 */
#define VSWAP_ABI_VERSION 1

/**
 * A layer under test.
 */
typedef struct vswap_layer vswap_layer;

/**
 * A space. Opaque to C; stays valid until `vswap_space_destroy`.
 */
typedef struct vswap_space vswap_space;

/**
 * Told now and then how many segments (pages, where slots are left) of how many have moved; 0 gives up.
 */
typedef int (*vswap_progress)(void *ctx, uint64_t moved, uint64_t total);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The ABI version of this library.
 */
uint32_t vswap_abi_version(void);

/**
 * What this library was built from, for telling copies apart. Never NULL.
 */
const char *vswap_build_id(void);

/**
 * The release, such as "0.1.0". Never NULL.
 */
const char *vswap_version(void);

/**
 * How many counters there are.
 */
size_t vswap_counter_count(void);

/**
 * The name of a counter; NULL past the end.
 */
const char *vswap_counter_name(size_t index);

/**
 * One line about a counter; NULL past the end.
 */
const char *vswap_counter_help(size_t index);

/**
 * 0 a count that only grows, 1 a gauge, 2 a peak; -EINVAL past the end.
 */
int vswap_counter_kind(size_t index);

/**
 * Copies up to `count` counters out. Returns how many, or -EINVAL.
 *
 * # Safety
 * `space` is a handle; `values` has room for `count` numbers.
 */
int vswap_counters(vswap_space *space, uint64_t *values, size_t count);

/**
 * Buckets of the fault latency histogram.
 */
size_t vswap_latency_buckets(void);

/**
 * The latency that `quantile` (0 to 1) of all faults stayed below, in ns; 0 without faults.
 *
 * # Safety
 * `space` is a handle.
 */
uint64_t vswap_latency_ns(vswap_space *space, double quantile);

/**
 * Checks every conservation law with the space held still. Returns how many
 * are violated, each a line of `report`; -EINVAL without a space.
 *
 * # Safety
 * `space` is a handle; `report` has room for `len` bytes.
 */
int vswap_check(vswap_space *space, char *report, size_t len);

/**
 * The configuration in force, as JSON. Returns 0 or -EINVAL.
 *
 * # Safety
 * `space` is a handle; `json` has room for `len` bytes.
 */
int vswap_describe(vswap_space *space, char *json, size_t len);

/**
 * Attaches a device: `path=`, `size=`, `priority=`, `kind=`, one a line. Returns 0,
 * or -errno with one clear sentence in `err`; nothing was changed then.
 *
 * # Safety
 * `space` is a handle, `spec` a C string, `err` has room for `err_len` bytes.
 */
int vswap_swapon(vswap_space *space, const char *spec, char *err, size_t err_len);

/**
 * Takes a device off; what is there goes to other devices and to RAM. `progress`
 * may be NULL; it is called in the calling thread with `ctx`. Returns 0, or -errno
 * with one clear sentence in `err`; the device is on then and nothing is lost.
 *
 * # Safety
 * `space` is a handle, `path` a C string, `progress` may be called with `ctx`,
 * `err` has room for `err_len` bytes.
 */
int vswap_swapoff(vswap_space *space,
                  const char *path,
                  vswap_progress progress,
                  void *ctx,
                  char *err,
                  size_t err_len);

/**
 * The devices as a JSON list, the highest priority first. Returns the length of
 * the whole text, of which as much is copied as fits, or -EINVAL.
 *
 * # Safety
 * `space` is a handle; `json` has room for `len` bytes.
 */
int vswap_devices(vswap_space *space, char *json, size_t len);

/**
 * Makes a group below `parent` (0: the root) with the limits of the lines
 * `key=value` (ram_max, zswap_max, swap_max: a size or none; writeback: on or
 * off; devices=all, or any number of device=NAME). Its key goes to `out`.
 * Returns 0, or -errno with one clear sentence in `err`.
 *
 * # Safety
 * `space` is a handle; `name` and `limits` are C strings; `out` is writable;
 * `err` has room for `err_len` bytes.
 */
int vswap_group_create(vswap_space *space,
                       uint32_t parent,
                       const char *name,
                       const char *limits,
                       uint32_t *out,
                       char *err,
                       size_t err_len);

/**
 * Changes limits of a group: all that the lines name, or none. Returns 0, or
 * -errno with one clear sentence in `err`.
 *
 * # Safety
 * `space` is a handle; `limits` is a C string; `err` has room for `err_len` bytes.
 */
int vswap_group_set(vswap_space *space,
                    uint32_t group,
                    const char *limits,
                    char *err,
                    size_t err_len);

/**
 * Ends a group without live blocks and children. Returns 0, or -errno with one
 * clear sentence in `err` (-EBUSY: something of it lives).
 *
 * # Safety
 * `space` is a handle; `err` has room for `err_len` bytes.
 */
int vswap_group_close(vswap_space *space, uint32_t group, char *err, size_t err_len);

/**
 * Moves up to `bytes` of a group out of compressed RAM to a device; where it may
 * not use one, out of memory into compressed RAM. Returns how many were moved,
 * or -ENOENT.
 *
 * # Safety
 * `space` is a handle.
 */
int64_t vswap_group_drain(vswap_space *space, uint32_t group, uint64_t bytes);

/**
 * What all groups hold and may hold, as a JSON list. Returns the bytes it takes
 * with its end; more than `len`: it was cut, ask again. -EINVAL without a space.
 *
 * # Safety
 * `space` is a handle; `json` has room for `len` bytes.
 */
int64_t vswap_groups(vswap_space *space, char *json, size_t len);

/**
 * A block as from `vswap_malloc`, paid for by a group; freed as any other.
 *
 * # Safety
 * `space` is a handle.
 */
void *vswap_group_malloc(vswap_space *space, uint32_t group, size_t size, size_t align);

/**
 * Creates a space from `key=value` lines (see docs/python.md). Returns 0, or
 * -errno with one clear sentence in `err`.
 *
 * # Safety
 * `config` is a C string; `out` is writable; `err` has room for `err_len` bytes.
 */
int vswap_space_create(const char *config, vswap_space **out, char *err, size_t err_len);

/**
 * The space of `vswap run`, or NULL.
 */
vswap_space *vswap_current(void);

/**
 * Live blocks and their bytes. Returns 0 or -EINVAL.
 *
 * # Safety
 * `space` is a handle; `blocks` and `bytes` are writable.
 */
int vswap_live(vswap_space *space, uint64_t *blocks, uint64_t *bytes);

/**
 * The space takes nothing new, and ends when its last block is freed. Returns 0.
 *
 * # Safety
 * `space` is a handle.
 */
int vswap_retire(vswap_space *space);

/**
 * Ends the space. Returns 0, or -EBUSY while it has live blocks.
 *
 * # Safety
 * `space` is a handle.
 */
int vswap_close(vswap_space *space);

/**
 * Frees the handle. A space with live blocks lives on until they are freed.
 *
 * # Safety
 * `space` is a handle nobody uses any more.
 */
void vswap_space_destroy(vswap_space *space);

/**
 * Changes the budget. Returns 0 or -EINVAL below the floor.
 *
 * # Safety
 * `space` is a handle.
 */
int vswap_set_ram(vswap_space *space, uint64_t bytes);

/**
 * Creates a layer without devices: RAM segments, a codec, and who shares equal pages (`dedup` 0 nobody, 1 the entries of
 * a group, 2 all). NULL when it cannot be had.
 */
vswap_layer *vswap_layer_create(uint32_t ram_segments,
                                int zstd,
                                int dedup);

/**
 * Destroys a layer.
 *
 * # Safety
 * `layer` was created here and nobody uses it any more.
 */
void vswap_layer_destroy(vswap_layer *layer);

/**
 * Allocates `count` neighbouring entries; the first goes to `first`. Returns 0 or -errno.
 *
 * # Safety
 * `layer` is valid, `first` is writable.
 */
int vswap_layer_allocate(vswap_layer *layer, size_t count, uint64_t *first);

/**
 * Frees `count` entries from `first`. Returns how many were dead already, or -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_free(vswap_layer *layer, uint64_t first, size_t count);

/**
 * Adds one to an entry's count. Returns the count, or -ENOENT for a dead entry.
 *
 * # Safety
 * `layer` is valid.
 */
int64_t vswap_layer_duplicate(vswap_layer *layer, uint64_t entry);

/**
 * An entry's count; 0 when dead.
 *
 * # Safety
 * `layer` is valid.
 */
uint64_t vswap_layer_count(vswap_layer *layer, uint64_t entry);

/**
 * Gives an entry the 4096 bytes at `page`. Returns 0 same-filled, 1 stored,
 * 2 unneeded (it was only cached: its frame is free and it is gone), or
 * -ENOENT (dead entry), -ENOSPC (no room; the entry is as it was).
 *
 * # Safety
 * `layer` is valid, `page` is readable.
 */
int vswap_layer_store(vswap_layer *layer, uint64_t entry, const void *page);

/**
 * Reads an entry's page. Returns 0, or -ENOENT (no bytes), -EBUSY (in a frame),
 * -EBADMSG (lost: poisoned), -EIO (the device failed; the bytes may still be there).
 *
 * # Safety
 * `layer` is valid, `page` has room for 4096 bytes.
 */
int vswap_layer_load(vswap_layer *layer, uint64_t entry, void *page);

/**
 * Where an entry's page is: 0 nowhere, 1 one word, 2 cached, 3 stored in RAM,
 * 4 stored on a device, 5 poisoned, 6 in a plain slot; -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_backing(vswap_layer *layer, uint64_t entry);

/**
 * Writes up to `segments` sealed segments to the device. Returns how many.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_writeback(vswap_layer *layer, size_t segments);

/**
 * Cleans once. Returns the segments emptied.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_clean(vswap_layer *layer);

/**
 * Checks the layer's laws: returns how many are violated, a line each in `report`.
 *
 * # Safety
 * `layer` is valid, `report` has room for `len` bytes.
 */
int vswap_layer_check(vswap_layer *layer, char *report, size_t len);

/**
 * Attaches a device in memory of `places` segments, or of 64 times as many slots (`slots` not 0; the first is never used),
 * which fails when told to, at any time. It is filled before those of its sort with lower priority; -1 is below all that
 * are attached. Returns its number, or -errno.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_attach(vswap_layer *layer,
                       uint32_t places,
                       int priority,
                       int slots);

/**
 * Takes an attached device off, using up to `ram_segments` of RAM, and gives up after `most` segments, or pages in slots
 * (some more, since they are moved several at once). Returns 0, or -ENOENT (not on), -EBUSY (being taken off), -ENOSPC
 * (what is there does not fit elsewhere; nothing was moved), -ECANCELED (given up), -EIO (a segment or page could not be
 * moved); -EINVAL. Whatever it is but 0, the device is on.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_swapoff(vswap_layer *layer,
                        size_t device,
                        uint32_t ram_segments,
                        uint32_t most);

/**
 * How an attached device is, in this order, as much as fits: 1 if it has slots and 0 if it has places for segments; the
 * number by which groups forbid it, among those of its sort; its priority; 0 on or 1 draining or 2 closed for writing; its
 * places, or slots; those taken; places with something in them that was not given up; places that were given up and could
 * not be given back; how many it gave back; how many calls it refused. Returns how many values there are, or -ENOENT (it
 * is off); -EINVAL.
 *
 * # Safety
 * `layer` is valid, `values` has room for `count` values.
 */
int vswap_layer_device(vswap_layer *layer,
                       size_t device,
                       int64_t *values,
                       size_t count);

/**
 * The attached device that an entry's page is on, in a segment or in a slot; -ENOENT if it is on none; -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_device_of(vswap_layer *layer,
                          uint64_t entry);

/**
 * Makes the `nth` read (`call` 0), write (1) or discard (2) from now on of an attached device fail: `kind` 0 I/O error, 1 no
 * space, 2 only half is done, 3 success is reported, but bytes were changed on the way, or nothing was given back. Returns
 * 0, or -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_fault(vswap_layer *layer,
                      size_t device,
                      int call,
                      uint64_t nth,
                      int kind);

/**
 * Says how an attached device is from now on: every call fails with ENODEV while `gone` is not 0, and takes
 * `delay_us` microseconds longer. Also forgets the faults planned for it. Returns 0, or -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_condition(vswap_layer *layer,
                          size_t device,
                          int gone,
                          uint32_t delay_us);

/**
 * Reads of (`call` 0), writes to (1) or discards on (2) an attached device so far; -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int64_t vswap_layer_calls(vswap_layer *layer, size_t device, int call);

/**
 * Makes a group under `parent` (0: the root). Returns its number, or -ENOSPC; -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_group_create(vswap_layer *layer, size_t parent);

/**
 * Ends a group. Pages of others in its segments that may not go where its parent's may get bytes of their own. Returns how
 * many found no room for that, or -EBUSY (entries of it are in use), -ENOTEMPTY (it has children or is no such group);
 * -EINVAL. Nobody makes a group, ends one or allocates for it meanwhile.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_group_end(vswap_layer *layer,
                          size_t group);

/**
 * Limits a group and those below it to so many segments in RAM (`resource` 0) or on devices (1); below 0: no limit.
 * Returns 0, or -EBUSY (more are in use, and nothing changed); -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_group_limit(vswap_layer *layer,
                            size_t group,
                            int resource,
                            int64_t segments);

/**
 * Says whether a group's bytes may go to devices, and to which never: of those for segments and of those for slots, a bit
 * each. Pages that groups may share no longer get bytes of their own. Returns how many found no room for that; -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_group_rules(vswap_layer *layer,
                            size_t group,
                            int writeback,
                            uint32_t forbidden_devices,
                            uint32_t forbidden_slots);

/**
 * What a group is charged for, in this order, as much as fits: its own entries, and those with its children's; its own
 * segments in RAM, and with its children's; the same of devices; times its limit of RAM stopped a segment, and that of
 * devices; pages that found no room under a limit. Returns how many values there are, or -ENOENT; -EINVAL.
 *
 * # Safety
 * `layer` is valid, `values` has room for `count` values.
 */
int vswap_layer_group_charge(vswap_layer *layer,
                             size_t group,
                             uint64_t *values,
                             size_t count);

/**
 * [`vswap_layer_allocate`], and the group pays. Returns 0 or -errno.
 *
 * # Safety
 * `layer` is valid, `first` is writable.
 */
int vswap_layer_allocate_for(vswap_layer *layer, size_t group, size_t count, uint64_t *first);

/**
 * The group that pays for an entry in use; -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_group_of(vswap_layer *layer, uint64_t entry);

/**
 * Writes up to `segments` segments of a group and those below it to devices. Returns how many; -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_group_writeback(vswap_layer *layer,
                                size_t group,
                                size_t segments);

/**
 * Creates a layer for `entries` pages over a device of `places` segments that keeps nothing: its pages cannot be read back.
 * NULL when it cannot be had.
 */
vswap_layer *vswap_layer_create_null(size_t entries,
                                     uint32_t places);

/**
 * Allocates up to `count` entries, gives each a made-up page and writes its number to `entries`. Returns how many; -EINVAL.
 *
 * # Safety
 * `layer` is valid, `entries` has room for `count` numbers.
 */
int64_t vswap_layer_fill(vswap_layer *layer,
                         uint64_t *entries,
                         size_t count);

/**
 * Bytes the layer's bookkeeping takes, in this order, as many as fit in `values`: descriptors, counts above one, clusters,
 * segment table, places of devices, headers of objects, padding of objects. Returns how many there are, or -EINVAL.
 *
 * # Safety
 * `layer` is valid, `values` has room for `count` values.
 */
int vswap_layer_memory(vswap_layer *layer,
                       uint64_t *values,
                       size_t count);

/**
 * Binds a frame to an entry that has no bytes. Returns 1, or 0 if it has some or is dead; -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_cache(vswap_layer *layer, uint64_t entry, uint32_t frame);

/**
 * Takes the frame of a cached entry. Returns it, or -ENOENT if there is none; -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int64_t vswap_layer_take_frame(vswap_layer *layer, uint64_t entry);

/**
 * Gives an entry's bytes up for lost. Returns 0, or -ENOENT for a dead entry; -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_poison(vswap_layer *layer, uint64_t entry);

/**
 * What the layer holds and did, in this order, as many as fit in `values`: entries in use, pages of one word, stored
 * pages, their bytes, pages swapped out and swapped in and found lost so far, segments in RAM, how many there may be,
 * segments on devices, pages in slots. Returns how many values there are, or -EINVAL.
 *
 * # Safety
 * `layer` is valid, `values` has room for `count` values.
 */
int vswap_layer_gauges(vswap_layer *layer,
                       uint64_t *values,
                       size_t count);

/**
 * Lets so much time pass that the next look at what was read is due, and moves segments between devices of different
 * priority until none should move. Returns how many moved; -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_look(vswap_layer *layer);

/**
 * From now on pages go to slots where they may, also those that compress (`on` not 0), or only those that do not or find no
 * room. Returns 0; -EINVAL.
 *
 * # Safety
 * `layer` is valid.
 */
int vswap_layer_prefer_slots(vswap_layer *layer,
                             int on);

/**
 * A block of `size` bytes at a multiple of `align` (at least a page), or NULL:
 * no room, or the space was retired.
 *
 * # Safety
 * `space` is a handle.
 */
void *vswap_malloc(vswap_space *space, size_t size, size_t align);

/**
 * A block of `count * size` zero bytes, or NULL.
 *
 * # Safety
 * `space` is a handle.
 */
void *vswap_calloc(vswap_space *space, size_t count, size_t size);

/**
 * The block with another size, its bytes kept; NULL (and the old block as it was) without room.
 *
 * # Safety
 * `space` is a handle, `block` is NULL or one of its blocks.
 */
void *vswap_realloc(vswap_space *space, void *block, size_t size);

/**
 * Frees a block; NULL is fine.
 *
 * # Safety
 * `space` is a handle, `block` is NULL or one of its blocks.
 */
void vswap_free(vswap_space *space, void *block);

/**
 * Bytes from `block` to the end of the block it starts or lies in; 0 outside.
 *
 * # Safety
 * `space` is a handle.
 */
size_t vswap_usable_size(vswap_space *space, const void *block);

/**
 * 1 if the address lies in the space's range.
 *
 * # Safety
 * `space` is a handle.
 */
int vswap_owns(vswap_space *space, const void *addr);

/**
 * Moves what it can of the range out of memory. Returns pages moved, or -errno.
 *
 * # Safety
 * `space` is a handle.
 */
int64_t vswap_evict(vswap_space *space, void *addr, size_t len);

/**
 * Brings the range in, as far as the budget allows. Returns pages, or -errno.
 *
 * # Safety
 * `space` is a handle.
 */
int64_t vswap_prefetch(vswap_space *space, void *addr, size_t len);

/**
 * Keeps the range in memory. Returns pages, or -errno (ENOMEM: over the budget).
 *
 * # Safety
 * `space` is a handle.
 */
int64_t vswap_pin(vswap_space *space, void *addr, size_t len);

/**
 * Undoes one `vswap_pin` of the same range. Returns pages, or -errno.
 *
 * # Safety
 * `space` is a handle.
 */
int64_t vswap_unpin(vswap_space *space, void *addr, size_t len);

/**
 * Makes a context for the handler of `space`. Returns 0 or -EINVAL.
 *
 * # Safety
 * `space` is a handle, `out` is writable.
 */
int vswap_np_context(vswap_space *space, size_t threshold, void **out);

/**
 * Makes a context for the handler of a group of `space` (0: the root). Returns
 * 0 or -EINVAL.
 *
 * # Safety
 * `space` is a handle, `out` is writable.
 */
int vswap_np_group_context(vswap_space *space, uint32_t group, size_t threshold, void **out);

/**
 * Frees a context that no array's handler refers to any more.
 *
 * # Safety
 * `ctx` came from `vswap_np_context` and is used by nobody.
 */
void vswap_np_context_free(void *ctx);

/**
 * NumPy's malloc.
 *
 * # Safety
 * As NumPy calls it, with a context of ours.
 */
void *vswap_np_malloc(void *ctx, size_t size);

/**
 * NumPy's calloc.
 *
 * # Safety
 * As NumPy calls it, with a context of ours.
 */
void *vswap_np_calloc(void *ctx, size_t count, size_t size);

/**
 * NumPy's realloc: blocks cross the threshold both ways.
 *
 * # Safety
 * As NumPy calls it, with a context of ours.
 */
void *vswap_np_realloc(void *ctx, void *block, size_t size);

/**
 * NumPy's free.
 *
 * # Safety
 * As NumPy calls it, with a context of ours.
 */
void vswap_np_free(void *ctx, void *block, size_t _size);

/**
 * Reads one byte of each page of `order` (numbers relative to `base`); the
 * latencies go to `latency_ns` unless that is NULL. Returns 0.
 *
 * # Safety
 * Every page is mapped and readable; `order` and `latency_ns` hold `count` numbers.
 */
int vswap_touch_pages(void *base, const uint32_t *order, size_t count, uint32_t *latency_ns);

/**
 * As `vswap_touch_pages`, but writes the byte it read.
 *
 * # Safety
 * As `vswap_touch_pages`, and writable.
 */
int vswap_write_pages(void *base, const uint32_t *order, size_t count, uint32_t *latency_ns);

/**
 * Notes events from now on (`on` not 0), or no longer. Returns 0 or -EINVAL.
 *
 * # Safety
 * `space` is a handle.
 */
int vswap_trace_on(vswap_space *space, int on);

/**
 * Events the ring holds.
 */
size_t vswap_trace_capacity(void);

/**
 * Copies up to `count` events of four words out, the oldest first, from number `from` on. Returns how many, or -EINVAL.
 *
 * # Safety
 * `space` is a handle; `words` has room for four words of each event.
 */
int64_t vswap_trace_read(vswap_space *space,
                         uint64_t from,
                         uint64_t *words,
                         size_t count);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* VSWAP_H */
