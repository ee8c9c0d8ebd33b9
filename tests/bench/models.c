// Measures the speed and memory of the models on all processors: a training step, a guided sampling
// step, the autoencoder of Stable Diffusion. Each runs in a process of its own. The argument is the
// device: cpu, the default, or cpu,bf16.
// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "lib/model/autoencoder-kl.h"
#include "lib/model/sampler.h"
#include "lib/model/trainer.h"

#define STEPS 3

static const char *device_name = "cpu";

static void check(bool good)
{
    if (good)
        return;
    fprintf(stderr, "models: %s\n", error_message());
    exit(70);
}

static struct device *open_device(void)
{
    char why[256];
    struct device *device = device_open(device_name, (int)sysconf(_SC_NPROCESSORS_ONLN), why);
    if (!device)
        error_set(STATUS_INTERNAL, "%s", why);
    check(device);
    return device;
}

static float *random_values(size_t n, double deviation)
{
    float *values = mem_new(n, sizeof *values);
    check(values);
    struct rng rng = {.purpose = RNG_TEST};
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(deviation * rng_normal(&rng, i));
    return values;
}

// Prints the rate of the fastest step, which took `best` seconds for n units and `flops`
// operations.
static void report(const char *what, double best, size_t n, const char *unit, double flops,
                   struct device *device)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%-34s %8.2f %-12s %6.1f GFLOP/s, %3.0f%% of peak; %.2f GB\n", what, (double)n / best,
           unit, 1e-9 * flops / best, 100 * flops / best / device_peak_flops(device),
           (double)usage.ru_maxrss * 1024e-9);
}

static struct dit_config config_of(const char *model)
{
    struct dit_config config = {
        .input_size = 32, .channels = 4, .classes = 1000, .learn_sigma = true};
    check(dit_config_named(&config, model) >= 0);
    return config;
}

static void train(const char *model, size_t batch)
{
    struct device *device = open_device();
    struct dit_config config = config_of(model);
    struct trainer_settings settings = trainer_defaults;
    settings.batch = settings.micro_batch = batch;
    settings.mode = DIT_TRAIN_LIGHT; // as dit-train takes by default
    struct trainer *trainer = trainer_new(device, &config, &settings, NULL);
    check(trainer);
    const struct layout *layout = dit_get_layout(trainer_model(trainer));
    float *weights = mem_new(layout->size, sizeof *weights);
    float *latents = random_values(batch * 4 * 32 * 32, 1);
    int64_t *labels = mem_new(batch, sizeof *labels);
    check(weights && labels);
    dit_init_weights(layout, 0, weights);
    trainer_set_weights(trainer, weights);
    free(weights);
    double best = 0;
    for (uint64_t step = 0; step <= STEPS; step++) {
        struct trainer_stats stats;
        double start = clock_seconds();
        check(trainer_send(trainer, latents, NULL, labels) >= 0);
        trainer_begin(trainer, step);
        check(trainer_finish(trainer, &stats) >= 0);
        double took = clock_seconds() - start;
        best = step && (best == 0 || took < best) ? took : best;
    }
    char what[64];
    snprintf(what, sizeof what, "%s, training, batch %zu", model, batch);
    report(what, best, batch, "images/s", 3 * (double)batch * dit_forward_flops(&config), device);
}

static double step_start, step_best;
static void step_done(void *user)
{
    double now = clock_seconds(), took = now - step_start;
    bool *first = user;
    step_best = !*first && (step_best == 0 || took < step_best) ? took : step_best;
    *first = false;
    step_start = now;
}

static void sample(const char *model, size_t batch)
{
    struct device *device = open_device();
    struct dit_config config = config_of(model);
    struct sampler_settings settings = {.steps = "4", .cfg_scale = 4, .cfg_channels = 3};
    struct sampler *sampler = sampler_new(device, &config, batch, NULL, &settings);
    check(sampler);
    const struct layout *layout = dit_get_layout(sampler_model(sampler));
    float *weights = mem_new(layout->size, sizeof *weights);
    float *latents = mem_new(batch * 4 * 32 * 32, sizeof *latents);
    int32_t *labels = mem_new(batch, sizeof *labels);
    check(weights && latents && labels);
    dit_init_weights(layout, 0, weights);
    for (size_t i = 0; i < layout->n_params; i++)
        check(dit_set_param(sampler_model(sampler), &layout->params[i],
                            weights + layout->params[i].offset) >= 0);
    bool first = true;
    step_start = clock_seconds();
    step_best = 0;
    check(sampler_run(sampler, 0, labels, batch, latents, step_done, &first) >= 0);
    char what[64];
    snprintf(what, sizeof what, "%s, guided sampling, batch %zu", model, batch);
    report(what, step_best, 2 * batch, "evaluations/s",
           2 * (double)batch * dit_forward_flops(&config), device);
}

static void autoencode(enum kl_half half, size_t side)
{
    struct device *device = open_device();
    struct kl_config config = KL_PUBLISHED;
    struct autoencoder *ae = autoencoder_new_kl(device, &config, half, "random weights");
    check(ae);
    const struct layout *layout = kl_get_layout(ae);
    for (size_t i = 0; i < layout->n_params; i++) {
        float *values = random_values(layout->params[i].count, 0.02);
        check(kl_set_param(ae, &layout->params[i], values) >= 0);
        free(values);
    }
    size_t pixels = 3 * side * side, latent = side * side / 16;
    float *image = random_values(pixels, 0.5), *code = random_values(2 * latent, 1);
    double best = 0;
    for (int i = 0; i <= STEPS; i++) {
        double start = clock_seconds();
        check((half == KL_ENCODER ? kl_encode_pixels(ae, image, side, side, code, code + latent)
                                  : kl_decode_pixels(ae, code, side, side, image)) >= 0);
        double took = clock_seconds() - start;
        best = i && (best == 0 || took < best) ? took : best;
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    char what[64];
    snprintf(what, sizeof what, "SD autoencoder, %s %zux%zu",
             half == KL_ENCODER ? "encode" : "decode", side, side);
    printf("%-34s %8.2f %-12s %.3f s each; %.2f GB\n", what, 1 / best, "images/s", best,
           (double)usage.ru_maxrss * 1024e-9);
}

// Runs one measurement in a child, so that its peak memory is its own.
#define APART(call)                \
    do {                           \
        fflush(stdout);            \
        if (fork() == 0) {         \
            call;                  \
            exit(0);               \
        }                          \
        int status;                \
        wait(&status);             \
        failed = failed || status; \
    } while (0)

int main(int argc, char **argv)
{
    device_name = argc > 1 ? argv[1] : device_name;
    bool failed = false;
    APART(train("DiT-S/8", 32));
    APART(train("DiT-S/4", 16));
    APART(train("DiT-S/2", 8));
    APART(train("DiT-B/2", 4));
    APART(sample("DiT-S/2", 4));
    APART(sample("DiT-B/2", 4));
    APART(autoencode(KL_ENCODER, 256));
    APART(autoencode(KL_DECODER, 256));
    return failed;
}
