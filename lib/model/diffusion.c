// The noise schedule, the steps that respacing keeps, and their coefficients.
// SPDX-License-Identifier: MIT
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/model/diffusion.h"

#define BETA_FIRST 1e-4
#define BETA_LAST  0.02

static bool parse_count(const char **text, long *count)
{
    char *end;
    if (!isdigit((unsigned char)**text))
        return false;
    errno = 0;
    *count = strtol(*text, &end, 10);
    *text = end;
    return errno == 0 && *count >= 1 && *count <= DIFFUSION_STEPS;
}

// Keeps `count` steps, evenly spread from start to start + size - 1, both included.
static int keep_section(bool keep[DIFFUSION_STEPS], size_t start, size_t size, long count)
{
    if ((size_t)count > size)
        return error_set(STATUS_USAGE, "cannot keep %ld sampling steps of a section of %zu", count,
                         size);
    // As in the published code, positions are sums of the stride, and halves round to even.
    double stride = count > 1 ? (double)(size - 1) / (double)(count - 1) : 1, at = 0;
    for (long i = 0; i < count; i++, at += stride)
        keep[start + (size_t)rint(at)] = true;
    return 0;
}

static int keep_steps(bool keep[DIFFUSION_STEPS], const char *respacing)
{
    long counts[DIFFUSION_STEPS];
    size_t sections = 0;
    const char *p = respacing;
    if (!*respacing) {
        memset(keep, true, DIFFUSION_STEPS);
        return 0;
    }
    if (strncmp(p, "ddim", 4) == 0) {
        p += 4;
        if (!parse_count(&p, &counts[0]) || *p)
            goto bad;
        for (size_t stride = 1; stride < DIFFUSION_STEPS; stride++)
            if ((DIFFUSION_STEPS + stride - 1) / stride == (size_t)counts[0]) {
                for (size_t t = 0; t < DIFFUSION_STEPS; t += stride)
                    keep[t] = true;
                return 0;
            }
        return error_set(STATUS_USAGE, "no integer stride over %d steps keeps exactly %ld",
                         DIFFUSION_STEPS, counts[0]);
    }
    for (;;) {
        if (sections == DIFFUSION_STEPS || !parse_count(&p, &counts[sections++]))
            goto bad;
        if (!*p)
            break;
        if (*p++ != ',')
            goto bad;
    }
    size_t start = 0;
    for (size_t i = 0; i < sections; i++) {
        size_t size = DIFFUSION_STEPS / sections + (i < DIFFUSION_STEPS % sections);
        if (keep_section(keep, start, size, counts[i]) < 0)
            return -1;
        start += size;
    }
    return 0;
bad:
    return error_set(STATUS_USAGE,
                     "sampling steps \"%s\": expected N, ddimN or A,B,C with numbers from 1 to %d",
                     respacing, DIFFUSION_STEPS);
}

int diffusion_init(struct diffusion *d, const char *respacing)
{
    bool keep[DIFFUSION_STEPS] = {false};
    *d = (struct diffusion){0};
    if (keep_steps(keep, respacing) < 0)
        return -1;
    double *tables = mem_new(9 * DIFFUSION_STEPS, sizeof *tables);
    d->timestep_map = mem_new(DIFFUSION_STEPS, sizeof *d->timestep_map);
    if (!tables || !d->timestep_map) {
        free(tables);
        free(d->timestep_map);
        return -1;
    }
    double **table[] = {&d->betas,
                        &d->alphas_cumprod,
                        &d->alphas_cumprod_prev,
                        &d->sqrt_recip_alphas_cumprod,
                        &d->sqrt_recipm1_alphas_cumprod,
                        &d->posterior_variance,
                        &d->posterior_log_variance_clipped,
                        &d->posterior_mean_coef1,
                        &d->posterior_mean_coef2};
    for (size_t i = 0; i < 9; i++)
        *table[i] = tables + i * DIFFUSION_STEPS;

    double all = 1, kept = 1, before = 1;
    for (size_t t = 0; t < DIFFUSION_STEPS; t++) {
        all *= 1 - (BETA_FIRST + (BETA_LAST - BETA_FIRST) * (double)t / (DIFFUSION_STEPS - 1));
        if (!keep[t])
            continue;
        size_t i = d->steps++;
        double beta = 1 - all / kept;
        kept = all;
        before = i ? d->alphas_cumprod[i - 1] : 1;
        double abar = before * (1 - beta);
        d->timestep_map[i] = (int64_t)t;
        d->betas[i] = beta;
        d->alphas_cumprod[i] = abar;
        d->alphas_cumprod_prev[i] = before;
        d->sqrt_recip_alphas_cumprod[i] = sqrt(1 / abar);
        d->sqrt_recipm1_alphas_cumprod[i] = sqrt(1 / abar - 1);
        d->posterior_variance[i] = beta * (1 - before) / (1 - abar);
        d->posterior_mean_coef1[i] = beta * sqrt(before) / (1 - abar);
        d->posterior_mean_coef2[i] = (1 - before) * sqrt(1 - beta) / (1 - abar);
    }
    for (size_t i = 0; i < d->steps; i++) // the first variance is 0: takes the log of the second
        d->posterior_log_variance_clipped[i] = log(d->posterior_variance[i              ? i
                                                                         : d->steps > 1 ? 1
                                                                                        : 0]);
    return 0;
}

void diffusion_free(struct diffusion *d)
{
    free(d->betas);
    free(d->timestep_map);
    *d = (struct diffusion){0};
}

struct diffusion_terms diffusion_terms(const struct diffusion *d, size_t i)
{
    return (struct diffusion_terms){
        .signal = (float)sqrt(d->alphas_cumprod[i]),
        .noise = (float)sqrt(1 - d->alphas_cumprod[i]),
        .out = 1,
        .eps = 1,
        .weight = 1,
        .x0_x = (float)d->sqrt_recip_alphas_cumprod[i],
        .x0_eps = (float)d->sqrt_recipm1_alphas_cumprod[i],
        .mean_x0 = (float)d->posterior_mean_coef1[i],
        .mean_x = (float)d->posterior_mean_coef2[i],
        .log_max = (float)log(d->betas[i]),
        .log_min = (float)d->posterior_log_variance_clipped[i],
        .first = i == 0,
    };
}

int diffusion_upload_terms(struct device *device, struct diffusion_terms *terms, double min_snr)
{
    struct diffusion diffusion;
    struct diffusion_terms all[DIFFUSION_STEPS];
    if (diffusion_init(&diffusion, "") < 0)
        return -1;
    for (size_t i = 0; i < DIFFUSION_STEPS; i++) {
        double snr = diffusion.alphas_cumprod[i] / (1 - diffusion.alphas_cumprod[i]);
        all[i] = diffusion_terms(&diffusion, i);
        if (min_snr > 0)
            all[i].weight = (float)(fmin(snr, min_snr) / snr);
    }
    device_upload(device, terms, all, sizeof all);
    diffusion_free(&diffusion);
    return 0;
}

// Both samplers predict the data from the noise, and go to a mean of it, the samples and the noise.
static void set_means(const struct diffusion *d, size_t i, struct sampler_stage *stage,
                      double mean_x0, double mean_x, double mean_eps)
{
    struct blend x = blend_state(0), eps = {.out = 1};
    struct blend x0 =
        blend_sum(d->sqrt_recip_alphas_cumprod[i], x, -d->sqrt_recipm1_alphas_cumprod[i], eps);
    stage_set(stage, 0, blend_sum(mean_x0, x0, 1, blend_sum(mean_x, x, mean_eps, eps)));
}

static void set_ddpm(const struct diffusion *d, size_t i, struct sampler_stage *stage)
{
    set_means(d, i, stage, d->posterior_mean_coef1[i], d->posterior_mean_coef2[i], 0);
    stage->step.log_max = (float)log(d->betas[i]);
    stage->step.log_min = (float)d->posterior_log_variance_clipped[i];
    stage->step.learned = i > 0;
}

static void set_ddim(const struct diffusion *d, size_t i, double eta, struct sampler_stage *stage)
{
    double abar = d->alphas_cumprod[i], before = d->alphas_cumprod_prev[i];
    double sigma = eta * sqrt((1 - before) / (1 - abar)) * sqrt(1 - abar / before);
    set_means(d, i, stage, sqrt(before), 0, sqrt(fmax(0, 1 - before - sigma * sigma)));
    stage->step.sigma = i > 0 ? (float)sigma : 0;
}

int diffusion_stages(struct sampler_stages *stages, const char *respacing, bool ddim, double eta)
{
    struct diffusion d;
    if (diffusion_init(&d, respacing) < 0)
        return -1;
    int rc = stages_init(stages, d.steps, 1);
    for (size_t i = 0; rc == 0 && i < d.steps; i++) {
        struct sampler_stage *stage = &stages->all[d.steps - 1 - i];
        stage->evaluate = true;
        stage->t = (double)d.timestep_map[i];
        stage->noise_time = stage->t / (DIFFUSION_STEPS - 1);
        stage->noise = (uint32_t)d.timestep_map[i];
        if (ddim)
            set_ddim(&d, i, eta, stage);
        else
            set_ddpm(&d, i, stage);
    }
    diffusion_free(&d);
    return rc;
}
