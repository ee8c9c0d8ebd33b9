// The Inception Score. SPDX-License-Identifier: MIT
#include "lib/evaluation/inception-score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"
#include "lib/base/mem.h"

#define BLOCK 64 // images at a time

int inception_score_init(struct inception_score *s, struct device *host, const float *w,
                         size_t classes, size_t D, size_t split)
{
    *s = (struct inception_score){.host = host, .D = D, .classes = classes, .split = split};
    s->w = mem_new(classes, D * sizeof *s->w);
    s->features = mem_new(BLOCK, D * sizeof *s->features);
    s->logits = mem_new(BLOCK, classes * sizeof *s->logits);
    s->sum_p = mem_new(classes, sizeof *s->sum_p);
    if (!s->w || !s->features || !s->logits || !s->sum_p) {
        inception_score_free(s);
        return -1;
    }
    for (size_t i = 0; i < classes * D; i++)
        s->w[i] = w[i];
    return 0;
}

void inception_score_free(struct inception_score *s)
{
    free(s->w);
    free(s->features);
    free(s->logits);
    free(s->sum_p);
    *s = (struct inception_score){0};
}

// The mean of sum p (ln p - ln mean p) is the mean of sum p ln p less sum mean p ln mean p.
static void end_split(struct inception_score *s)
{
    const double n = (double)s->in_split;
    double divergence = s->sum_plogp / n;
    for (size_t c = 0; c < s->classes; c++)
        if (s->sum_p[c] > 0)
            divergence -= s->sum_p[c] / n * log(s->sum_p[c] / n);
    s->sum_scores += exp(divergence);
    s->splits++;
    s->in_split = 0;
    s->sum_plogp = 0;
    memset(s->sum_p, 0, s->classes * sizeof *s->sum_p);
}

// One image, from its class scores, which are overwritten.
static void add_image(struct inception_score *s, double *logits)
{
    double most = logits[0], total = 0, weighted = 0;
    for (size_t c = 1; c < s->classes; c++)
        most = fmax(most, logits[c]);
    for (size_t c = 0; c < s->classes; c++) {
        const double relative = logits[c] - most;
        logits[c] = exp(relative);
        total += logits[c];
        weighted += logits[c] * relative;
    }
    for (size_t c = 0; c < s->classes; c++)
        s->sum_p[c] += logits[c] / total;
    s->sum_plogp += weighted / total - log(total);
    if (++s->in_split == s->split)
        end_split(s);
}

void inception_score_add(struct inception_score *s, const float *features, size_t n)
{
    for (size_t first = 0; first < n; first += BLOCK) {
        const size_t rows = n - first < BLOCK ? n - first : BLOCK;
        for (size_t i = 0; i < rows * s->D; i++)
            s->features[i] = features[first * s->D + i];
        memset(s->logits, 0, rows * s->classes * sizeof *s->logits);
        op_product_f64(s->host, s->logits, s->features, s->w, rows, s->D, s->classes);
        for (size_t i = 0; i < rows; i++)
            add_image(s, s->logits + i * s->classes);
    }
}

double inception_score_finish(struct inception_score *s)
{
    if (s->in_split)
        end_split(s);
    return s->sum_scores / (double)s->splits;
}
