// Sizes and names of element types, and conversion of floats. SPDX-License-Identifier: MIT
#include "lib/base/tensor.h"

#include <stdio.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "lib/base/cpu.h"
#include "lib/base/error.h"
#include "lib/base/float-bits.h"
#include "lib/base/mem.h"

// The names of each type in safetensors, NumPy's .npy and PyTorch; NULL if that format has none or
// we don't use it.
static const struct {
    size_t size;
    const char *name, *npy, *torch, *torch_storage;
} dtypes[DTYPE_COUNT] = {
    [DTYPE_BOOL] = {1, "BOOL", NULL, "bool", "BoolStorage"},
    [DTYPE_U8] = {1, "U8", "|u1", "uint8", "ByteStorage"},
    [DTYPE_I8] = {1, "I8", "|i1", "int8", "CharStorage"},
    [DTYPE_I16] = {2, "I16", "<i2", "int16", "ShortStorage"},
    [DTYPE_U16] = {2, "U16", "<u2", "uint16", NULL},
    [DTYPE_F16] = {2, "F16", "<f2", "float16", "HalfStorage"},
    [DTYPE_BF16] = {2, "BF16", NULL, "bfloat16", "BFloat16Storage"},
    [DTYPE_I32] = {4, "I32", "<i4", "int32", "IntStorage"},
    [DTYPE_U32] = {4, "U32", "<u4", "uint32", NULL},
    [DTYPE_F32] = {4, "F32", "<f4", "float32", "FloatStorage"},
    [DTYPE_I64] = {8, "I64", "<i8", "int64", "LongStorage"},
    [DTYPE_U64] = {8, "U64", "<u8", "uint64", NULL},
    [DTYPE_F64] = {8, "F64", "<f8", "float64", "DoubleStorage"},
};

size_t dtype_size(enum dtype dtype)
{
    return dtypes[dtype].size;
}

const char *dtype_name(enum dtype dtype)
{
    return dtypes[dtype].name;
}

const char *dtype_npy(enum dtype dtype)
{
    return dtypes[dtype].npy;
}

const char *dtype_torch(enum dtype dtype)
{
    return dtypes[dtype].torch;
}

const char *dtype_torch_storage(enum dtype dtype)
{
    return dtypes[dtype].torch_storage;
}

int dtype_from_name(const char *name, enum dtype *dtype)
{
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (strcmp(name, dtypes[i].name) == 0) {
            *dtype = (enum dtype)i;
            return 0;
        }
    return -1;
}

bool shape_count(const size_t *shape, size_t rank, size_t *count)
{
    size_t n = 1;
    for (size_t i = 0; i < rank; i++)
        if (!size_mul(n, shape[i], &n))
            return false;
    *count = n;
    return true;
}

char *shape_text(const size_t *shape, size_t rank, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (size_t i = 0; i < rank && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, i ? ", %zu" : "%zu", shape[i]);
    if (used < size)
        snprintf(text + used, size - used, "]");
    return text;
}

uint16_t f16_from_f32(float value)
{
    uint32_t bits = float_bits(value), magnitude = bits & 0x7FFFFFFF;
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (magnitude > 0x7F800000) { // NaN: keep what fits of the payload, which must not become 0
        uint32_t payload = magnitude >> 13 & 0x3FF;
        return (uint16_t)(sign | 0x7C00 | (payload ? payload : 0x200));
    }
    if (magnitude >= 0x477FF000) // rounds to 65536 or more
        return sign | 0x7C00;
    if (magnitude < 0x38800000) // subnormal: adding 0.5 makes the FPU round to multiples of 2^-24
        return sign | (uint16_t)(float_bits(float_from_bits(magnitude) + 0.5f) - float_bits(0.5f));
    // Rebias the exponent and round to even: add half a unit, less one if the last kept bit is
    // even.
    magnitude += 0xC8000FFF + (magnitude >> 13 & 1);
    return (uint16_t)(sign | magnitude >> 13);
}

float f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7FFF;
    if (magnitude >= 0x7C00) // infinity and NaN
        return float_from_bits(sign | 0x7F800000 | (magnitude & 0x3FF) << 13);
    if (magnitude < 0x400) // subnormal: exact
        return float_from_bits(sign | float_bits((float)magnitude * 0x1p-24f));
    return float_from_bits(sign | ((magnitude << 13) + 0x38000000));
}

uint16_t bf16_from_f32(float value)
{
    return bf16_from_float(value);
}

float bf16_to_f32(uint16_t bits)
{
    return float_from_bf16(bits);
}

static int refuse_dtype(enum dtype dtype)
{
    return error_set(STATUS_DATA, "expected a floating type (F16, BF16, F32 or F64), found %s",
                     dtype_name(dtype));
}

#ifdef __x86_64__
// Converts elements in groups of eight with F16C. Returns how many; the caller converts the rest.
__attribute__((target("avx,f16c"))) static size_t f16_read(float *dst, const uint8_t *src, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i halves = _mm_loadu_si128((const __m128i *)(src + 2 * i));
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(halves));
    }
    return i;
}
#else
static size_t f16_read(float *dst, const uint8_t *src, size_t n)
{
    (void)dst, (void)src, (void)n;
    return 0;
}
#endif

int floats_read(float *dst, const void *src, enum dtype dtype, size_t n)
{
    const uint8_t *bytes = src;
    uint16_t half;
    double wide;
    switch (dtype) {
    case DTYPE_F32:
        if (n)
            memcpy(dst, src, n * sizeof *dst);
        return 0;
    case DTYPE_F16:
        for (size_t i = cpu_isa() >= CPU_AVX2 ? f16_read(dst, bytes, n) : 0; i < n; i++) {
            memcpy(&half, bytes + i * sizeof half, sizeof half);
            dst[i] = f16_to_f32(half);
        }
        return 0;
    case DTYPE_BF16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, bytes + i * sizeof half, sizeof half);
            dst[i] = bf16_to_f32(half);
        }
        return 0;
    case DTYPE_F64:
        for (size_t i = 0; i < n; i++) {
            memcpy(&wide, bytes + i * sizeof wide, sizeof wide);
            dst[i] = (float)wide;
        }
        return 0;
    default:
        return refuse_dtype(dtype);
    }
}

int floats_write(void *dst, enum dtype dtype, const float *src, size_t n)
{
    uint8_t *bytes = dst;
    uint16_t half;
    double wide;
    switch (dtype) {
    case DTYPE_F32:
        if (n)
            memcpy(dst, src, n * sizeof *src);
        return 0;
    case DTYPE_F16:
        for (size_t i = 0; i < n; i++) {
            half = f16_from_f32(src[i]);
            memcpy(bytes + i * sizeof half, &half, sizeof half);
        }
        return 0;
    case DTYPE_BF16:
        for (size_t i = 0; i < n; i++) {
            half = bf16_from_f32(src[i]);
            memcpy(bytes + i * sizeof half, &half, sizeof half);
        }
        return 0;
    case DTYPE_F64:
        for (size_t i = 0; i < n; i++) {
            wide = src[i];
            memcpy(bytes + i * sizeof wide, &wide, sizeof wide);
        }
        return 0;
    default:
        return refuse_dtype(dtype);
    }
}
