// A device: a backend's operations and its memory. SPDX-License-Identifier: MIT
//
// Model code calls op_NAME(device, ...) (kernels/ops.h) on buffers of the device's own memory.
// Activations have an opaque type, so that model code can't read them: float32 on the backends
// ref and cpu, bfloat16 or float32 on cuda. An operation returns nothing; what goes wrong is set
// on the device (device_error) and checked once a step.
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

enum group_type { GROUP_FLOAT, GROUP_DOUBLE };
#define GROUP_ALL  (-1) // as the root of a sum: all get it
#define GROUP_NAME 128  // bytes of a group's name

// What a backend provides beside its operations.
struct backend {
    const char *name;
    const struct op_table *ops;
    size_t act_size;  // bytes of one activation
    bool host_floats; // activations are floats in host memory: any array of them will do
    void *(*alloc)(struct device *device,
                   size_t bytes); // 64-byte aligned, zeroed; NULL if there is no memory
    void (*release)(struct device *device, void *memory);
    void (*upload)(struct device *device, void *to, const void *from,
                   size_t bytes); // from the host
    void (*download)(struct device *device, void *to, const void *from,
                     size_t bytes); // to the host; waits
    void (*copy)(struct device *device, void *to, const void *from,
                 size_t bytes); // within the device
    void (*zero)(struct device *device, void *memory, size_t bytes);
    void (*close)(struct device *device);
    // Waits, and sets on the device what has failed. NULL: operations are done when they return.
    void (*wait)(struct device *device);
    // device_repeat; without work, device_forget. NULL: nothing would be gained.
    void (*repeat)(struct device *device, void **record, void (*work)(void *user), void *user);
    double (*peak_flops)(struct device *device);  // measured in a few ms; NULL: not known
    size_t (*memory_free)(struct device *device); // bytes; NULL: the host's, which are not planned

    // As upload, but beside the operations, which neither wait for it, until send_wait, nor it for
    // them: none that has begun may use `to`. NULL: upload is as good.
    void (*send)(struct device *device, void *to, const void *from, size_t bytes);
    void (*send_wait)(struct device *device);

    // A group of processes with one device each, which sum and copy over a network of their own
    // (lib/model/ranks.h). All NULL: arrays are in the host's memory, and the host does it.
    // One process makes the group's name, all join by it; both return -1 with a message in why.
    int (*group_make)(unsigned char name[GROUP_NAME], char why[256]);
    int (*group_join)(struct device *device, const unsigned char name[GROUP_NAME], int rank,
                      int size, char why[256]);
    // Sums x[n] over the group, in place, for all or for one (elsewhere x is then undefined);
    // copies bytes from one to all. They take what the operations so far have made, and run beside
    // those that follow until group_wait, in the order of the calls, which is the same in all
    // processes.
    void (*group_sum)(struct device *device, void *x, size_t n, enum group_type type, int root);
    void (*group_broadcast)(struct device *device, void *x, size_t bytes, int root);
    void (*group_wait)(struct device *device);
};

struct device {
    const struct backend *backend;
    const struct op_table *ops; // = backend->ops
    int threads;                // of the CPU
    char description[128];      // "cpu (AVX2, 2 threads)"
    char note[320];             // what the user should know: why "auto" is no GPU; else ""
    char error[256];            // the first error, "" while there is none
    void *state;                // the backend's
};

// name: "auto" (the first GPU if one answers, else the CPU), "auto:N", "cpu", "cuda", "cuda:N"; for
// tests also "ref" and "generic" (the cpu backend without AVX2). After a comma the precision may
// follow: "bf16" (activations in 16 bits; what a GPU takes by default), "tf32" (float32, products
// of factors rounded to 11 bits) or "f32" (the only one of a CPU): "cuda:1,tf32". threads >= 1.
// NULL with a message in why[256] if it can't be had.
struct device *device_open(const char *name, int threads, char why[256]);
void device_close(struct device *device); // NULL is fine

// The most float32 operations a second that the device was seen to do just now, a multiply-add
// being two; 0 if that is not known.
double device_peak_flops(struct device *device);

// Runs work(user): operations and copies within the device, each time the same to the last pointer
// and number. A GPU records them in *record (NULL before the first time) and then launches them as
// one.
static inline void device_repeat(struct device *device, void **record, void (*work)(void *user),
                                 void *user)
{
    if (device->backend->repeat)
        device->backend->repeat(device, record, work, user);
    else
        work(user);
}
// Frees a record, at the end or before the work changes.
static inline void device_forget(struct device *device, void **record)
{
    if (*record)
        device->backend->repeat(device, record, NULL, NULL);
}

// Sets the first error; later ones are dropped.
void device_set_error(struct device *device, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// The message, or NULL. Waits for what is running.
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

// The n-th activation from `from`. NULL stays NULL.
static inline act *act_at(const struct device *device, const act *from, size_t n)
{
    return from ? (act *)((uintptr_t)from + n * device->backend->act_size) : NULL;
}

#ifdef __cplusplus
}
#endif
#endif
