// Lists of a sampler's stages, and linear combinations of its states. SPDX-License-Identifier: MIT
#include "lib/model/stages.h"

#include <stdlib.h>

#include "lib/base/mem.h"

struct blend blend_state(size_t k)
{
    struct blend b = {0};
    b.state[k] = 1;
    return b;
}

struct blend blend_sum(double a, struct blend x, double b, struct blend y)
{
    struct blend sum = {.out = a * x.out + b * y.out};
    for (size_t k = 0; k < SAMPLER_STATES; k++)
        sum.state[k] = a * x.state[k] + b * y.state[k];
    return sum;
}

int stages_init(struct sampler_stages *stages, size_t n, size_t states)
{
    *stages = (struct sampler_stages){n, states, mem_new(n, sizeof *stages->all)};
    if (!stages->all)
        return -1;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < states; k++)
            stage_set(&stages->all[i], k, blend_state(k));
    return 0;
}

void stages_free(struct sampler_stages *stages)
{
    free(stages->all);
    *stages = (struct sampler_stages){0};
}

void stage_set(struct sampler_stage *stage, size_t k, struct blend value)
{
    for (size_t j = 0; j < SAMPLER_STATES; j++)
        stage->step.state[k][j] = (float)value.state[j];
    stage->step.out[k] = (float)value.out;
}

bool stage_has_noise(const struct sampler_stage *stage)
{
    return stage->step.learned || stage->step.sigma > 0;
}
