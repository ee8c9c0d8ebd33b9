// Element types under the names of safetensors, shapes, and conversion of floats.
// SPDX-License-Identifier: MIT
#ifndef DIT_TENSOR_H
#define DIT_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if __SIZEOF_POINTER__ != 8
#error "dit-tools needs a 64-bit system: files are mapped whole, and their sizes exceed 32 bits"
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "dit-tools needs a little-endian processor: files hold values as they lie in memory"
#endif

#define TENSOR_RANK_MAX 8
#define TENSOR_NAME_MAX 64 // bytes of a name in a stream; names in files of weights may be longer

enum dtype {
    DTYPE_BOOL,
    DTYPE_U8,
    DTYPE_I8,
    DTYPE_I16,
    DTYPE_U16,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_I32,
    DTYPE_U32,
    DTYPE_F32,
    DTYPE_I64,
    DTYPE_U64,
    DTYPE_F64,
    DTYPE_COUNT,
};

size_t dtype_size(enum dtype dtype);                      // bytes of one element
const char *dtype_name(enum dtype dtype);                 // "F32"
int dtype_from_name(const char *name, enum dtype *dtype); // -1, without a message, if unknown
const char *dtype_npy(enum dtype dtype);                  // "<f4"; NULL: not read from .npy
const char *dtype_torch(enum dtype dtype);                // "float32"
const char *dtype_torch_storage(enum dtype dtype);        // "FloatStorage"; NULL if there is none

// The number of elements, 1 for rank 0; false on overflow.
bool shape_count(const size_t *shape, size_t rank, size_t *count);
// Writes "[1, 2, 3]" into text, cut to size; returns text.
char *shape_text(const size_t *shape, size_t rank, char *text, size_t size);

// Rounding is to nearest even; infinities and NaN are kept.
uint16_t f16_from_f32(float value);
float f16_to_f32(uint16_t bits);
uint16_t bf16_from_f32(float value);
float bf16_to_f32(uint16_t bits);

// Convert n elements of a floating type (F16, BF16, F32 or F64) to or from float32. src and dst
// need no alignment. -1 with an error (STATUS_DATA) if dtype is not a floating type.
int floats_read(float *dst, const void *src, enum dtype dtype, size_t n);
int floats_write(void *dst, enum dtype dtype, const float *src, size_t n);

#endif
