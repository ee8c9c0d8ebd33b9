// Patches to and from tokens, and the features of the time step. SPDX-License-Identifier: MIT
#include "kernels/cpu/real.h"

#include <math.h>

// The threads share the rows of tokens: each is P rows of one sample's image.

struct patches {
    real *tokens;          // to write, or
    const real *tokens_in; // to read
    float *x;              // likewise
    const float *x_in;
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
        real *to = p->tokens + token_row * columns * C * P * P;
        for (size_t token = 0; token < columns; token++)
            for (size_t c = 0; c < C; c++)
                for (size_t i = 0; i < P; i++) {
                    const float *from =
                        p->x_in + ((token_row / rows * C + c) * H + token_row % rows * P + i) * W +
                        token * P;
                    for (size_t j = 0; j < P; j++)
                        *to++ = to_real(from[j]);
                }
    }
}

void CPU_FN(patchify)(struct device *device, act *tokens, const float *x, size_t B, size_t C,
                      size_t H, size_t W, size_t P)
{
    const struct patches p = {.tokens = reals(tokens), .x_in = x, .C = C, .H = H, .W = W, .P = P};
    share_token_rows(device, &p, B, patchify_rows);
}

static void unpatchify_rows(const void *context, struct team_range range)
{
    const struct patches *p = context;
    const size_t C = p->C, H = p->H, W = p->W, P = p->P, rows = H / P, columns = W / P;
    for (size_t token_row = range.first; token_row < range.end; token_row++)
        for (size_t c = 0; c < C; c++)
            for (size_t i = 0; i < P; i++) {
                const real *from = p->tokens_in + token_row * columns * P * P * C + i * P * C + c;
                float *to = p->x + ((token_row / rows * C + c) * H + token_row % rows * P + i) * W;
                for (size_t token = 0; token < columns; token++)
                    for (size_t j = 0; j < P; j++)
                        *to++ = to_float(from[(token * P * P + j) * C]);
            }
}

void CPU_FN(unpatchify)(struct device *device, float *x, const act *tokens, size_t B, size_t C,
                        size_t H, size_t W, size_t P)
{
    const struct patches p = {
        .x = x, .tokens_in = const_reals(tokens), .C = C, .H = H, .W = W, .P = P};
    share_token_rows(device, &p, B, unpatchify_rows);
}

static void unpatchify_rows_backward(const void *context, struct team_range range)
{
    const struct patches *p = context;
    const size_t C = p->C, H = p->H, W = p->W, P = p->P, rows = H / P, columns = W / P;
    for (size_t token_row = range.first; token_row < range.end; token_row++)
        for (size_t c = 0; c < C; c++)
            for (size_t i = 0; i < P; i++) {
                real *to = p->tokens + token_row * columns * P * P * C + i * P * C + c;
                const float *from =
                    p->x_in + ((token_row / rows * C + c) * H + token_row % rows * P + i) * W;
                for (size_t token = 0; token < columns; token++)
                    for (size_t j = 0; j < P; j++)
                        to[(token * P * P + j) * C] = to_real(*from++);
            }
}

void CPU_FN(unpatchify_backward)(struct device *device, act *dtokens, const float *dx, size_t B,
                                 size_t C, size_t H, size_t W, size_t P)
{
    const struct patches p = {.tokens = reals(dtokens), .x_in = dx, .C = C, .H = H, .W = W, .P = P};
    share_token_rows(device, &p, B, unpatchify_rows_backward);
}

void CPU_FN(timestep_features)(DEVICE, act *f, const float *t, size_t B, size_t N)
{
    const size_t half = N / 2;
    real *to = reals(f);
    for (size_t i = 0; i < half; i++) {
        const double frequency = exp(-log(10000) * (double)i / (double)half);
        for (size_t b = 0; b < B; b++) {
            to[b * N + i] = to_real((float)cos(t[b] * frequency));
            to[b * N + half + i] = to_real((float)sin(t[b] * frequency));
        }
    }
}
