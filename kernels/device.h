// A device: the operations and the memory of a backend. SPDX-License-Identifier: MIT
//
// Model code calls op_NAME(device, ...) (kernels/ops.h) on buffers of the device's own memory.
// Activations have an opaque type, so that model code can't read them: they are float32 on
// ref, bfloat16 or float32 on cpu and cuda. Operations return nothing; an error stays on
// the device, where device_error finds it, once a step.
#ifndef DIT_DEVICE_H
#define DIT_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct act act; // an element of an activation

struct device;
struct op_table;
struct team;

enum group_type { GROUP_FLOAT, GROUP_DOUBLE };
#define GROUP_ALL  (-1) // as the root of a sum: all processes receive it
#define GROUP_NAME 128  // bytes of a group's name

// What a backend provides: its operations, and the functions for memory and groups.
struct backend {
    const char *name;
    const struct op_table *ops;
    size_t act_size;  // bytes of one activation
    bool host_memory; // operations accept any memory of the host
    // 64-byte aligned and zeroed; NULL if there is not enough memory.
    void *(*alloc)(struct device *device, size_t bytes);
    void (*release)(struct device *device, void *memory);
    // From the host. `from` may be reused as soon as this returns.
    void (*upload)(struct device *device, void *to, const void *from, size_t bytes);
    // To the host. Waits for the operations before it.
    void (*download)(struct device *device, void *to, const void *from, size_t bytes);
    // Within the device.
    void (*copy)(struct device *device, void *to, const void *from, size_t bytes);
    void (*zero)(struct device *device, void *memory, size_t bytes);
    void (*close)(struct device *device);
    // Waits for all operations and sets the device's error if one failed. NULL if operations are
    // complete when they return.
    void (*wait)(struct device *device);
    // Implements device_repeat or, if `work` is NULL, device_forget. NULL if the backend gains
    // nothing by recording.
    void (*repeat)(struct device *device, void **record, void (*work)(void *user), void *user);
    double (*peak_flops)(struct device *device); // measured in a few ms; NULL if unknown
    // Free bytes. NULL on the host, where memory is not planned.
    size_t (*memory_free)(struct device *device);

    // Like upload, but runs in parallel with the operations. It waits for none of them, so no
    // operation under way may use `to`. Operations see the data only after send_wait. NULL if
    // upload is as good.
    void (*send)(struct device *device, void *to, const void *from, size_t bytes);
    void (*send_wait)(struct device *device);

    // Operations between side_begin and side_end take the results of those before them and run in
    // parallel with those that follow, until side_wait. NULL if nothing is gained by that.
    void (*side_begin)(struct device *device);
    void (*side_end)(struct device *device);
    void (*side_wait)(struct device *device);

    // A group of processes, each with a device, that sum and broadcast over a network of their own
    // (lib/model/ranks.h). All are NULL if arrays are in host memory, where the host sums and
    // broadcasts them.
    // One process makes the group's name, and all join it; both return -1 with a message in why.
    int (*group_make)(unsigned char name[GROUP_NAME], char why[256]);
    int (*group_join)(struct device *device, const unsigned char name[GROUP_NAME], int rank,
                      int size, char why[256]);
    // group_sum sums x[n] over the group, in place, for all processes or for `root` alone (x of the
    // others is then undefined); group_broadcast copies the root's bytes to all. Both take the
    // results of the operations before them, also of those at the side, and run in parallel with
    // those that follow, until group_wait. All processes must make the same calls in the same
    // order.
    void (*group_sum)(struct device *device, void *x, size_t n, enum group_type type, int root);
    void (*group_broadcast)(struct device *device, void *x, size_t bytes, int root);
    void (*group_wait)(struct device *device);
};

struct device {
    const struct backend *backend;
    const struct op_table *ops; // = backend->ops
    int threads;                // CPU threads for the operations; constant
    struct team *team;          // those threads; NULL for one, and on GPUs
    bool deterministic;         // the same input gives the same bits in every run
    char description[128];      // "cpu (avx2, 2 threads)"
    char note[320];             // a message for the user, why "auto" chose the CPU; or ""
    char error[256];            // the first error, or ""
    void *state;                // the backend's own
};

// name: "auto" (the first GPU if one is usable, else the CPU), "auto:N", "cpu", "cuda", "cuda:N";
// for tests also those that device_host_name lists. A precision may follow after a
// comma, as in "cuda:1,tf32": "bf16" (16-bit activations, the default of GPUs), "tf32" (of GPUs:
// float32, but products round their factors to 11 bits) or "f32" (the default of CPUs); and then
// ",deterministic" for the same bits in every run, which CPUs give anyway. threads >= 1. NULL with
// a message in why[256].
struct device *device_open(const char *name, int threads, char why[256]);
// The i-th backend that computes on this host: "ref", "lanes16" if it is linked in, "generic" and,
// where the processor has it and DIT_CPU allows it, "avx2", "avx512"; all but "ref" also in
// bfloat16, as "generic,bf16", and "avx512bf16,bf16". NULL past the last.
const char *device_host_name(size_t i);
void device_close(struct device *device); // NULL is fine

// The device's peak rate in operations a second, a multiply-add counting as two: measured on CPUs,
// from data sheets on GPUs. 0 if unknown.
double device_peak_flops(struct device *device);

// Runs work(user), which calls operations and copies within the device, with the same arguments
// every time. A GPU records them in *record (NULL at first) as a graph, and then launches that.
static inline void device_repeat(struct device *device, void **record, void (*work)(void *user),
                                 void *user)
{
    if (device->backend->repeat)
        device->backend->repeat(device, record, work, user);
    else
        work(user);
}
// Frees a record: at the end, or before the work changes.
static inline void device_forget(struct device *device, void **record)
{
    if (*record)
        device->backend->repeat(device, record, NULL, NULL);
}

// Sets the device's error, unless there is one already.
void device_set_error(struct device *device, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// The error's message, or NULL. Waits for all operations.
const char *device_error(struct device *device);

static inline void *device_alloc(struct device *device, size_t bytes)
{
    return device->backend->alloc(device, bytes);
}
static inline void device_release(struct device *device, void *memory)
{
    device->backend->release(device, memory);
}
static inline void device_upload(struct device *device, void *to, const void *from, size_t bytes)
{
    device->backend->upload(device, to, from, bytes);
}
static inline void device_send(struct device *device, void *to, const void *from, size_t bytes)
{
    if (device->backend->send)
        device->backend->send(device, to, from, bytes);
    else
        device_upload(device, to, from, bytes);
}
static inline void device_send_wait(struct device *device)
{
    if (device->backend->send_wait)
        device->backend->send_wait(device);
}
static inline void device_side_wait(struct device *device)
{
    if (device->backend->side_wait)
        device->backend->side_wait(device);
}
static inline void device_download(struct device *device, void *to, const void *from, size_t bytes)
{
    device->backend->download(device, to, from, bytes);
}
static inline void device_copy(struct device *device, void *to, const void *from, size_t bytes)
{
    device->backend->copy(device, to, from, bytes);
}
static inline void device_zero(struct device *device, void *memory, size_t bytes)
{
    device->backend->zero(device, memory, bytes);
}

// Whether activations are float32 in the host's memory, so that operations can use as weights what
// lies there anyway.
static inline bool device_uses_host_floats(const struct device *device)
{
    return device->backend->host_memory && device->backend->act_size == sizeof(float);
}

// The n-th activation from `from`. NULL stays NULL.
static inline act *act_at(const struct device *device, const act *from, size_t n)
{
    return from ? (act *)((uintptr_t)from + n * device->backend->act_size) : NULL;
}

#ifdef __cplusplus
}
#endif
#endif
