// Replaces CUDA's cuda_bf16.h: conversions only, and none implicit, so that no product is computed
// in float here but in bfloat16 on a GPU. SPDX-License-Identifier: MIT
#ifndef CUDASIM_CUDA_BF16_H
#define CUDASIM_CUDA_BF16_H

#include <cuda_runtime.h>

struct __nv_bfloat16 {
    unsigned short bits;

    __nv_bfloat16() = default;
    // To the nearest, ties to even; a NaN becomes the canonical one.
    explicit __nv_bfloat16(float x)
    {
        const unsigned u = __float_as_uint(x);
        bits = x != x ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
    }
    explicit operator float() const
    {
        return __uint_as_float(static_cast<unsigned>(bits) << 16);
    }
};

struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

static inline __nv_bfloat16 __float2bfloat16(float x)
{
    return __nv_bfloat16(x);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    return __nv_bfloat16(x);
}
static inline float __bfloat162float(__nv_bfloat16 x)
{
    return static_cast<float>(x);
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
    return {__nv_bfloat16(x), __nv_bfloat16(y)};
}
static inline __nv_bfloat162 __float22bfloat162_rn(float2 v)
{
    return __floats2bfloat162_rn(v.x, v.y);
}
static inline float2 __bfloat1622float2(__nv_bfloat162 v)
{
    return {static_cast<float>(v.x), static_cast<float>(v.y)};
}
static inline float __low2float(__nv_bfloat162 v)
{
    return static_cast<float>(v.x);
}
static inline float __high2float(__nv_bfloat162 v)
{
    return static_cast<float>(v.y);
}
static inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v)
{
    return v.x;
}
static inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v)
{
    return v.y;
}
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y)
{
    return {x, y};
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x)
{
    return x.bits;
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    __nv_bfloat16 x;
    x.bits = bits;
    return x;
}

#endif
