// The bits of a float, the float of given bits, and bfloat16. SPDX-License-Identifier: MIT
#ifndef DIT_FLOAT_BITS_H
#define DIT_FLOAT_BITS_H

#include <stdint.h>
#include <string.h>

static inline uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// bfloat16 is the upper half of a float. Rounding is to nearest even; NaN stays NaN. Without
// branches, so that compilers vectorise loops.
static inline float float_from_bf16(uint16_t bits)
{
    return float_from_bits((uint32_t)bits << 16);
}
static inline uint16_t bf16_from_float(float value)
{
    const uint32_t bits = float_bits(value), rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const uint32_t nan = bits >> 16 | (uint32_t)((bits & 0x7f0000) == 0) << 6;
    return (uint16_t)(value != value ? nan : rounded);
}

#endif
