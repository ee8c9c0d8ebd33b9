// Vectors of floats: their number of lanes, and the few operations on them that need the
// processor's own instructions, each with a plain twin for all other processors.
// SPDX-License-Identifier: MIT
#ifndef DIT_CPU_VEC_H
#define DIT_CPU_VEC_H

// The compiler's options decide the number of lanes. The tests also build with -DLANES=16 for
// processors without AVX-512, where the compiler splits every vector into those that there are.
#ifdef LANES
#define VEC_PLAIN
#elif defined __AVX512F__
#define LANES 16
#define VEC_AVX512
#elif defined __AVX2__
#define LANES 8
#define VEC_AVX2
#elif defined __aarch64__
#define LANES 4
#define VEC_NEON
#else
#define LANES 4
#define VEC_PLAIN
#endif

#if defined VEC_AVX512 || defined VEC_AVX2
#include <immintrin.h>
#elif defined VEC_NEON
#include <arm_neon.h>
#endif

// How many vectors the registers hold: those of AVX-512 and of arm64, or of older x86-64.
#if LANES == 16 || defined __aarch64__
#define REGISTERS 32
#else
#define REGISTERS 16
#endif

// A vector of LANES floats; vec_u is one without alignment.
typedef float vec __attribute__((vector_size(4 * LANES), may_alias));
typedef float vec_u __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

// a b + c, by a fused multiply-add where the processor has one.
INLINE float multiply_add(float a, float b, float c)
{
#if defined __FMA__ || defined __ARM_FEATURE_FMA
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

INLINE vec vec_of(float x)
{
    return x - (vec){0};
}

INLINE vec vec_load(const float *at)
{
    return *(const vec_u *)at;
}

INLINE void vec_store(float *at, vec x)
{
    *(vec_u *)at = x;
}

// a b + c.
INLINE vec vec_fma(vec a, vec b, vec c)
{
#ifdef VEC_AVX512
    return _mm512_fmadd_ps(a, b, c);
#elif defined VEC_AVX2
    return _mm256_fmadd_ps(a, b, c);
#elif defined VEC_NEON
    return vfmaq_f32(c, a, b);
#else
    for (int i = 0; i < LANES; i++)
        c[i] = multiply_add(a[i], b[i], c[i]);
    return c;
#endif
}
INLINE vec vec_multiply_add(float a, vec b, vec c)
{
    return vec_fma(vec_of(a), b, c);
}

// The greater of each pair; b where either is NaN.
INLINE vec vec_max(vec a, vec b)
{
#ifdef VEC_AVX512
    return _mm512_max_ps(a, b);
#elif defined VEC_AVX2
    return _mm256_max_ps(a, b);
#elif defined VEC_NEON
    return vbslq_f32(vcgtq_f32(a, b), a, b);
#else
    for (int i = 0; i < LANES; i++)
        a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
#endif
}

// Element j of rows[i] becomes element i of rows[j].
INLINE void vec_transpose(vec rows[LANES])
{
#ifdef VEC_AVX512
    vec pairs[LANES], fours[LANES];
    for (int i = 0; i < LANES; i += 2) {
        pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4)
        for (int j = 0; j < 2; j++) {
            fours[i + 2 * j] = _mm512_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0x44);
            fours[i + 2 * j + 1] = _mm512_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0xee);
        }
    // Each vector now holds four parts of four rows; the parts are transposed likewise.
    for (int i = 0; i < 4; i++) {
        const vec low0 = _mm512_shuffle_f32x4(fours[i], fours[i + 4], 0x44);
        const vec high0 = _mm512_shuffle_f32x4(fours[i], fours[i + 4], 0xee);
        const vec low1 = _mm512_shuffle_f32x4(fours[i + 8], fours[i + 12], 0x44);
        const vec high1 = _mm512_shuffle_f32x4(fours[i + 8], fours[i + 12], 0xee);
        rows[i] = _mm512_shuffle_f32x4(low0, low1, 0x88);
        rows[i + 4] = _mm512_shuffle_f32x4(low0, low1, 0xdd);
        rows[i + 8] = _mm512_shuffle_f32x4(high0, high1, 0x88);
        rows[i + 12] = _mm512_shuffle_f32x4(high0, high1, 0xdd);
    }
#elif defined VEC_AVX2
    vec pairs[LANES], fours[LANES];
    for (int i = 0; i < LANES; i += 2) {
        pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4)
        for (int j = 0; j < 2; j++) {
            fours[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0x44);
            fours[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0xee);
        }
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
        rows[i + 4] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
    }
#elif defined VEC_NEON
    const vec even0 = vzip1q_f32(rows[0], rows[2]), even1 = vzip2q_f32(rows[0], rows[2]);
    const vec odd0 = vzip1q_f32(rows[1], rows[3]), odd1 = vzip2q_f32(rows[1], rows[3]);
    rows[0] = vzip1q_f32(even0, odd0), rows[1] = vzip2q_f32(even0, odd0);
    rows[2] = vzip1q_f32(even1, odd1), rows[3] = vzip2q_f32(even1, odd1);
#else
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < i; j++) {
            float swapped = rows[i][j];
            rows[i][j] = rows[j][i];
            rows[j][i] = swapped;
        }
#endif
}

#endif
