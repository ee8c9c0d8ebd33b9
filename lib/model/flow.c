// The stages of sampling by flow matching. SPDX-License-Identifier: MIT
#include "lib/model/flow.h"

#include <math.h>

#include "lib/base/error.h"

#define MARGIN         1e-3 // the distance from a pole of the path, or of what is predicted
#define VP_MARGIN      1e-5 // in training
#define LAST_SIZE      0.04
#define FLOW_STEPS_MAX 100000

void flow_training_bounds(struct flow_training *flow)
{
    flow->low = 0;
    flow->high = 1;
    if (flow->path == FLOW_VP)
        flow->high = 1 - VP_MARGIN;
    else if (flow->prediction != FLOW_VELOCITY)
        flow->low = MARGIN, flow->high = 1 - MARGIN;
}

// The conversions below hold for the model's output at p, with the sample in state 0.
struct flow_output {
    struct flow_point p;
    struct blend velocity, score;
};

static struct flow_output convert_output(const struct objective *objective, double t, double sign)
{
    struct flow_output o = {.p = flow_path_at(objective->path, t)};
    const struct flow_point p = o.p;
    struct blend x = blend_state(0), out = {.out = sign};
    if (objective->prediction == FLOW_VELOCITY) {
        double inverse = p.a / p.da, variance = p.s * p.s - inverse * p.ds * p.s;
        o.velocity = out;
        o.score = blend_sum(inverse / variance, out, -1 / variance, x);
    } else {
        o.score = objective->prediction == FLOW_NOISE ? blend_sum(-1 / p.s, out, 0, x) : out;
        o.velocity = blend_sum(p.da / p.a, x, flow_score_factor(p), o.score);
    }
    return o;
}

static double diffusion_at(enum flow_form form, struct flow_point p, double t)
{
    switch (form) {
    case FLOW_FORM_LINEAR:
        return 1 - t;
    case FLOW_FORM_CONSTANT:
        return 1;
    case FLOW_FORM_SBDM:
        return flow_score_factor(p);
    case FLOW_FORM_DECREASING:
        return pow(cos(M_PI * t) + 1, 2) / 4;
    case FLOW_FORM_INCREASING_DECREASING:
        return pow(sin(M_PI * t), 2);
    case FLOW_FORM_SIGMA:
        break;
    }
    return p.s;
}

// What the stages of one solver share.
struct flow_plan {
    const struct objective *objective;
    const struct flow_solver *solver;
    struct sampler_stage *next; // to be filled
};

// Begins the next stage with an evaluation at time t.
static struct sampler_stage *add_evaluation(struct flow_plan *plan, double t)
{
    struct sampler_stage *stage = plan->next++;
    stage->evaluate = true;
    stage->t = plan->objective->time == FLOW_TIME_NOISE ? 1 - t : t;
    stage->noise_time = 1 - t;
    return stage;
}

// The direction in which the samples move at time t; *w is the SDE's coefficient, or 0.
static struct blend find_drift(const struct flow_plan *plan, double t, double *w)
{
    double sign = plan->objective->time == FLOW_TIME_NOISE ? -1 : 1;
    struct flow_output o = convert_output(plan->objective, t, sign);
    *w = 0;
    if (!plan->solver->sde)
        return o.velocity;
    *w = diffusion_at(plan->solver->form, o.p, t);
    return blend_sum(1, o.velocity, *w, o.score);
}

static void add_euler(struct flow_plan *plan, double t, double dt, uint32_t noise)
{
    double w;
    struct blend drift = find_drift(plan, t, &w);
    struct sampler_stage *stage = add_evaluation(plan, t);
    stage_set(stage, 0, blend_sum(1, blend_state(0), dt, drift));
    stage->step.sigma = (float)sqrt(2 * w * dt);
    stage->noise = noise;
}

// State 0 goes the whole step along the first direction, state 1 half of it; the other half follows
// the direction at the end. The SDE's noise comes before both.
static void add_heun(struct flow_plan *plan, double t, double dt, uint32_t noise)
{
    double w, w_end;
    struct blend drift = find_drift(plan, t, &w), end = find_drift(plan, t + dt, &w_end);
    if (plan->solver->sde) {
        plan->next->step.sigma = (float)sqrt(2 * w * dt);
        plan->next++->noise = noise;
    }
    struct sampler_stage *first = add_evaluation(plan, t);
    stage_set(first, 0, blend_sum(1, blend_state(0), dt, drift));
    stage_set(first, 1, blend_sum(1, blend_state(0), dt / 2, drift));
    struct sampler_stage *second = add_evaluation(plan, t + dt);
    stage_set(second, 0, blend_sum(1, blend_state(1), dt / 2, end));
}

static void add_last_step(struct flow_plan *plan, double t, double size)
{
    double w, sign = plan->objective->time == FLOW_TIME_NOISE ? -1 : 1;
    struct flow_output o = convert_output(plan->objective, t, sign);
    struct blend x = blend_state(0);
    struct sampler_stage *stage = add_evaluation(plan, t);
    if (plan->solver->last == FLOW_LAST_TWEEDIE)
        stage_set(stage, 0, blend_sum(1 / o.p.a, x, o.p.s * o.p.s / o.p.a, o.score));
    else if (plan->solver->last == FLOW_LAST_EULER)
        stage_set(stage, 0, blend_sum(1, x, size, o.velocity));
    else
        stage_set(stage, 0, blend_sum(1, x, size, find_drift(plan, t, &w)));
}

// A share of the way from noise to data, of which the time shift lets the samples spend more at
// noise.
static double shift_time(double share, double shift)
{
    double noise = 1 - share;
    return 1 - shift * noise / (1 + (shift - 1) * noise);
}

int flow_stages(struct sampler_stages *stages, const struct objective *objective,
                const struct flow_solver *solver)
{
    const double size = solver->last_size > 0 ? solver->last_size : LAST_SIZE;
    const double shift = solver->time_shift > 0 ? solver->time_shift : 1;
    bool margin = objective->prediction != FLOW_VELOCITY;
    double from = margin && objective->path != FLOW_VP ? MARGIN : 0;
    double to = margin || objective->path == FLOW_VP ? 1 - MARGIN : 1;
    if (solver->sde) {
        from = margin || solver->form == FLOW_FORM_SBDM ? MARGIN : 0;
        to = 1 - size;
    }
    if (solver->steps < 1U + solver->sde || solver->steps > FLOW_STEPS_MAX)
        return error_set(STATUS_USAGE, "%zu sampling steps: expected %d to %d", solver->steps,
                         1 + solver->sde, FLOW_STEPS_MAX);
    size_t moves = solver->steps - solver->sde; // without the last step
    size_t each = solver->heun ? 2U + solver->sde : 1;
    if (stages_init(stages, moves * each + solver->sde, solver->heun ? 2 : 1) < 0)
        return -1;
    struct flow_plan plan = {objective, solver, stages->all};
    double t = from;
    for (size_t i = 0; i < moves; i++) {
        double share = (double)(i + 1) / (double)moves;
        double next = from + (to - from) * shift_time(share, shift);
        if (solver->heun)
            add_heun(&plan, t, next - t, (uint32_t)i);
        else
            add_euler(&plan, t, next - t, (uint32_t)i);
        t = next;
    }
    if (solver->sde)
        add_last_step(&plan, t, size);
    return 0;
}
