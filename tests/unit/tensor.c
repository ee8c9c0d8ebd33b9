// Half precision and bfloat16 are converted exactly, and names and shapes of tensors are right.
// SPDX-License-Identifier: MIT
#include "lib/base/tensor.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/float-bits.h"
#include "tests/tap.h"

// The value of a half by its definition, without the bit tricks under test.
static double half_value(uint16_t bits)
{
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return bits & 0x8000 ? -magnitude : magnitude;
}

static bool is_half_nan(uint16_t bits)
{
    return (bits & 0x7FFF) > 0x7C00;
}

static void test_f16(void)
{
    size_t values = 0, trips = 0, nans = 0, ties = 0, below = 0, above = 0, pairs = 0;
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t bits = (uint16_t)i;
        float value = f16_to_f32(bits);
        if (is_half_nan(bits))
            nans += isnan(value) && is_half_nan(f16_from_f32(value));
        else if ((bits & 0x7FFF) < 0x7C00)
            values += (double)value == half_value(bits);
        trips += f16_from_f32(value) == bits;
    }
    ok(values == 2 * 31 * 1024, "every finite f16 pattern has its value");
    ok(trips == 65536, "every f16 pattern survives float32 and back");
    ok(nans == 2 * 1023, "every f16 NaN stays a NaN");
    // Between neighbours a and b the middle rounds to the even one, a little less or more to the
    // nearer one. The neighbour of the largest half is infinity, at 65536.
    for (uint32_t i = 0; i < 0x7C00; i++) {
        double a = half_value((uint16_t)i), b = i == 0x7BFF ? 65536 : half_value((uint16_t)(i + 1));
        float middle = (float)((a + b) / 2);
        for (uint32_t sign = 0; sign <= 0x8000; sign += 0x8000, pairs++) {
            float s = sign ? -1 : 1;
            ties += f16_from_f32(s * middle) == (sign | (i + (i & 1)));
            below += f16_from_f32(s * nextafterf(middle, 0)) == (sign | i);
            above += f16_from_f32(s * nextafterf(middle, INFINITY)) == (sign | (i + 1));
        }
    }
    ok(ties == pairs, "f16 ties go to even");
    ok(below == pairs && above == pairs, "f16 beside a tie rounds to the nearer value");
    ok(f16_from_f32(INFINITY) == 0x7C00 && f16_from_f32(-INFINITY) == 0xFC00 &&
           f16_from_f32(1e30f) == 0x7C00,
       "f16 keeps infinities, and overflows to them");
    ok(f16_from_f32(-0.0f) == 0x8000 && f16_from_f32(1e-30f) == 0,
       "f16 keeps the sign of zero, and underflows to zero");
}

static void test_bf16(void)
{
    size_t trips = 0, ties = 0, below = 0, above = 0, finite = 0, nans = 0;
    for (uint32_t i = 0; i < 65536; i++) {
        trips += bf16_from_f32(bf16_to_f32((uint16_t)i)) == i;
        if ((i & 0x7FFF) >= 0x7F80)
            continue;
        finite++;
        ties += bf16_from_f32(float_from_bits(i << 16 | 0x8000)) == i + (i & 1);
        below += bf16_from_f32(float_from_bits(i << 16 | 0x7FFF)) == i;
        above += bf16_from_f32(float_from_bits(i << 16 | 0x8001)) == i + 1;
    }
    ok(trips == 65536, "every bf16 pattern survives float32 and back");
    ok(ties == finite, "bf16 ties go to even");
    ok(below == finite && above == finite, "bf16 beside a tie rounds to the nearer value");
    for (uint32_t low = 1; low < 65536; low++)
        nans += isnan(bf16_to_f32(bf16_from_f32(float_from_bits(0x7F800000 | low)))) &&
                isnan(bf16_to_f32(bf16_from_f32(float_from_bits(0xFFFF0000 | low))));
    ok(nans == 65535, "a NaN with its payload in the low half stays a NaN in bf16");
}

static void test_floats(void)
{
    static const enum dtype floating[] = {DTYPE_F16, DTYPE_BF16, DTYPE_F32, DTYPE_F64};
    const float values[] = {0, -1, 0.5f, 1024, -0.25f};
    for (size_t i = 0; i < sizeof floating / sizeof *floating; i++) {
        uint8_t bytes[1 + sizeof values * 2];
        float back[5];
        int rc = floats_write(bytes + 1, floating[i], values, 5);
        rc |= floats_read(back, bytes + 1, floating[i], 5);
        ok(rc == 0 && memcmp(back, values, sizeof values) == 0,
           "floats survive unaligned %s and back", dtype_name(floating[i]));
    }
    static uint16_t halves[65536 + 5];
    static float many[65536 + 5];
    size_t same = 0;
    for (size_t i = 0; i < sizeof halves / sizeof *halves; i++)
        halves[i] = (uint16_t)i;
    floats_read(many, halves, DTYPE_F16, 65536 + 5);
    for (size_t i = 0; i < 65536 + 5; i++) {
        float one = f16_to_f32((uint16_t)i);
        same += isnan(one) ? isnan(many[i]) : memcmp(&many[i], &one, sizeof one) == 0;
    }
    ok(same == 65536 + 5, "an array of f16 is read like each of its elements alone");
    float value = 1;
    uint8_t raw[8];
    ok(floats_write(raw, DTYPE_I64, &value, 1) == -1 && error_status() == STATUS_DATA &&
           strstr(error_message(), "I64"),
       "floats_write refuses integers: %s", error_message());
    ok(floats_read(&value, raw, DTYPE_U8, 1) == -1, "floats_read refuses integers");
}

static void test_dtypes(void)
{
    size_t found = 0;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        enum dtype dtype = DTYPE_COUNT;
        found += dtype_from_name(dtype_name((enum dtype)i), &dtype) == 0 && dtype == (enum dtype)i;
    }
    enum dtype dtype = DTYPE_F32;
    ok(found == DTYPE_COUNT, "every dtype is found by its name");
    ok(dtype_from_name("f32", &dtype) == -1 && dtype_from_name("", &dtype) == -1 &&
           dtype == DTYPE_F32,
       "other names of dtypes are not found");
    ok(dtype_size(DTYPE_BOOL) == 1 && dtype_size(DTYPE_BF16) == 2 && dtype_size(DTYPE_U32) == 4 &&
           dtype_size(DTYPE_F64) == 8,
       "every dtype has its size");
}

static void test_shapes(void)
{
    size_t count = 7;
    ok(shape_count((size_t[]){2, 3, 4}, 3, &count) && count == 24,
       "shape_count multiplies the sizes");
    ok(shape_count(NULL, 0, &count) && count == 1, "shape_count of a scalar is 1");
    ok(!shape_count((size_t[]){SIZE_MAX, 2}, 2, &count) && count == 1,
       "shape_count refuses a product that overflows");
    char text[32], tiny[6];
    ok(strcmp(shape_text((size_t[]){1, 20, 3}, 3, text, sizeof text), "[1, 20, 3]") == 0 &&
           strcmp(shape_text(NULL, 0, text, sizeof text), "[]") == 0,
       "shape_text writes a shape");
    ok(strcmp(shape_text((size_t[]){1, 20, 3}, 3, tiny, sizeof tiny), "[1, 2") == 0,
       "shape_text cuts to the size of the text");
}

int main(void)
{
    test_f16();
    test_bf16();
    test_floats();
    test_dtypes();
    test_shapes();
    return tap_done();
}
