// Forward, guidance, training and sampling agree with the published implementation.
// SPDX-License-Identifier: MIT
#include "formats/weights/dit-file.h"
#include "lib/model/sampler.h"
#include "lib/model/trainer.h"
#include "tests/reference.h"

// Bounds on relative errors: two to three times the largest that were seen, including those in the
// CUDA simulator.
struct bounds {
    double forward, guided, gradients, mse, vb, weights, average, trajectory;
};
static const struct bounds f32_bounds = {1e-5, 1e-5, 1e-4, 1e-5, 1e-4, 1e-4, 1e-4, 1e-4},
                           tf32_bounds = {1.5e-3, 3e-3, 3e-3, 1e-4, 2e-4, 6e-3, 2e-4, 8e-4},
                           bf16_bounds = {1.5e-2, 4e-2, 2e-2, 6e-4, 6e-4, 6e-2, 2e-3, 8e-3};

static struct device *device;
static const char *backend;
static const struct bounds *bounds;

static void *to_device(const void *values, size_t bytes)
{
    void *memory = device_alloc(device, bytes);
    if (!memory)
        bail_out();
    device_upload(device, memory, values, bytes);
    return memory;
}

static void expect(double error, double most, const char *model, const char *what)
{
    if (!ok(error <= most, "%s: %s of %s agrees with the reference within %g", backend, what, model,
            most))
        diag("relative error %g", error);
}

static void open_weights(struct dit_file *file, const char *model)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.safetensors", reference_dir(), model);
    if (dit_file_open(file, path, NULL) < 0)
        bail_out();
}

static float *to_floats(const int64_t *values, size_t n)
{
    float *floats = mem_new(n, sizeof *floats);
    for (size_t i = 0; i < n; i++)
        floats[i] = (float)values[i];
    return floats;
}

static int32_t *to_labels(const int64_t *values, size_t n)
{
    int32_t *labels = mem_new(n, sizeof *labels);
    for (size_t i = 0; i < n; i++)
        labels[i] = (int32_t)values[i];
    return labels;
}

// Runs the model on PREFIXx, PREFIXt and PREFIXy and returns its output in host memory.
static float *run_forward(struct dit *dit, const struct weights *doc, const char *prefix, size_t n,
                          size_t B, double cfg_scale)
{
    char name[32];
    snprintf(name, sizeof name, "%sx", prefix);
    float *x = reference_floats(doc, name, NULL);
    snprintf(name, sizeof name, "%st", prefix);
    int64_t *t64 = reference_ints(doc, name, NULL);
    snprintf(name, sizeof name, "%sy", prefix);
    int64_t *y64 = reference_ints(doc, name, NULL);
    float *t = to_floats(t64, B), *out = mem_new(2 * B * n, sizeof *out);
    int32_t *y = to_labels(y64, B);
    if (cfg_scale != 1) // both halves of the batch take the first half's latents
        memcpy(x + B / 2 * n, x, B / 2 * n * sizeof *x);
    float *dx = to_device(x, B * n * sizeof *x), *dt = to_device(t, B * sizeof *t);
    float *dout = device_alloc(device, 2 * B * n * sizeof *out);
    int32_t *dy = to_device(y, B * sizeof *y);
    dit_forward(dit, dout, dx, dt, dy, B);
    const struct dit_config *c = dit_get_config(dit);
    if (cfg_scale != 1)
        op_guide(device, dout, (float)cfg_scale, 0, 3, 2 * n, B / 2, c->channels,
                 c->input_size * c->input_size);
    device_download(device, out, dout, 2 * B * n * sizeof *out);
    void *on_device[] = {dx, dt, dout, dy};
    for (size_t i = 0; i < 4; i++)
        device_release(device, on_device[i]);
    free(x), free(t), free(y), free(t64), free(y64);
    return out;
}

static void check_forward(const char *model)
{
    char name[32];
    snprintf(name, sizeof name, "%s-forward", model);
    if (!reference_has(name))
        return;
    struct dit_file file;
    open_weights(&file, model);
    struct weights doc = reference_open(name);
    struct dit *dit = dit_new(device, &file.config, 4, DIT_INFER, NULL);
    if (!dit || dit_file_load(&file, DIT_WEIGHTS_EMA, dit) < 0)
        bail_out();
    size_t n = file.config.channels * file.config.input_size * file.config.input_size, count;

    float *expected = reference_floats(&doc, "forward", &count);
    float *out = run_forward(dit, &doc, "", n, 4, 1);
    expect(relative_error(out, expected, count), bounds->forward, model, "forward pass");
    if (device->backend->host_memory) {
        float *one = run_forward(dit, &doc, "", n, 1, 1);
        ok(memcmp(out, one, 2 * n * sizeof *one) == 0,
           "%s: a sample's output by %s has the same bits in a batch of 1 and of 4", backend,
           model);
        free(one);
    }
    free(expected), free(out);

    expected = reference_floats(&doc, "forward_with_cfg", &count);
    float *scale = reference_floats(&doc, "cfg_scale", NULL);
    out = run_forward(dit, &doc, "cfg_", n, 4, *scale);
    expect(relative_error(out, expected, count / 2), bounds->guided, model,
           "forward pass with guidance");
    free(expected), free(out), free(scale);
    dit_free(dit);
    dit_file_close(&file);
    weights_close(&doc);
}

// Checks the same weights in another format: copied to the device, and in place if the device can
// use them there.
static void check_form(const char *name, enum dit_weights which, double most)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", reference_dir(), name);
    if (access(path, R_OK) < 0) {
        skip(name, "not in the folder of reference data");
        return;
    }
    struct dit_file file;
    if (dit_file_open(&file, path, &(struct dit_hints){.heads = 4}) < 0)
        bail_out();
    struct weights doc = reference_open("dit-a-forward");
    size_t n = file.config.channels * file.config.input_size * file.config.input_size, count;
    float *expected = reference_floats(&doc, "forward", &count);
    const float **in_place = dit_file_in_place(&file, which);
    for (int mapped = 0; mapped <= device_uses_host_floats(device); mapped++) {
        struct dit *dit = dit_new(device, &file.config, 4, DIT_INFER, mapped ? in_place : NULL);
        if (!in_place || !dit || dit_file_load(&file, which, dit) < 0)
            bail_out();
        float *out = run_forward(dit, &doc, "", n, 4, 1);
        expect(relative_error(out, expected, count), fmax(most, bounds->forward), name,
               mapped ? "forward pass with weights in place" : "forward pass");
        dit_free(dit);
        free(out);
    }
    free(in_place);
    free(expected);
    dit_file_close(&file);
    weights_close(&doc);
}

// In the reference checkpoint the EMA is half of the model, so that the two can be told apart.
static void check_choice(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/dit-a-train.pt", reference_dir());
    if (access(path, R_OK) < 0) {
        skip("dit-a-train.pt", "not in the folder of reference data");
        return;
    }
    struct dit_file file;
    if (dit_file_open(&file, path, &(struct dit_hints){.heads = 4}) < 0)
        bail_out();
    size_t most = layout_largest(&file.layout);
    float *ema = mem_new(most, sizeof *ema), *model = mem_new(most, sizeof *model);
    bool half = true;
    for (size_t i = 0; i < file.layout.n_params; i++) {
        if (binding_read(dit_file_choose(&file, DIT_WEIGHTS_EMA), i, ema) < 0 ||
            binding_read(dit_file_choose(&file, DIT_WEIGHTS_MODEL), i, model) < 0)
            bail_out();
        for (size_t e = 0; e < file.layout.params[i].count; e++)
            half = half && ema[e] == 0.5f * model[e];
    }
    ok(half, "a training checkpoint gives its ema by default, and its model on request");
    free(ema);
    free(model);
    dit_file_close(&file);
}

// A trainer of other sizes than the checkpoint's would be filled past its ends.
static void check_other_sizes(void)
{
    char path[4096];
    struct dit_file file;
    struct trainer_settings settings = trainer_defaults;
    settings.batch = settings.micro_batch = 1;
    snprintf(path, sizeof path, "%s/dit-a-train.pt", reference_dir());
    if (access(path, R_OK) < 0) {
        skip("dit-a-train.pt", "not in the folder of reference data");
        return;
    }
    if (dit_file_open(&file, path, &(struct dit_hints){.heads = 4}) < 0)
        bail_out();
    for (int i = 0; i < 2; i++) {
        static const char *const differs[] = {"the depth is", "the number of classes is"};
        struct dit_config config = file.config;
        config.depth += i == 0;
        config.classes += i == 1;
        struct trainer *trainer = trainer_new(device, &config, &settings, NULL);
        if (!trainer)
            bail_out();
        ok(dit_file_restore(&file, trainer) < 0 && strstr(error_message(), differs[i]),
           "%s: a checkpoint restores no trainer of other sizes: %s", device->description,
           differs[i]);
        trainer_free(trainer);
    }
    dit_file_close(&file);
}

// The largest relative error of an array's tensors, compared with PREFIX.NAME in the data.
static double array_error(struct trainer *trainer, const struct weights *doc, const char *prefix,
                          const float *gradients, enum trainer_array array, double most)
{
    const struct layout *layout = dit_get_layout(trainer_model(trainer));
    double worst = 0;
    for (size_t i = 0; i < layout->n_params; i++) {
        const struct param *p = &layout->params[i];
        char name[128];
        size_t count;
        snprintf(name, sizeof name, "%s.%s", prefix, p->name);
        float *expected = reference_floats(doc, name, &count), *got = mem_new(count, sizeof *got);
        if (gradients)
            memcpy(got, gradients + p->offset, count * sizeof *got);
        else if (trainer_get(trainer, array, p, got) < 0)
            bail_out();
        double error = relative_error(got, expected, count);
        if (error > most)
            diag("%s: relative error %g", name, error);
        worst = worse(worst, error);
        free(expected), free(got);
    }
    return worst;
}

static void check_training(const char *model)
{
    char name[32];
    snprintf(name, sizeof name, "%s-train", model);
    if (!reference_has(name))
        return;
    struct dit_file file;
    open_weights(&file, model);
    struct weights doc = reference_open(name);
    struct trainer_settings settings = trainer_defaults;
    settings.batch = settings.micro_batch = 4;
    settings.lr = 1e-3;
    settings.ema_decay = 0.99;
    struct trainer *trainer = trainer_new(device, &file.config, &settings, NULL);
    if (!trainer)
        bail_out();
    const struct layout *layout = dit_get_layout(trainer_model(trainer));
    float *weights = mem_new(layout->size, sizeof *weights);
    if (!weights || dit_file_initial_weights(&file, &file.config, layout, false, weights) < 0)
        bail_out();
    trainer_set_weights(trainer, weights);
    struct trainer_inputs in = trainer_inputs(trainer);
    for (int step = 0; step < 4; step++) {
        static const char *const names[] = {"x_start", "noise", "mse", "vb", "t", "y", "drop"};
        float *floats[4], mse[4], vb[4];
        int64_t *ints[3];
        size_t n;
        for (int i = 0; i < 7; i++) {
            snprintf(name, sizeof name, "step%d.%s", step, names[i]);
            if (i < 4)
                floats[i] = reference_floats(&doc, name, i == 0 ? &n : NULL);
            else
                ints[i - 4] = reference_ints(&doc, name, NULL);
        }
        device_upload(device, in.x0, floats[0], n * sizeof(float));
        device_upload(device, in.noise, floats[1], n * sizeof(float));
        int32_t labels[4];
        for (size_t b = 0; b < 4; b++)
            labels[b] = (int32_t)(ints[2][b] ? (int64_t)file.config.classes : ints[1][b]);
        double times[4];
        for (size_t b = 0; b < 4; b++)
            times[b] = (double)ints[0][b];
        trainer_set_conditions(trainer, times, labels, 4);
        trainer_accumulate(trainer, 4, 4, mse, vb);
        if (step == 0) {
            float *gradients = mem_new(layout->size, sizeof *gradients);
            device_download(device, gradients, dit_gradients(trainer_model(trainer)),
                            layout->size * sizeof *gradients);
            expect(array_error(trainer, &doc, "grad0", gradients, 0, bounds->gradients),
                   bounds->gradients, model, "gradients");
            free(gradients);
        }
        char what[32];
        snprintf(what, sizeof what, "mse of step %d", step);
        expect(relative_error(mse, floats[2], 4), bounds->mse, model, what);
        snprintf(what, sizeof what, "vb of step %d", step);
        expect(relative_error(vb, floats[3], 4), bounds->vb, model, what);
        trainer_update(trainer, settings.lr);
        for (int i = 0; i < 4; i++)
            free(floats[i]);
        for (int i = 0; i < 3; i++)
            free(ints[i]);
    }
    expect(array_error(trainer, &doc, "final", NULL, TRAINER_MODEL, bounds->weights),
           bounds->weights, model, "weights after four steps");
    expect(array_error(trainer, &doc, "ema", NULL, TRAINER_EMA, bounds->average), bounds->average,
           model, "average of the weights after four steps");
    trainer_free(trainer);
    free(weights);
    dit_file_close(&file);
    weights_close(&doc);
}

static void check_sampling(const char *model, const char *method, const char *respacing, double eta)
{
    char name[40];
    snprintf(name, sizeof name, "%s-sample-%s", model, method);
    if (!reference_has(name))
        return;
    struct dit_file file;
    open_weights(&file, model);
    struct weights doc = reference_open(name);
    bool ddim = strcmp(method, "ddpm") != 0;
    struct sampler_settings settings = {.steps = respacing,
                                        .method = ddim ? SAMPLER_DDIM : SAMPLER_DDPM,
                                        .eta = eta,
                                        .cfg_scale = 1.5,
                                        .cfg_channels = 3};
    // The file's z holds each latent twice: once for its class and once for the null class.
    struct sampler *sampler = sampler_new(device, &file.config, 2, NULL, &settings);
    if (!sampler || dit_file_load(&file, DIT_WEIGHTS_EMA, sampler_model(sampler)) < 0)
        bail_out();
    size_t n = file.config.channels * file.config.input_size * file.config.input_size;
    float *z = reference_floats(&doc, "z", NULL), *noise = reference_floats(&doc, "noise", NULL);
    float *trajectory = reference_floats(&doc, "trajectory", NULL), x[2 * 4096];
    int64_t *y = reference_ints(&doc, "y", NULL);
    int32_t *labels = to_labels(y, 2);
    const struct sampler_stages *stages = sampler_get_stages(sampler);
    double worst = 0;
    sampler_start(sampler, labels, 2);
    device_upload(device, sampler_state(sampler), z, 2 * n * sizeof *z);
    for (size_t i = 0; i < stages->n; i++) {
        size_t at = i * 4 * n;
        device_upload(device, sampler_noise(sampler), noise + at, 2 * n * sizeof *noise);
        sampler_advance(sampler, &stages->all[i]);
        device_download(device, x, sampler_state(sampler), 2 * n * sizeof *x);
        worst = worse(worst, relative_error(x, trajectory + at, 2 * n));
    }
    char what[64];
    snprintf(what, sizeof what, "trajectory of %s", method);
    expect(worst, bounds->trajectory, model, what);
    free(z), free(noise), free(trajectory), free(y), free(labels);
    sampler_free(sampler);
    dit_file_close(&file);
    weights_close(&doc);
}

int main(int argc, char **argv)
{
    static const char *const models[] = {"dit-a", "dit-b"};
    static const struct {
        const char *name;
        enum dit_weights which;
        double most;
    } forms[] = {
        {"dit-a-plain.pt", DIT_WEIGHTS_EMA, 1e-5},
        {"dit-a-legacy.pt", DIT_WEIGHTS_EMA, 1e-5},
        {"dit-a-train.pt", DIT_WEIGHTS_MODEL, 1e-5},
        {"dit-a-half.pt", DIT_WEIGHTS_EMA, 1e-3}, // its weights are rounded
        {"dit-a-bf16.pt", DIT_WEIGHTS_EMA, 1e-2},
    };
    char why[256];
    check_choice();
    for (size_t i = 0; argc > 1 || device_host_name(i); i++) {
        backend = argc > 1 ? argv[1] : device_host_name(i);
        if (!(device = device_open(backend, 2, why))) {
            error_set(STATUS_INTERNAL, "%s: %s", backend, why);
            bail_out();
        }
        bounds = device->backend->act_size == 2          ? &bf16_bounds
                 : strstr(device->backend->name, "tf32") ? &tf32_bounds
                                                         : &f32_bounds;
        for (size_t m = 0; m < 2; m++) {
            check_forward(models[m]);
            check_training(models[m]);
            check_sampling(models[m], "ddpm", "10", 0);
            check_sampling(models[m], "ddim", "ddim20", 0);
            check_sampling(models[m], "ddim_eta", "10", 0.5);
        }
        for (size_t f = 0; f < sizeof forms / sizeof *forms; f++)
            check_form(forms[f].name, forms[f].which, forms[f].most);
        check_other_sizes();
        ok(!device_error(device), "%s: no error is set on the device", backend);
        device_close(device);
        if (argc > 1)
            break;
    }
    return tap_done();
}
