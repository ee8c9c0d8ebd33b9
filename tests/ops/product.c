// Checks matrix products that are too large for ref, by plain sums for some of their elements.
// SPDX-License-Identifier: MIT
#include <math.h>

#include "lib/base/rng.h"
#include "tests/ops/check.h"

#define SAMPLES 64

static double gelu_of(double p)
{
    return 0.5 * p * (1 + tanh(sqrt(2 / M_PI) * (p + 0.044715 * p * p * p)));
}

static double gelu_slope(double p)
{
    const double h = 1e-4;
    return (gelu_of(p + h) - gelu_of(p - h)) / (2 * h);
}

// Element (m, n) of one run's product, and as *scale the root of the sum of its terms' squares, to
// which rounding errors are proportional.
static double plain_sum(const struct check *check, const struct product *p, size_t m, size_t n,
                        double *scale)
{
    double sum = 0, squares = 0;
    for (size_t k = 0; k < p->K; k++) {
        const double term = check_value_before(check, p->a, m * p->a_row + k * p->a_column) *
                            check_value_before(check, p->b, k * p->b_row + n * p->b_column);
        sum += term;
        squares += term * term;
    }
    *scale = sqrt(squares);
    if (p->bias)
        sum += check_value_before(check, p->bias, n);
    if (p->gelu)
        return gelu_of(sum);
    return p->pre ? sum * gelu_slope(check_value_before(check, p->pre, m * p->c_row + n)) : sum;
}

void check_product(struct check *check, const struct product *p)
{
    size_t wrong = 0;
    for (uint64_t i = 0; i < SAMPLES; i++) {
        // The corners, then anywhere.
        const struct rng rng = {check->seed, RNG_TEST, 0, i};
        const size_t m = i < 4 ? i % 2 * (p->M - 1) : rng_u32(&rng, 0) % p->M;
        const size_t n = i < 4 ? i / 2 * (p->N - 1) : rng_u32(&rng, 1) % p->N;
        double scale, want = plain_sum(check, p, m, n, &scale);
        if (p->accumulates) {
            const double runs = (double)check_runs(check);
            want = check_value_before(check, p->c, m * p->c_row + n) + runs * want;
            scale *= runs;
        }
        const double got = check_value_now(check, p->c, m * p->c_row + n);
        if (fabs(got - want) <= 4 * check_tolerance(check) * (fabs(want) + scale) + 1e-8)
            continue;
        if (wrong++ == 0)
            check_complain(
                check->session,
                "row %zu, column %zu of the product is %.9g, expected %.9g by a plain sum", m, n,
                got, want);
    }
    if (wrong > 1)
        check_complain(check->session, "%zu of %d elements differ from plain sums", wrong, SAMPLES);
}
