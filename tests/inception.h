// Random weights of the Inception network for tests: the same for every program that makes them.
// SPDX-License-Identifier: MIT
#ifndef TEST_INCEPTION_H
#define TEST_INCEPTION_H

#include <math.h>
#include <string.h>

#include "lib/base/rng.h"
#include "lib/model/inception.h"

// Element i of a parameter, the layout's `number`. Convolutions keep the size of what passes
// through (He et al., "Delving deep into rectifiers", 2015); norms change it a little.
static inline float random_inception(const struct param *param, size_t number, size_t i)
{
    const struct rng rng = {.purpose = RNG_TEST, .sample = number};
    if (param->rank > 1) {
        const size_t inputs = param->count / param->shape[0];
        return (float)(rng_normal(&rng, i) * sqrt(2.0 / (double)inputs));
    }
    const bool around_one = strstr(param->name, "bn.weight") || strstr(param->name, "running_var");
    return (float)(around_one + 0.2 * (rng_uniform(&rng, i) - 0.5));
}

#endif
