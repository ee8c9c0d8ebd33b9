// The sum of squares for the norm of the gradient, and AdamW: Loshchilov and Hutter, "Decoupled
// weight decay regularization", 2017. SPDX-License-Identifier: MIT
#include <math.h>

#include "kernels/host-act.h"

void ref_sum_squares(DEVICE, double *sum, const float *x, size_t n)
{
    double total = 0;
    for (size_t i = 0; i < n; i++)
        total += (double)x[i] * x[i];
    *sum = total;
}

void ref_adamw(DEVICE, float *w, act *value, float *ema, float *m, float *v, const float *g,
               const double *norm2, const struct adamw *p, size_t n)
{
    if (!isfinite(*norm2))
        return;
    const double b1 = p->beta1, b2 = p->beta2;
    const double c1 = 1 - pow(b1, (double)p->step), c2 = 1 - pow(b2, (double)p->step);
    const double clip = p->max_norm > 0 ? fmin(1, p->max_norm / sqrt(*norm2)) : 1;
    for (size_t i = 0; i < n; i++) {
        double gi = g[i] * clip;
        double mi = b1 * m[i] + (1 - b1) * gi, vi = b2 * v[i] + (1 - b2) * gi * gi;
        double direction = p->weight_decay * (double)w[i] + mi / c1 / (sqrt(vi / c2) + p->eps);
        m[i] = (float)mi;
        v[i] = (float)vi;
        w[i] = (float)(w[i] - p->lr * direction);
        ema[i] = (float)(p->ema_decay * ema[i] + (1 - p->ema_decay) * w[i]);
        value[i].v = w[i];
    }
}

void ref_average(DEVICE, float *average, const float *w, const double *norm2, double decay,
                 size_t n)
{
    for (size_t i = 0; isfinite(*norm2) && i < n; i++)
        average[i] = (float)(decay * average[i] + (1 - decay) * w[i]);
}
