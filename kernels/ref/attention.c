// Self-attention in plain C: Vaswani et al., "Attention is all you need", 2017.
// SPDX-License-Identifier: MIT
#include <math.h>
#include <stdlib.h>

#include "kernels/host-act.h"

enum { Q, K, V };

struct qkv_heads {
    const act *qkv; // (B,T,3,H,D)
    size_t T, H, D;
};

// The query, key or value (which: Q, K, V) of one sample, token and head.
static const act *head_vector(const struct qkv_heads *s, int which, size_t b, size_t t, size_t h)
{
    return s->qkv + (((b * s->T + t) * 3 + (size_t)which) * s->H + h) * s->D;
}

static double dot(const act *x, const act *y, size_t D)
{
    double sum = 0;
    for (size_t d = 0; d < D; d++)
        sum += (double)x[d].v * y[d].v;
    return sum;
}

// out (D) = scale * the sum over t of weights[t] from[t * stride].
static void weighted_sum(act *out, double scale, const double *weights, const act *from,
                         size_t stride, size_t T, size_t D)
{
    for (size_t d = 0; d < D; d++) {
        double sum = 0;
        for (size_t t = 0; t < T; t++)
            sum += weights[t] * from[t * stride + d].v;
        out[d].v = (float)(scale * sum);
    }
}

void ref_attention(struct device *device, act *out, float *lse, const act *qkv, size_t B, size_t T,
                   size_t H, size_t D)
{
    const struct qkv_heads s = {qkv, T, H, D};
    const double scale = 1 / sqrt((double)D);
    double *p = calloc(T, sizeof *p);
    if (!p) {
        device_set_error(device, "attention: out of memory for a row of %zu probabilities", T);
        return;
    }
    for (size_t n = 0; n < B * H * T; n++) {
        size_t b = n / (H * T), h = n / T % H, i = n % T;
        double max = -INFINITY, sum = 0;
        for (size_t j = 0; j < T; j++) {
            p[j] = scale * dot(head_vector(&s, Q, b, i, h), head_vector(&s, K, b, j, h), D);
            max = fmax(max, p[j]);
        }
        for (size_t j = 0; j < T; j++)
            sum += p[j] = exp(p[j] - max);
        weighted_sum(out + ((b * T + i) * H + h) * D, 1 / sum, p, head_vector(&s, V, b, 0, h),
                     3 * H * D, T, D);
        if (lse)
            lse[n] = (float)(max + log(sum));
    }
    free(p);
}

// With p the probabilities of the forward pass, do = dout and delta_i = do_i out_i:
//   dp_ij = do_i v_j;  ds_ij = p_ij (dp_ij - delta_i);
//   dq_i = scale sum_j ds_ij k_j;  dk_j = scale sum_i ds_ij q_i;  dv_j = sum_i p_ij do_i.
// Dao et al., "FlashAttention", 2022, appendix B.2.
void ref_attention_backward(struct device *device, act *dqkv, float *delta, const act *dout,
                            const act *qkv, const act *out, const float *lse, size_t B, size_t T,
                            size_t H, size_t D)
{
    const struct qkv_heads s = {qkv, T, H, D};
    const double scale = 1 / sqrt((double)D);
    double *p = calloc(T, sizeof *p), *ds = calloc(T, sizeof *ds);
    if (!p || !ds) {
        device_set_error(device, "attention_backward: out of memory for rows of %zu probabilities",
                         T);
        free(p), free(ds);
        return;
    }
    for (size_t n = 0; n < B * H * T; n++) {
        size_t at = ((n / (H * T) * T + n % T) * H + n / T % H) * D;
        delta[n] = (float)dot(out + at, dout + at, D);
    }
    for (size_t n = 0; n < B * H * T; n++) {
        size_t b = n / (H * T), h = n / T % H, t = n % T;
        const size_t first = n - t;
        const act *dout_0 = dout + (b * T * H + h) * D;
        for (size_t j = 0; j < T; j++) {
            double score = scale * dot(head_vector(&s, Q, b, t, h), head_vector(&s, K, b, j, h), D);
            double dp = dot(dout_0 + t * H * D, head_vector(&s, V, b, j, h), D);
            ds[j] = exp(score - lse[n]) * (dp - delta[n]);
        }
        act *dq = dqkv + (head_vector(&s, Q, b, t, h) - qkv);
        weighted_sum(dq, scale, ds, head_vector(&s, K, b, 0, h), 3 * H * D, T, D);
        for (size_t i = 0; i < T; i++) {
            double score = scale * dot(head_vector(&s, Q, b, i, h), head_vector(&s, K, b, t, h), D);
            double dp = dot(dout_0 + i * H * D, head_vector(&s, V, b, t, h), D);
            p[i] = exp(score - lse[first + i]);
            ds[i] = p[i] * (dp - delta[first + i]);
        }
        act *dk = dqkv + (head_vector(&s, K, b, t, h) - qkv),
            *dv = dqkv + (head_vector(&s, V, b, t, h) - qkv);
        weighted_sum(dk, scale, ds, head_vector(&s, Q, b, 0, h), 3 * H * D, T, D);
        weighted_sum(dv, 1, p, dout_0, H * D, T, D);
    }
    free(p), free(ds);
}
