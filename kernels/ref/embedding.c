// The inputs and outputs of the transformer: patches, time steps and classes.
// SPDX-License-Identifier: MIT
#include <math.h>

#include "kernels/host-act.h"

// The token that holds element n of x (B,C,H,W), and the element's position in the patch.
struct patch_position {
    size_t token, row, column, channel;
};

static struct patch_position find_in_patch(size_t n, size_t C, size_t H, size_t W, size_t P)
{
    size_t column = n % W, row = n / W % H, channel = n / (W * H) % C, b = n / (W * H * C);
    size_t token = (b * (H / P) + row / P) * (W / P) + column / P;
    return (struct patch_position){token, row % P, column % P, channel};
}

void ref_patchify(DEVICE, act *tokens, const float *x, size_t B, size_t C, size_t H, size_t W,
                  size_t P)
{
    for (size_t n = 0; n < B * C * H * W; n++) {
        struct patch_position p = find_in_patch(n, C, H, W, P);
        tokens[((p.token * C + p.channel) * P + p.row) * P + p.column].v = x[n];
    }
}

void ref_unpatchify(DEVICE, float *x, const act *tokens, size_t B, size_t C, size_t H, size_t W,
                    size_t P)
{
    for (size_t n = 0; n < B * C * H * W; n++) {
        struct patch_position p = find_in_patch(n, C, H, W, P);
        x[n] = tokens[((p.token * P + p.row) * P + p.column) * C + p.channel].v;
    }
}

void ref_unpatchify_backward(DEVICE, act *dtokens, const float *dx, size_t B, size_t C, size_t H,
                             size_t W, size_t P)
{
    for (size_t n = 0; n < B * C * H * W; n++) {
        struct patch_position p = find_in_patch(n, C, H, W, P);
        dtokens[((p.token * P + p.row) * P + p.column) * C + p.channel].v = dx[n];
    }
}

void ref_timestep_features(DEVICE, act *f, const float *t, size_t B, size_t N)
{
    const size_t half = N / 2;
    for (size_t b = 0; b < B; b++) {
        for (size_t i = 0; i < half; i++) {
            double angle = t[b] * exp(-log(10000) * (double)i / (double)half);
            f[b * N + i].v = (float)cos(angle);
            f[b * N + half + i].v = (float)sin(angle);
        }
    }
}

void ref_embedding_add(DEVICE, act *y, const act *x, const act *table, const int32_t *labels,
                       size_t B, size_t D)
{
    for (size_t n = 0; n < B * D; n++)
        y[n].v = x[n].v + table[(size_t)labels[n / D] * D + n % D].v;
}

void ref_embedding_backward(DEVICE, float *dtable, const act *dy, const int32_t *labels, size_t B,
                            size_t D)
{
    for (size_t n = 0; n < B * D; n++)
        dtable[(size_t)labels[n / D] * D + n % D] += dy[n].v;
}
