// Patches to and from tokens, and the features of the time step. SPDX-License-Identifier: MIT
#include "kernels/cpu/cpu.h"

#include <math.h>

// The threads share the rows of tokens: each is P rows of one sample's image.

struct patches {
    float *to;
    const float *from;
    size_t C, H, W, P;
};

// Shares the rows of tokens of B images.
static void share_token_rows(struct device *device, const struct patches *p, size_t B,
                             void (*work)(const void *context, struct team_range range))
{
    const size_t image = p->C * p->H * p->W;
    team_for(team_of(device, B * image), B * (p->H / p->P), rows_of_grain(p->C * p->P * p->W), work,
             p);
}

static void patchify_rows(const void *context, struct team_range range)
{
    const struct patches *p = context;
    const size_t C = p->C, H = p->H, W = p->W, P = p->P, rows = H / P, columns = W / P;
    for (size_t token_row = range.first; token_row < range.end; token_row++) {
        float *to = p->to + token_row * columns * C * P * P;
        for (size_t token = 0; token < columns; token++)
            for (size_t c = 0; c < C; c++)
                for (size_t i = 0; i < P; i++) {
                    const float *from =
                        p->from + ((token_row / rows * C + c) * H + token_row % rows * P + i) * W +
                        token * P;
                    for (size_t j = 0; j < P; j++)
                        *to++ = from[j];
                }
    }
}

void CPU_FN(patchify)(struct device *device, act *tokens, const float *x, size_t B, size_t C,
                      size_t H, size_t W, size_t P)
{
    const struct patches p = {floats(tokens), x, C, H, W, P};
    share_token_rows(device, &p, B, patchify_rows);
}

static void unpatchify_rows(const void *context, struct team_range range)
{
    const struct patches *p = context;
    const size_t C = p->C, H = p->H, W = p->W, P = p->P, rows = H / P, columns = W / P;
    for (size_t token_row = range.first; token_row < range.end; token_row++)
        for (size_t c = 0; c < C; c++)
            for (size_t i = 0; i < P; i++) {
                const float *from = p->from + token_row * columns * P * P * C + i * P * C + c;
                float *to = p->to + ((token_row / rows * C + c) * H + token_row % rows * P + i) * W;
                for (size_t token = 0; token < columns; token++)
                    for (size_t j = 0; j < P; j++)
                        *to++ = from[(token * P * P + j) * C];
            }
}

void CPU_FN(unpatchify)(struct device *device, float *x, const act *tokens, size_t B, size_t C,
                        size_t H, size_t W, size_t P)
{
    const struct patches p = {x, const_floats(tokens), C, H, W, P};
    share_token_rows(device, &p, B, unpatchify_rows);
}

static void unpatchify_rows_backward(const void *context, struct team_range range)
{
    const struct patches *p = context;
    const size_t C = p->C, H = p->H, W = p->W, P = p->P, rows = H / P, columns = W / P;
    for (size_t token_row = range.first; token_row < range.end; token_row++)
        for (size_t c = 0; c < C; c++)
            for (size_t i = 0; i < P; i++) {
                float *to = p->to + token_row * columns * P * P * C + i * P * C + c;
                const float *from =
                    p->from + ((token_row / rows * C + c) * H + token_row % rows * P + i) * W;
                for (size_t token = 0; token < columns; token++)
                    for (size_t j = 0; j < P; j++)
                        to[(token * P * P + j) * C] = *from++;
            }
}

void CPU_FN(unpatchify_backward)(struct device *device, act *dtokens, const float *dx, size_t B,
                                 size_t C, size_t H, size_t W, size_t P)
{
    const struct patches p = {floats(dtokens), dx, C, H, W, P};
    share_token_rows(device, &p, B, unpatchify_rows_backward);
}

void CPU_FN(timestep_features)(DEVICE, act *f, const float *t, size_t B, size_t N)
{
    const size_t half = N / 2;
    float *to = floats(f);
    for (size_t i = 0; i < half; i++) {
        const double frequency = exp(-log(10000) * (double)i / (double)half);
        for (size_t b = 0; b < B; b++) {
            to[b * N + i] = (float)cos(t[b] * frequency);
            to[b * N + half + i] = (float)sin(t[b] * frequency);
        }
    }
}
