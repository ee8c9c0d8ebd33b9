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
    double (*peak_flops)(struct device *device); // measured in a few ms; NULL: not known
};

struct device {
    const struct backend *backend;
    const struct op_table *ops; // = backend->ops
    int threads;                // of the CPU
    char description[128];      // "cpu (AVX2, 2 threads)"
    char error[256];            // the first error, "" while there is none
    void *state;                // the backend's
};

// name: "auto", "cpu", "cuda", "cuda:N"; for tests also "ref" and "generic" (the cpu backend
// without AVX2). threads >= 1. NULL with a message in why[256] if it can't be had.
struct device *device_open(const char *name, int threads, char why[256]);
void device_close(struct device *device); // NULL is fine

// The most float32 operations a second that the device was seen to do just now, a multiply-add
// being two; 0 if that is not known.
double device_peak_flops(struct device *device);

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
