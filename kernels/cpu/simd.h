// Elementary functions: of vectors (vec_NAME), and of floats (simd_NAME) in plain C without
// branches, tables or calls, which compilers vectorise in `#pragma omp simd` loops.
// SPDX-License-Identifier: MIT
#ifndef DIT_CPU_SIMD_H
#define DIT_CPU_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/vec.h"
#include "lib/base/float-bits.h"

// Defines a function that transposes: to[j * to_row + i] = put(get(from + i * from_row + j *
// step)), where store and load do the same for LANES elements.
#define DEFINE_TRANSPOSE(name, to_type, store, put, from_type, step, load, get)          \
    INLINE void name(to_type *to, size_t to_row, const from_type *from, size_t from_row, \
                     size_t rows, size_t columns)                                        \
    {                                                                                    \
        const size_t whole_i = rows / LANES * LANES, whole_j = columns / LANES * LANES;  \
        for (size_t j = 0; j < whole_j; j += LANES)                                      \
            for (size_t i = 0; i < whole_i; i += LANES) {                                \
                vec block[LANES];                                                        \
                for (size_t k = 0; k < LANES; k++)                                       \
                    block[k] = load(from + (i + k) * from_row + j * (step));             \
                vec_transpose(block);                                                    \
                for (size_t k = 0; k < LANES; k++)                                       \
                    store(to + (j + k) * to_row + i, block[k]);                          \
            }                                                                            \
        for (size_t i = 0; i < rows; i++)                                                \
            for (size_t j = i < whole_i ? whole_j : 0; j < columns; j++)                 \
                to[j * to_row + i] = put(get(from + i * from_row + j * (step)));         \
    }

DEFINE_TRANSPOSE(transpose, float, vec_store, , float, 1, vec_load, *)

#define LINE 16 // floats of a line of memory

// The coefficients of e^x, log, sin and cos are those of S. Moshier's Cephes library, 1988.

// e^x with a relative error below 1e-7; 0 below -87, infinity above 88. NaN stays NaN.
INLINE float simd_exp(float x)
{
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the sum.
    float shifted = multiply_add(x, 1.44269504f, 12582912.0f), n = shifted - 12582912.0f;
    float r = multiply_add(n, -0.693359375f, x);
    r = multiply_add(n, 2.12194440e-4f, r);
    float p = 1.9875691500e-4f;
    p = multiply_add(p, r, 1.3981999507e-3f);
    p = multiply_add(p, r, 8.3334519073e-3f);
    p = multiply_add(p, r, 4.1665795894e-2f);
    p = multiply_add(p, r, 1.6666665459e-1f);
    p = multiply_add(p, r, 5.0000001201e-1f);
    p = multiply_add(p, r * r, r) + 1.0f;
    float y = p * float_from_bits((float_bits(shifted) << 23) + 0x3f800000u);
    y = x > 88.0f ? INFINITY : y;
    return x < -87.0f ? 0.0f : y;
}

// log(1 + f) for sqrt(1/2) - 1 <= f <= sqrt(2) - 1.
INLINE float simd_log_near_one(float f)
{
    float p = 7.0376836292e-2f, square = f * f;
    p = multiply_add(p, f, -1.1514610310e-1f);
    p = multiply_add(p, f, 1.1676998740e-1f);
    p = multiply_add(p, f, -1.2420140846e-1f);
    p = multiply_add(p, f, 1.4249322787e-1f);
    p = multiply_add(p, f, -1.6668057665e-1f);
    p = multiply_add(p, f, 2.0000714765e-1f);
    p = multiply_add(p, f, -2.4999993993e-1f);
    p = multiply_add(p, f, 3.3333331174e-1f);
    return multiply_add(p * f, square, multiply_add(-0.5f, square, f));
}

// log x with an error below 1.2e-7 of its value, for positive normal x.
INLINE float simd_log(float x)
{
    uint32_t bits = float_bits(x) - 0x3f3504f3u; // sqrt(1/2) becomes 0
    float exponent = (float)((int32_t)bits >> 23);
    float f = float_from_bits((bits & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
    return multiply_add(exponent, 0.693359375f,
                        multiply_add(exponent, -2.12194440e-4f, simd_log_near_one(f)));
}

// sin a and cos a for |a| <= pi/4, within 1e-7.
INLINE float simd_sin(float a)
{
    float z = a * a, p = -1.9515295891e-4f;
    p = multiply_add(p, z, 8.3321608736e-3f);
    p = multiply_add(p, z, -1.6666654611e-1f);
    return multiply_add(p * z, a, a);
}
INLINE float simd_cos(float a)
{
    float z = a * a, p = 2.443315711809948e-5f;
    p = multiply_add(p, z, -1.388731625493765e-3f);
    p = multiply_add(p, z, 4.166664568298827e-2f);
    return multiply_add(p * z, z, multiply_add(-0.5f, z, 1.0f));
}

INLINE float simd_sigmoid(float x)
{
    return 1.0f / (1.0f + simd_exp(-x));
}

// 2^r = 1 + EXP2_1 r + .. + EXP2_5 r^5 for |r| <= 1/2, with a relative error below 2e-7.
#define EXP2_1 6.93147004e-1f
#define EXP2_2 2.40222424e-1f
#define EXP2_3 5.55073358e-2f
#define EXP2_4 9.67151299e-3f
#define EXP2_5 1.32647273e-3f

// 2^x for x < 127; 2^-126 below -126. NaN stays NaN. By Estrin's scheme, whose instructions depend
// less on one another than those of Horner's rule.
INLINE vec vec_exp2(vec x)
{
    typedef int32_t bits __attribute__((vector_size(4 * LANES), may_alias));
    x = vec_max(vec_of(-126), x);
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the sum; the 127 added as
    // well makes it a biased exponent.
    const vec shifted = x + 12583039.0f, r = x - (shifted - 12583039.0f), square = r * r;
    const vec high = vec_fma(vec_of(EXP2_5), r, vec_of(EXP2_4));
    const vec middle = vec_fma(vec_of(EXP2_3), r, vec_of(EXP2_2));
    const vec low = vec_fma(vec_of(EXP2_1), r, vec_of(1));
    return vec_fma(vec_fma(high, square, middle), square, low) * (vec)((bits)shifted << 23);
}

// GELU by tanh: p 0.5 (1 + tanh u) = p sigmoid(2u) with 2u = A (p + B p^3). The relative error is
// below 3e-6 where the GELU's magnitude is above 1e-7.
#define GELU_A    1.5957691216f // 2 sqrt(2 / pi)
#define GELU_B    0.044715f
#define GELU_LOG2 2.3022082f // A / ln 2, as 2^x is cheaper than e^x
INLINE vec vec_gelu(vec p)
{
    const vec x = p * vec_fma(GELU_LOG2 * GELU_B * p, p, vec_of(GELU_LOG2));
    return p / (1 + vec_exp2(-vec_max(vec_of(-126), x)));
}
INLINE vec vec_gelu_derivative(vec p)
{
    typedef int32_t bits __attribute__((vector_size(4 * LANES), may_alias));
    const vec square = p * p, size = vec_max(-p, p);
    // The derivative of the sigmoid is even. Computed at -|2u| it loses no digits.
    const vec e = vec_exp2(-size * vec_fma(vec_of(GELU_LOG2 * GELU_B), square, vec_of(GELU_LOG2)));
    const vec r = 1 / (1 + e), er = e * r;
    const bits negative = (bits)(p < 0), s = (negative & (bits)er) | (~negative & (bits)r);
    const vec slope = vec_fma(vec_of(3 * GELU_A * GELU_B), square, vec_of(GELU_A));
    return vec_fma(er * r, p * slope, (vec)s);
}

#endif
