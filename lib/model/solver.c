// The coefficients of the multistep solvers. SPDX-License-Identifier: MIT
//
// All of them extrapolate the model's prediction of the data, m = (x - sg eps) / al, over lam = ln
// al
// - ln sg. Their last step goes to sg = 0, where lam is infinite and x becomes m.
#include "lib/model/solver.h"

#include <math.h>
#include <stdlib.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/model/diffusion.h"

#define KARRAS_RHO 7

// A point of the schedule.
struct solver_point {
    double t, al, sg, lam;
};

static struct solver_point point_at(double t, double sigma)
{
    double al = 1 / sqrt(1 + sigma * sigma), sg = sigma * al;
    return (struct solver_point){t, al, sg, sigma > 0 ? log(al) - log(sg) : INFINITY};
}

static double sigma_at(const struct diffusion *d, size_t t)
{
    return sqrt((1 - d->alphas_cumprod[t]) / d->alphas_cumprod[t]);
}

// The training step whose sigma is nearest, by interpolation of the logarithm.
static double step_of_sigma(const struct diffusion *d, double sigma)
{
    size_t low = 0;
    while (low < DIFFUSION_STEPS - 2 && sigma_at(d, low + 1) <= sigma)
        low++;
    double from = log(sigma_at(d, low)), to = log(sigma_at(d, low + 1));
    return rint((double)low + fmin(1, fmax(0, (log(sigma) - from) / (to - from))));
}

// Fills points[steps + 1], from noise to data.
static void fill_points(const struct diffusion *d, size_t steps, bool karras,
                        struct solver_point *points)
{
    const double high = pow(sigma_at(d, DIFFUSION_STEPS - 1), 1.0 / KARRAS_RHO);
    const double low = pow(sigma_at(d, 0), 1.0 / KARRAS_RHO);
    for (size_t i = 0; i < steps; i++) {
        if (karras) {
            double share = steps > 1 ? (double)i / (double)(steps - 1) : 0;
            double sigma = pow(high + share * (low - high), KARRAS_RHO);
            points[i] = point_at(step_of_sigma(d, sigma), sigma);
        } else {
            double t = rint((double)(steps - i) * (DIFFUSION_STEPS - 1) / (double)steps);
            points[i] = point_at(t, sigma_at(d, (size_t)t));
        }
    }
    points[steps] = point_at(0, 0);
}

// The model's prediction of the data at p, from the samples x.
static struct blend predict_data(struct solver_point p, struct blend x)
{
    return blend_sum(1 / p.al, x, -p.sg / p.al, (struct blend){.out = 1});
}

// A step from s to t that holds the prediction m: the solution for a constant m.
static struct blend step_constant(struct solver_point s, struct solver_point t, struct blend x,
                                  struct blend m)
{
    return blend_sum(t.sg / s.sg, x, -t.al * expm1(s.lam - t.lam), m);
}

// State 1 is the prediction of the step before.
static void set_dpmpp(struct sampler_stage *stage, const struct solver_point *p, bool first,
                      bool second_order)
{
    struct blend x = blend_state(0), m0 = predict_data(p[0], x), m = m0;
    if (second_order && !first && p[1].sg > 0) {
        double r = (p[0].lam - p[-1].lam) / (p[1].lam - p[0].lam);
        m = blend_sum(1 + 0.5 / r, m0, -0.5 / r, blend_state(1));
    }
    stage_set(stage, 0, step_constant(p[0], p[1], x, m));
    if (second_order)
        stage_set(stage, 1, m0);
}

static void set_sde_dpmpp(struct sampler_stage *stage, const struct solver_point *p, bool first)
{
    struct blend x = blend_state(0), m0 = predict_data(p[0], x), m = m0;
    double h = p[1].lam - p[0].lam, kept = -expm1(-2 * h);
    if (!first && p[1].sg > 0) {
        double r = (p[0].lam - p[-1].lam) / h;
        m = blend_sum(1 + 0.5 / r, m0, -0.5 / r, blend_state(1));
    }
    stage_set(stage, 0, blend_sum(p[1].sg / p[0].sg * exp(-h), x, p[1].al * kept, m));
    stage_set(stage, 1, m0);
    stage->step.sigma = (float)(p[1].sg * sqrt(kept));
}

// The samples at p[0], corrected by the prediction mt that was made there. State 1 is the last
// corrected samples, at p[-1]; states 2 and 3 are the predictions at p[-1] and p[-2].
static struct blend correct(const struct solver_point *p, int order, struct blend mt)
{
    struct blend m0 = blend_state(2), moved = blend_sum(1, mt, -1, m0);
    double h = p[0].lam - p[-1].lam, B = expm1(-h);
    struct blend change = blend_sum(0.5, moved, 0, m0);
    if (order == 2) {
        double r = (p[-2].lam - p[-1].lam) / h;
        double k1 = B / -h - 1, k2 = k1 / -h - 0.5, b1 = k1 / B, b2 = 2 * k2 / B;
        double c1 = (b1 - b2) / (1 - r), c2 = b1 - c1;
        struct blend slope = blend_sum(1 / r, blend_state(3), -1 / r, m0);
        change = blend_sum(c1, slope, c2, moved);
    }
    struct blend x = step_constant(p[-1], p[0], blend_state(1), m0);
    return blend_sum(1, x, -p[0].al * B, change);
}

static int unipc_order(size_t i, size_t steps)
{
    return i > 0 && i + 1 < steps ? 2 : 1;
}

static void set_unipc(struct sampler_stage *stage, const struct solver_point *p, size_t i,
                      size_t steps)
{
    struct blend mt = predict_data(p[0], blend_state(0)), x = blend_state(0), m = mt;
    if (i > 0)
        x = correct(p, unipc_order(i - 1, steps), mt);
    if (unipc_order(i, steps) == 2) {
        double r = (p[-1].lam - p[0].lam) / (p[1].lam - p[0].lam);
        m = blend_sum(1 - 0.5 / r, mt, 0.5 / r, blend_state(2));
    }
    stage_set(stage, 0, step_constant(p[0], p[1], x, m));
    stage_set(stage, 1, x);
    stage_set(stage, 2, mt);
    stage_set(stage, 3, blend_state(2));
}

int solver_stages(struct sampler_stages *stages, enum solver solver, size_t steps, bool karras)
{
    struct diffusion d;
    if (steps < 1 || steps >= DIFFUSION_STEPS)
        return error_set(STATUS_USAGE, "%zu sampling steps: expected 1 to %d", steps,
                         DIFFUSION_STEPS - 1);
    if (diffusion_init(&d, "") < 0)
        return -1;
    struct solver_point *points = mem_new(steps + 1, sizeof *points);
    size_t states = solver == SOLVER_UNIPC ? 4 : solver == SOLVER_DPMPP ? 1 : 2;
    int rc = points ? stages_init(stages, steps, states) : -1;
    if (rc == 0)
        fill_points(&d, steps, karras, points);
    for (size_t i = 0; rc == 0 && i < steps; i++) {
        struct sampler_stage *stage = &stages->all[i];
        stage->evaluate = true;
        stage->t = points[i].t;
        stage->noise_time = points[i].t / (DIFFUSION_STEPS - 1);
        stage->noise = (uint32_t)i;
        if (solver == SOLVER_UNIPC)
            set_unipc(stage, points + i, i, steps);
        else if (solver == SOLVER_SDE_DPMPP_2M)
            set_sde_dpmpp(stage, points + i, i == 0);
        else
            set_dpmpp(stage, points + i, i == 0, solver == SOLVER_DPMPP_2M);
    }
    free(points);
    diffusion_free(&d);
    return rc;
}
