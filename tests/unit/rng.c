// Philox gives the published words, and its numbers have their distributions.
// SPDX-License-Identifier: MIT
#include "lib/base/rng.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "tests/tap.h"

// From kat_vectors of the authors' Random123 1.09.
static void test_known_answers(void)
{
    static const struct {
        const char *name;
        uint32_t counter[4], key[2], answer[4];
    } vectors[] = {
        {"zeros", {0}, {0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {"ones",
         {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {"digits of pi",
         {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        uint32_t out[4];
        philox4x32(vectors[i].key, vectors[i].counter, out);
        ok(memcmp(out, vectors[i].answer, sizeof out) == 0, "Philox 4x32-10 of %s",
           vectors[i].name);
    }
}

static void test_layout(void)
{
    const struct rng rng = {0x299f31d0a4093822, 0x03, 0x85a308d3, 0x70734413198a2e};
    uint32_t out[4], counter[4] = {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344};
    philox4x32((uint32_t[]){0xa4093822, 0x299f31d0}, counter, out);
    bool same = true;
    for (uint64_t i = 0; i < 4; i++)
        same &= rng_u32(&rng, 4 * (uint64_t)0x243f6a88 + i) == out[i];
    ok(same, "seed, purpose, step, sample and element are laid out as the header says");
    ok(rng_uniform(&rng, 5) == (rng_u32(&rng, 5) + 0.5) / 4294967296.0,
       "rng_uniform is made from one word");
    double u0 = rng_uniform(&rng, 2), u1 = rng_uniform(&rng, 3), r = sqrt(-2 * log(u0));
    ok(rng_normal(&rng, 2) == r * cos(2 * M_PI * u1) &&
           rng_normal(&rng, 3) == r * sin(2 * M_PI * u1),
       "rng_normal makes pairs from two words");
}

static void test_normal(void)
{
    enum { N = 1000000 };
    const struct rng rng = {1, RNG_TEST, 0, 0};
    double sum[5] = {0}, pairs = 0, last = 0;
    size_t beyond = 0;
    for (uint64_t i = 0; i < N; i++) {
        double x = rng_normal(&rng, i), power = 1;
        for (int k = 1; k <= 4; k++)
            sum[k] += (power *= x) / N;
        pairs += x * last / N;
        last = x;
        beyond += fabs(x) > 1.959964;
    }
    ok(fabs(sum[1]) < 0.005 && fabs(sum[2] - 1) < 0.01, "normals have mean %.4f, variance %.4f",
       sum[1], sum[2]);
    ok(fabs(sum[3]) < 0.02 && fabs(sum[4] - 3) < 0.05,
       "normals have third moment %.4f, fourth %.4f", sum[3], sum[4]);
    ok(fabs((double)beyond / N - 0.05) < 0.001, "%.2f%% of normals are beyond 1.96",
       100.0 * (double)beyond / N);
    ok(fabs(pairs) < 0.005, "neighbouring normals have correlation %.4f", pairs);
    ok(sqrt(-2 * log(philox_uniform(0))) < 7 && philox_uniform(UINT32_MAX) < 1,
       "the smallest and the largest word give finite normals");
}

static void test_below(void)
{
    const struct rng rng = {2, RNG_TEST, 3, 4};
    size_t counts[7] = {0}, outside = 0, large = 0;
    for (uint64_t i = 0; i < 70000; i++) {
        uint64_t k = rng_below(&rng, i, 7);
        if (k < 7)
            counts[k]++;
        else
            outside++;
        large += rng_below(&rng, i, UINT64_MAX) > UINT64_MAX / 4;
    }
    double chi = 0;
    for (size_t k = 0; k < 7; k++)
        chi += pow((double)counts[k] - 10000, 2) / 10000;
    ok(outside == 0, "rng_below stays below its limit");
    ok(chi < 22.5, "rng_below is uniform below 7: chi square %.1f with 6 degrees of freedom", chi);
    ok(labs((long)large - 52500) < 600, "rng_below is uniform below 2^64 - 1");
    ok(rng_below(&rng, 9, 1) == 0, "rng_below(1) is 0");
}

static void test_independence(void)
{
    const struct rng base = {1, RNG_TEST, 1, 1};
    const struct rng others[] = {
        {2, RNG_TEST, 1, 1},
        {1, RNG_NOISE, 1, 1},
        {1, RNG_TEST, 2, 1},
        {1, RNG_TEST, 1, 2},
        {1, RNG_TEST, 1, 1 + ((uint64_t)1 << 32)},
        {1 + ((uint64_t)1 << 32), RNG_TEST, 1, 1},
    };
    size_t different = 0;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        different += rng_u32(&others[i], 0) != rng_u32(&base, 0);
    ok(different == sizeof others / sizeof *others,
       "another seed, purpose, step or sample, also in its upper word, draws other numbers");
}

int main(void)
{
    test_known_answers();
    test_layout();
    test_normal();
    test_below();
    test_independence();
    return tap_done();
}
