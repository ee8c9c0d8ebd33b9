// Patches to and from tokens, and the features of the time step. SPDX-License-Identifier: MIT
#include "kernels/cpu/cpu.h"

#include <math.h>

// The threads share the rows of tokens: each is P rows of one sample's image.

void CPU_FN(patchify)(struct device *device, act *tokens, const float *x, size_t B, size_t C,
                      size_t H, size_t W, size_t P)
{
    const size_t rows = H / P, columns = W / P;
#pragma omp parallel for num_threads(threads_for(device, B *C *H *W))
    for (size_t token_row = 0; token_row < B * rows; token_row++) {
        float *to = floats(tokens) + token_row * columns * C * P * P;
        for (size_t token = 0; token < columns; token++)
            for (size_t c = 0; c < C; c++)
                for (size_t i = 0; i < P; i++) {
                    const float *from =
                        x + ((token_row / rows * C + c) * H + token_row % rows * P + i) * W +
                        token * P;
                    for (size_t j = 0; j < P; j++)
                        *to++ = from[j];
                }
    }
}

void CPU_FN(unpatchify)(struct device *device, float *x, const act *tokens, size_t B, size_t C,
                        size_t H, size_t W, size_t P)
{
    const size_t rows = H / P, columns = W / P;
#pragma omp parallel for num_threads(threads_for(device, B *C *H *W))
    for (size_t token_row = 0; token_row < B * rows; token_row++)
        for (size_t c = 0; c < C; c++)
            for (size_t i = 0; i < P; i++) {
                const float *from =
                    const_floats(tokens) + token_row * columns * P * P * C + i * P * C + c;
                float *to = x + ((token_row / rows * C + c) * H + token_row % rows * P + i) * W;
                for (size_t token = 0; token < columns; token++)
                    for (size_t j = 0; j < P; j++)
                        *to++ = from[(token * P * P + j) * C];
            }
}

void CPU_FN(unpatchify_backward)(struct device *device, act *dtokens, const float *dx, size_t B,
                                 size_t C, size_t H, size_t W, size_t P)
{
    const size_t rows = H / P, columns = W / P;
#pragma omp parallel for num_threads(threads_for(device, B *C *H *W))
    for (size_t token_row = 0; token_row < B * rows; token_row++)
        for (size_t c = 0; c < C; c++)
            for (size_t i = 0; i < P; i++) {
                float *to = floats(dtokens) + token_row * columns * P * P * C + i * P * C + c;
                const float *from =
                    dx + ((token_row / rows * C + c) * H + token_row % rows * P + i) * W;
                for (size_t token = 0; token < columns; token++)
                    for (size_t j = 0; j < P; j++)
                        to[(token * P * P + j) * C] = *from++;
            }
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
