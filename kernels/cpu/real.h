// Activations in memory, `real`, and as the float32 that is computed with; bfloat16 has plain code
// for every processor. SPDX-License-Identifier: MIT
#ifndef DIT_CPU_REAL_H
#define DIT_CPU_REAL_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

#if ACT_BITS == 16
typedef uint16_t real; // the upper half of a float
#else
typedef float real;
#endif

static inline real *reals(act *x)
{
    return (real *)x;
}
static inline const real *const_reals(const act *x)
{
    return (const real *)x;
}

// The vectors of bfloat16 and of bits that go with vec.
typedef uint16_t vec_halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef uint32_t vec_bits __attribute__((vector_size(4 * LANES), may_alias));
typedef uint32_t vec_words __attribute__((vector_size(4 * LANES), aligned(2), may_alias));

INLINE float to_float(real x)
{
#if ACT_BITS == 16
    return float_from_bf16(x);
#else
    return x;
#endif
}

INLINE real to_real(float x)
{
#if ACT_BITS == 16
    return bf16_from_float(x);
#else
    return x;
#endif
}

INLINE vec vec_load_real(const real *at)
{
#if ACT_BITS == 16
    return (vec)(__builtin_convertvector(*(const vec_halves *)at, vec_bits) << 16);
#else
    return vec_load(at);
#endif
}

INLINE void vec_store_real(real *at, vec x)
{
#if ACT_BITS == 16
#ifdef __AVX512BF16__
    *(vec_halves *)at = (vec_halves)_mm512_cvtneps_pbh(x);
#else // as bf16_from_float, but every NaN becomes a quiet one
    const vec_bits bits = (vec_bits)x, nan = (vec_bits)(x != x);
    const vec_bits rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40;
    *(vec_halves *)at = __builtin_convertvector((quiet & nan) | (rounded & ~nan), vec_halves);
#endif
#else
    *(vec_u *)at = x;
#endif
}

// x as it is once it has been stored.
INLINE vec vec_round_real(vec x)
{
    real stored[LANES];
    vec_store_real(stored, x);
    return vec_load_real(stored);
}

// to (n) = from (n), as float32.
INLINE void load_reals(float *to, const real *from, size_t n)
{
#if ACT_BITS == 16
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        to[i] = to_float(from[i]);
#else
    memcpy(to, from, n * sizeof *to);
#endif
}

INLINE void prefetch_reals(const real *from, size_t n)
{
    for (size_t i = 0; i < n; i += LINE * sizeof(float) / sizeof(real))
        __builtin_prefetch(from + i);
}

// As transpose in simd.h, to reals.
DEFINE_TRANSPOSE(transpose_out, real, vec_store_real, to_real, float, 1, vec_load, *)

// What products step through, along k: words of 32 bits. A word holds one activation as a float;
// where the processor multiplies pairs of bfloat16, two that follow one another, the first of them
// in the lower half. The tests also compute with pairs on processors that have no such instruction.
#if ACT_BITS == 16 && (defined __AVX512BF16__ || (defined VEC_PLAIN && LANES == 16))
#define PAIRS 1
typedef real word_part; // an element of a row of words
#else
#define PAIRS 0
typedef float word_part;
#endif
#define STEP (1 + PAIRS) // activations of a word

// How many words n activations make.
static inline size_t count_words(size_t n)
{
    return divide_up(n, STEP);
}

// The first n activations of a row of words.
INLINE void fill_words(word_part *to, const real *from, size_t n)
{
#if PAIRS
    memcpy(to, from, n * sizeof *to);
#else
    load_reals(to, from, n);
#endif
}

// c + a b, elementwise, where each element of a and b is the sum over a pair: the odd ones first,
// as VDPBF16PS does, which takes denormal numbers for 0.
INLINE vec vec_add_pairs(vec c, vec_bits a, vec_bits b)
{
#ifdef __AVX512BF16__
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
#else
    c += (vec)(a & 0xffff0000) * (vec)(b & 0xffff0000); // products of bfloat16 are exact
    return c + (vec)(a << 16) * (vec)(b << 16);
#endif
}

// A step of a sum of products, with the word at `a` in all lanes.
INLINE vec vec_add_word(vec c, const float *a, vec b)
{
#if PAIRS
    typedef uint32_t word __attribute__((may_alias));
    return vec_add_pairs(c, *(const word *)a - (vec_bits){0}, (vec_bits)b);
#else
    return vec_multiply_add(*a, b, c);
#endif
}

// The word of activations that follow one another, and LANES of them.
INLINE float load_word(const real *at)
{
#if PAIRS
    return float_from_bits(at[0] | (uint32_t)at[1] << 16);
#else
    return to_float(*at);
#endif
}
INLINE vec vec_load_words(const real *at)
{
#if PAIRS
    return (vec) * (const vec_words *)at;
#else
    return vec_load_real(at);
#endif
}
DEFINE_TRANSPOSE(transpose_words, float, vec_store, , real, STEP, vec_load_words, load_word)

// to (n) = the words of `from` and, in pairs, of the row that follows `next` activations later.
INLINE void pack_words(float *to, const real *from, size_t next, size_t n)
{
#if PAIRS
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        to[i] = float_from_bits(from[i] | (uint32_t)from[next + i] << 16);
#else
    (void)next;
    load_reals(to, from, n);
#endif
}

// The same of the last row of an odd number, after which there are zeros.
INLINE void pack_last_words(float *to, const real *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = load_word((const real[2]){from[i], 0});
}

#if PAIRS
// The words that two rows of floats make: each pair from the same place of both.
INLINE vec vec_pair_rows(vec first, vec second)
{
#ifdef __AVX512BF16__
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second, first);
    const vec_bits places =
        0x100000 + 0x10001 * (vec_bits){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (vec)_mm512_permutexvar_epi16((__m512i)places, both);
#else
    for (size_t i = 0; i < LANES; i++)
        first[i] = load_word((const real[2]){to_real(first[i]), to_real(second[i])});
    return first;
#endif
}
// The words of 2 LANES floats in a row.
INLINE vec vec_pair_columns(vec first, vec second)
{
#ifdef __AVX512BF16__
    return (vec)_mm512_cvtne2ps_pbh(second, first);
#else
    real halves[2 * LANES];
    vec_store_real(halves, first);
    vec_store_real(halves + LANES, second);
    return vec_load_words(halves);
#endif
}
#endif

#endif
