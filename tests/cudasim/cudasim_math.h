// CUDA's intrinsic functions. The approximate ones are exact to the last place or two here, so
// their errors show only on a GPU. SPDX-License-Identifier: MIT
#ifndef CUDASIM_MATH_H
#define CUDASIM_MATH_H

// Macros, because the C library declares functions of these names itself.
#define __expf    expf
#define __logf    logf
#define __log2f   log2f
#define __sinf    sinf
#define __cosf    cosf
#define __sincosf sincosf
#define __powf    powf
// Since 2.41 glibc has some that CUDA has without underscores, in C23's meaning.
#define rsqrtf    cudasim_rsqrtf
#define sinpif    cudasim_sinpif
#define cospif    cudasim_cospif
#define sincospif cudasim_sincospif

#define CUDASIM_UNARY(name, result, type, value) \
    static inline result name(type x)            \
    {                                            \
        return value;                            \
    }
#define CUDASIM_BINARY(name, type, value)   \
    static inline type name(type x, type y) \
    {                                       \
        return value;                       \
    }
CUDASIM_UNARY(rsqrtf, float, float, 1.0f / sqrtf(x))
CUDASIM_UNARY(__frsqrt_rn, float, float, static_cast<float>(1.0 / sqrt(x)))
CUDASIM_UNARY(__fsqrt_rn, float, float, sqrtf(x))
CUDASIM_UNARY(__frcp_rn, float, float, 1.0f / x)
CUDASIM_UNARY(__saturatef, float, float, x > 0 ? (x < 1 ? x : 1) : 0)
CUDASIM_UNARY(sinpif, float, float, static_cast<float>(sin(M_PI *x)))
CUDASIM_UNARY(cospif, float, float, static_cast<float>(cos(M_PI *x)))
CUDASIM_UNARY(__float2int_rn, int, float, static_cast<int>(lrintf(x)))
CUDASIM_UNARY(__float2int_rz, int, float, static_cast<int>(x))
CUDASIM_UNARY(__int2float_rn, float, int, static_cast<float>(x))
CUDASIM_UNARY(__uint2float_rn, float, unsigned, static_cast<float>(x))
CUDASIM_UNARY(__popc, int, unsigned, __builtin_popcount(x))
CUDASIM_UNARY(__clz, int, int, x ? __builtin_clz(static_cast<unsigned>(x)) : 32)
CUDASIM_UNARY(__ffs, int, int, __builtin_ffs(x))
CUDASIM_BINARY(__fadd_rn, float, x + y)
CUDASIM_BINARY(__fsub_rn, float, x - y)
CUDASIM_BINARY(__fmul_rn, float, x *y)
CUDASIM_BINARY(__fdiv_rn, float, x / y)
CUDASIM_BINARY(__fdividef, float, x / y)
CUDASIM_BINARY(__umulhi, unsigned, static_cast<unsigned>(static_cast<uint64_t>(x) * y >> 32))
#undef CUDASIM_UNARY
#undef CUDASIM_BINARY

static inline float __fmaf_rn(float x, float y, float z)
{
    return fmaf(x, y, z);
}
static inline void sincospif(float x, float *s, float *c)
{
    *s = sinpif(x);
    *c = cospif(x);
}

template <class To, class From> static inline To cudasim_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline unsigned __float_as_uint(float x)
{
    return cudasim_bits<unsigned>(x);
}
static inline int __float_as_int(float x)
{
    return cudasim_bits<int>(x);
}
static inline float __uint_as_float(unsigned x)
{
    return cudasim_bits<float>(x);
}
static inline float __int_as_float(int x)
{
    return cudasim_bits<float>(x);
}

// Unlike CUDA's, both arguments must have one type, so that nothing is converted silently.
template <class T> static inline T max(T x, T y)
{
    return x < y ? y : x;
}
template <class T> static inline T min(T x, T y)
{
    return y < x ? y : x;
}

#endif
