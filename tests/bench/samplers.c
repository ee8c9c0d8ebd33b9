// Measures flow matching against diffusion, and samplers of few steps against those of many, within
// one process and in turn: the median of each, and their ratio beside the one that the evaluations
// of the model would give. The model is that of pipelines/demo.sh. SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "lib/model/sampler.h"
#include "lib/model/trainer.h"

enum { ROUNDS = 5, TRAINED = 32, DRAWN = 8, STEPS = 20, VALUES = 16 * 4 * 4 };

static struct device *device;
static float *weights, *latents;
static int64_t labels[TRAINED];

static void check(bool good)
{
    if (good)
        return;
    fprintf(stderr, "samplers: %s\n", error_message());
    exit(70);
}

static struct dit_config config_for(enum objective_kind kind)
{
    return (struct dit_config){.depth = 6,
                               .hidden = 192,
                               .heads = 3,
                               .patch = 1,
                               .input_size = 4,
                               .channels = 16,
                               .classes = 10,
                               .learn_sigma = kind == OBJECTIVE_DIFFUSION};
}

static struct objective objective_for(enum objective_kind kind)
{
    struct objective objective = {.kind = kind};
    check(objective_complete(&objective) >= 0);
    return objective;
}

// What is measured: `evaluations` of a sample of the model, or as many training steps.
struct contender {
    const char *name;
    struct trainer *trainer;
    struct sampler *sampler;
    double evaluations;
    double seconds[ROUNDS];
};

static struct contender training(const char *name, enum objective_kind kind)
{
    struct dit_config config = config_for(kind);
    struct trainer_settings settings = trainer_defaults;
    settings.batch = settings.micro_batch = TRAINED;
    settings.mode = DIT_TRAIN_LIGHT; // as dit-train takes by default
    settings.loss.objective = objective_for(kind);
    struct contender c = {.name = name, .evaluations = STEPS};
    check((c.trainer = trainer_new(device, &config, &settings, NULL)));
    dit_init_weights(dit_get_layout(trainer_model(c.trainer)), 0, weights);
    trainer_set_weights(c.trainer, weights);
    return c;
}

static struct contender sampling(const char *name, struct sampler_settings settings)
{
    const enum objective_kind kind =
        settings.method >= SAMPLER_EULER ? OBJECTIVE_FLOW : OBJECTIVE_DIFFUSION;
    struct dit_config config = config_for(kind);
    struct contender c = {.name = name};
    settings.objective = objective_for(kind);
    settings.cfg_scale = 2.5;
    check((c.sampler = sampler_new(device, &config, DRAWN, NULL, &settings)));
    struct dit *model = sampler_model(c.sampler);
    const struct layout *layout = dit_get_layout(model);
    dit_init_weights(layout, 0, weights);
    for (size_t i = 0; i < layout->n_params; i++)
        check(dit_set_param(model, &layout->params[i], weights + layout->params[i].offset) >= 0);
    const struct sampler_stages *stages = sampler_get_stages(c.sampler);
    for (size_t i = 0; i < stages->n; i++)
        if (stages->all[i].evaluate)
            c.evaluations +=
                settings.cfg_high == 0 || stages->all[i].noise_time <= settings.cfg_high ? 2 : 1;
    return c;
}

static void run(struct contender *c, size_t round)
{
    int32_t classes[DRAWN] = {0};
    const double start = clock_seconds();
    for (size_t step = 0; c->trainer && step < STEPS; step++) {
        struct trainer_stats stats;
        check(trainer_send(c->trainer, latents, NULL, labels) >= 0);
        trainer_begin(c->trainer, round * STEPS + step);
        check(trainer_finish(c->trainer, &stats) >= 0);
    }
    if (c->sampler)
        check(sampler_run(c->sampler, 0, classes, DRAWN, latents, NULL, NULL) >= 0);
    c->seconds[round] = clock_seconds() - start;
}

static int compare_seconds(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(struct contender *c)
{
    qsort(c->seconds, ROUNDS, sizeof *c->seconds, compare_seconds);
    return c->seconds[ROUNDS / 2];
}

static void compare(struct contender a, struct contender b)
{
    run(&a, 0); // the first of each finds its memory cold, and is measured over
    run(&b, 0);
    for (size_t round = 0; round < ROUNDS; round++) {
        run(round % 2 ? &b : &a, round);
        run(round % 2 ? &a : &b, round);
    }
    const double of_a = median(&a), of_b = median(&b);
    printf("%-28s %8.4f s, %-24s %8.4f s: %.3f; by evaluations %.3f\n", a.name, of_a, b.name, of_b,
           of_a / of_b, a.evaluations / b.evaluations);
    fflush(stdout);
    trainer_free(a.trainer);
    trainer_free(b.trainer);
    sampler_free(a.sampler);
    sampler_free(b.sampler);
}

// samplers [THREADS]: by default one per processor.
int main(int argc, char **argv)
{
    char why[256];
    const int threads = argc > 1 ? atoi(argv[1]) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (!(device = device_open("cpu", threads, why)))
        error_set(STATUS_INTERNAL, "%s", why);
    check(device);
    struct dit_config config = config_for(OBJECTIVE_DIFFUSION);
    struct layout layout;
    check(dit_layout_init(&layout, &config) >= 0);
    weights = mem_new(layout.size, sizeof *weights);
    latents = mem_new(TRAINED * VALUES, sizeof *latents);
    check(weights && latents);
    const struct rng rng = {.purpose = RNG_TEST};
    for (size_t i = 0; i < TRAINED * VALUES; i++)
        latents[i] = (float)rng_normal(&rng, i);
    compare(training("20 steps of flow matching", OBJECTIVE_FLOW),
            training("20 of diffusion", OBJECTIVE_DIFFUSION));
    const struct sampler_settings ddpm = {.method = SAMPLER_DDPM, .steps = "250"},
                                  ddpm_100 = {.method = SAMPLER_DDPM, .steps = "100"},
                                  dpmpp = {.method = SAMPLER_DPMPP_2M, .steps = "20"},
                                  euler = {.method = SAMPLER_EULER, .steps = "250"},
                                  euler_100 = {.method = SAMPLER_EULER, .steps = "100"},
                                  heun = {.method = SAMPLER_HEUN, .steps = "10"};
    struct sampler_settings within = euler_100;
    within.cfg_high = 0.7;
    compare(sampling("dpm++2m, 20 steps", dpmpp), sampling("ddpm, 250 steps", ddpm));
    compare(sampling("heun, 10 steps", heun), sampling("euler, 250 steps", euler));
    compare(sampling("euler, 100 steps", euler_100), sampling("ddpm, 100 steps", ddpm_100));
    compare(sampling("euler, guided in [0, 0.7]", within), sampling("euler, 100 steps", euler_100));
    layout_free(&layout);
    free(weights);
    free(latents);
    device_close(device);
    return 0;
}
