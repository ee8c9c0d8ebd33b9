// Solvers of diffusion, flow matching and its samplers agree with the published implementations.
// SPDX-License-Identifier: MIT
#include "formats/weights/dit-file.h"
#include "lib/model/sampler.h"
#include "lib/model/trainer.h"
#include "tests/reference.h"

// Bounds on relative errors. Those of float32 are what is promised.
struct bounds {
    double forward, guided, loss, gradients, weights, average, trajectory;
};
static const struct bounds f32_bounds = {1e-5, 1e-5, 1e-5, 1e-4, 1e-4, 1e-4, 1e-4};

// A precision that rounds by up to u, relatively, changes a value by 0.42 u rms at each rounding.
// About a dozen independent ones lie on the way through a model of two blocks: two where each block
// adds to the tokens, one at either end, and as many again within the branches. So the output is
// off by 0.42 sqrt(12) = 1.5 u, and twice that is allowed. Guidance by 1.5 adds 1.5 and -0.5 times
// such outputs, which is sqrt(2.5) times as far off. So is a trajectory at most, as its steps add
// up to the way of a single one. A sample's loss, the mean of 256 squares or more, is off by 2 /
// sqrt(256) of 1.5 u; five times that is allowed, as the worst of many counts, and a residual may
// be smaller than the output. A gradient has the roundings of both passes and of its own product:
// sqrt(3) times as many. Adam divides by the gradient's size: where that is hardly more than its
// error, the step may have any sign. So the weights and their average have three times the largest
// error that was seen.
#define LOW_BOUNDS(u, weights, average)                     \
    {                                                       \
        3 * u, 5 * u, 1 * u, 5 * u, weights, average, 5 * u \
    }
static const struct bounds tf32_bounds = LOW_BOUNDS(0x1p-11, 1.1e-3, 4e-4), // factors of products
    bf16_bounds = LOW_BOUNDS(0x1p-8, 4e-2, 1e-2);                           // activations

static struct device *device;
static const char *backend;
static const struct bounds *bounds;

static void expect(double error, double most, const char *what)
{
    if (!ok(error <= most, "%s: %s agrees with the reference within %g", backend, what, most))
        diag("relative error %g", error);
}

static void open_model(struct dit_file *file, const char *model, enum objective_kind kind)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.safetensors", reference_dir(), model);
    if (dit_file_open(file, path, &(struct dit_hints){.objective.kind = kind}) < 0)
        bail_out();
}

static size_t latent_size(const struct dit_config *c)
{
    return c->channels * c->input_size * c->input_size;
}

static void *to_device(const void *values, size_t bytes)
{
    void *memory = device_alloc(device, bytes);
    if (!memory)
        bail_out();
    device_upload(device, memory, values, bytes);
    return memory;
}

static int32_t *read_labels(const struct weights *doc, const char *name, size_t *count)
{
    int64_t *y = reference_ints(doc, name, count);
    int32_t *labels = mem_new(*count, sizeof *labels);
    for (size_t i = 0; labels && i < *count; i++)
        labels[i] = (int32_t)y[i];
    free(y);
    return labels;
}

// The model's prediction of PREFIXx at PREFIXt, without its variance; guided unless scale is 1.
static void check_forward(const char *model, const char *prefix, double scale, double most)
{
    char name[64];
    snprintf(name, sizeof name, "%s-forward", model);
    if (!reference_has(name))
        return;
    struct dit_file file;
    open_model(&file, model, OBJECTIVE_FLOW);
    struct weights doc = reference_open(name);
    struct dit *dit = dit_new(device, &file.config, 8, DIT_INFER, NULL);
    if (!dit || dit_file_load(&file, DIT_WEIGHTS_EMA, dit) < 0)
        bail_out();
    const struct dit_config *c = &file.config;
    size_t n = latent_size(c), stride = dit_out_channels(c) * c->input_size * c->input_size, B;
    snprintf(name, sizeof name, "%sy", prefix);
    int32_t labels[8], *y = read_labels(&doc, name, &B);
    snprintf(name, sizeof name, "%sx", prefix);
    float *x = reference_floats(&doc, name, NULL), all_t[8];
    snprintf(name, sizeof name, "%st", prefix);
    float *t = reference_floats(&doc, name, NULL);
    size_t rows = scale == 1 ? B : 2 * B;
    for (size_t b = 0; b < rows; b++) {
        labels[b] = b < B ? y[b] : (int32_t)c->classes;
        all_t[b] = t[b % B];
    }
    float *dx = device_alloc(device, rows * n * sizeof *dx);
    for (size_t at = 0; at < rows; at += B)
        device_upload(device, dx + at * n, x, B * n * sizeof *x);
    float *dt = to_device(all_t, rows * sizeof *dt);
    int32_t *dy = to_device(labels, rows * sizeof *dy);
    float *dout = device_alloc(device, rows * stride * sizeof *dout);
    dit_forward(dit, dout, dx, dt, dy, rows);
    if (scale != 1)
        op_guide(device, dout, (float)scale, 0, 3, stride, B, c->channels,
                 c->input_size * c->input_size);
    float *expected = reference_floats(&doc, scale == 1 ? "forward" : "forward_with_cfg", NULL);
    float *out = mem_new(B * n, sizeof *out);
    for (size_t b = 0; b < B; b++)
        device_download(device, out + b * n, dout + b * stride, n * sizeof *out);
    snprintf(name, sizeof name, "%s of %s", scale == 1 ? "forward pass" : "guided forward pass",
             model);
    expect(relative_error(out, expected, B * n), most, name);
    void *memory[] = {dx, dt, dy, dout}, *host[] = {x, t, y, expected, out};
    for (size_t i = 0; i < 4; i++)
        device_release(device, memory[i]);
    for (size_t i = 0; i < 5; i++)
        free(host[i]);
    dit_free(dit);
    dit_file_close(&file);
    weights_close(&doc);
}

// The samples after each of the reference's steps, which are `each` stages, the last one a single
// stage if `last`.
static void check_trajectory(const char *name, const char *model, struct sampler_settings settings,
                             size_t each, bool last)
{
    if (!reference_has(name))
        return;
    struct dit_file file;
    char text[24];
    open_model(&file, model, settings.objective.kind);
    struct weights doc = reference_open(name);
    size_t B, n = latent_size(&file.config);
    int32_t *labels = read_labels(&doc, "y", &B);
    float *z = reference_floats(&doc, "z", NULL);
    float *trajectory = reference_floats(&doc, "trajectory", NULL);
    const struct weight *recorded = weights_find(&doc, "noise");
    float *noise = recorded ? reference_floats(&doc, "noise", NULL) : NULL;
    size_t steps = weight_rows(reference_find(&doc, "trajectory"));
    snprintf(text, sizeof text, "%zu", steps);
    settings.steps = text;
    settings.cfg_scale = 1.5;
    struct sampler *sampler = objective_complete(&settings.objective) < 0
                                  ? NULL
                                  : sampler_new(device, &file.config, B, NULL, &settings);
    if (!sampler || dit_file_load(&file, DIT_WEIGHTS_EMA, sampler_model(sampler)) < 0)
        bail_out();
    const struct sampler_stages *stages = sampler_get_stages(sampler);
    const struct sampler_stage *stage = stages->all;
    float *x = mem_new(B * n, sizeof *x);
    double worst = 0;
    sampler_start(sampler, labels, B);
    device_upload(device, sampler_state(sampler), z, B * n * sizeof *z);
    for (size_t i = 0; i < steps; i++) {
        for (size_t k = 0; k < (last && i + 1 == steps ? 1 : each); k++, stage++) {
            if (noise && stage_has_noise(stage))
                device_upload(device, sampler_noise(sampler), noise + i * B * n,
                              B * n * sizeof *noise);
            sampler_advance(sampler, stage);
        }
        device_download(device, x, sampler_state(sampler), B * n * sizeof *x);
        worst = worse(worst, relative_error(x, trajectory + i * B * n, B * n));
    }
    ok(stage == stages->all + stages->n, "%s: %s has the reference's number of stages", backend,
       name);
    expect(worst, bounds->trajectory, name);
    void *host[] = {labels, z, trajectory, noise, x};
    for (size_t i = 0; i < 5; i++)
        free(host[i]);
    sampler_free(sampler);
    dit_file_close(&file);
    weights_close(&doc);
}

static void check_solvers(void)
{
    static const struct {
        const char *name;
        enum sampler_method method;
        bool karras;
    } solvers[] = {{"dpmpp-1", SAMPLER_DPMPP, false},
                   {"dpmpp-2m", SAMPLER_DPMPP_2M, false},
                   {"sde-dpmpp-2m", SAMPLER_SDE_DPMPP_2M, false},
                   {"dpmpp-2m-karras", SAMPLER_DPMPP_2M, true},
                   {"unipc-2", SAMPLER_UNIPC, false}};
    for (size_t i = 0; i < sizeof solvers / sizeof *solvers; i++)
        for (int steps = 5; steps <= 20; steps += 15) {
            char name[64];
            snprintf(name, sizeof name, "dit-a-solver-%s-%d", solvers[i].name, steps);
            check_trajectory(
                name, "dit-a",
                (struct sampler_settings){.method = solvers[i].method, .karras = solvers[i].karras},
                1, false);
        }
}

static void check_flows(const char *model)
{
    static const char *const paths[] = {"linear", "gvp", "vp"};
    static const char *const forms[] = {"sigma", "linear", "constant", "sbdm", "decreasing"};
    static const char *const lasts[] = {"mean", "euler", "tweedie"};
    char name[64];
    for (size_t i = 0; i < 3 * 2; i++) {
        bool heun = i % 2;
        struct sampler_settings s = {.objective = {OBJECTIVE_FLOW, FLOW_LINEAR + i / 2, 0, 0},
                                     .method = heun ? SAMPLER_HEUN : SAMPLER_EULER};
        snprintf(name, sizeof name, "%s-ode-%s-%s", model, paths[i / 2], heun ? "heun" : "euler");
        check_trajectory(name, model, s, heun ? 2 : 1, false);
        for (size_t k = 0; k < 5 * 3; k++) {
            s.method = heun ? SAMPLER_SDE_HEUN : SAMPLER_SDE_EULER;
            s.flow = (struct flow_solver){.form = k / 3, .last = k % 3};
            snprintf(name, sizeof name, "%s-sde-%s-%s-%s-%s", model, paths[i / 2], forms[k / 3],
                     heun ? "heun" : "euler", lasts[k % 3]);
            char path[4096]; // few of the combinations are in the reference
            snprintf(path, sizeof path, "%s/%s.safetensors", reference_dir(), name);
            if (access(path, R_OK) == 0)
                check_trajectory(name, model, s, heun ? 3 : 1, true);
        }
    }
}

// Each loss of a path: the model on x1 (data), x0 (noise) and t.
static void check_losses(enum flow_path path, const char *path_name)
{
    static const char *const predictions[] = {"velocity", "noise", "score"};
    static const char *const weights[] = {"none", "velocity", "likelihood"};
    char name[64];
    snprintf(name, sizeof name, "sit-a-loss-%s", path_name);
    if (!reference_has(name))
        return;
    struct dit_file file;
    open_model(&file, "sit-a", OBJECTIVE_FLOW);
    struct weights doc = reference_open(name);
    size_t B, n = latent_size(&file.config);
    int32_t *labels = read_labels(&doc, "y", &B);
    float *data = reference_floats(&doc, "x1", NULL), *noise = reference_floats(&doc, "x0", NULL);
    float *t = reference_floats(&doc, "t", NULL), mse[8], vb[8];
    double times[8];
    for (size_t b = 0; b < B; b++)
        times[b] = t[b];
    for (size_t i = 0; i < 9; i++) {
        snprintf(name, sizeof name, "loss.%s.%s", predictions[i / 3], weights[i % 3]);
        if (!weights_find(&doc, name))
            continue;
        struct trainer_settings settings = trainer_defaults;
        settings.batch = settings.micro_batch = B;
        settings.loss = (struct loss_settings){
            .objective = {OBJECTIVE_FLOW, path, FLOW_VELOCITY + i / 3, FLOW_TIME_DATA},
            .weight = i % 3};
        struct trainer *trainer = trainer_new(device, &file.config, &settings, NULL);
        if (!trainer || dit_file_load(&file, DIT_WEIGHTS_EMA, trainer_model(trainer)) < 0)
            bail_out();
        device_upload(device, trainer_inputs(trainer).x0, data, B * n * sizeof *data);
        device_upload(device, trainer_inputs(trainer).noise, noise, B * n * sizeof *noise);
        trainer_set_conditions(trainer, times, labels, B);
        trainer_accumulate(trainer, B, B, mse, vb);
        float *expected = reference_floats(&doc, name, NULL);
        size_t length = strlen(name);
        snprintf(name + length, sizeof name - length, " of path %s", path_name);
        double worst = 0;
        for (size_t b = 0; b < B; b++)
            worst = worse(worst, fabs((double)mse[b] - expected[b]) / fabs((double)expected[b]));
        expect(worst, bounds->loss, name);
        free(expected);
        trainer_free(trainer);
    }
    free(labels), free(data), free(noise), free(t);
    dit_file_close(&file);
    weights_close(&doc);
}

// The largest relative error of an array's tensors, or of the gradients, from PREFIX.NAME.
static double array_error(struct trainer *trainer, const struct weights *doc, const char *prefix,
                          int array)
{
    const struct layout *layout = dit_get_layout(trainer_model(trainer));
    double worst = 0;
    for (size_t i = 0; i < layout->n_params; i++) {
        const struct param *p = &layout->params[i];
        char name[128];
        size_t count;
        snprintf(name, sizeof name, "%s.%s", prefix, p->name);
        float *expected = reference_floats(doc, name, &count), *got = mem_new(count, sizeof *got);
        if (array < 0)
            device_download(device, got, dit_gradients(trainer_model(trainer)) + p->offset,
                            count * sizeof *got);
        else if (trainer_get(trainer, array, p, got) < 0)
            bail_out();
        worst = worse(worst, relative_error(got, expected, count));
        free(expected), free(got);
    }
    return worst;
}

static void check_training(void)
{
    if (!reference_has("sit-a-train"))
        return;
    struct dit_file file;
    open_model(&file, "sit-a", OBJECTIVE_FLOW);
    struct weights doc = reference_open("sit-a-train");
    struct trainer_settings settings = trainer_defaults;
    settings.loss.objective = file.objective;
    settings.batch = settings.micro_batch = 4;
    settings.lr = 1e-3;
    settings.ema_decay = 0.9;
    struct trainer *trainer = trainer_new(device, &file.config, &settings, NULL);
    if (!trainer)
        bail_out();
    const struct layout *layout = dit_get_layout(trainer_model(trainer));
    float *weights = mem_new(layout->size, sizeof *weights);
    if (!weights || dit_file_initial_weights(&file, &file.config, layout, false, weights) < 0)
        bail_out();
    trainer_set_weights(trainer, weights);
    double loss_error = 0;
    for (int step = 0; step < 4; step++) {
        static const char *const names[] = {"x1", "x0", "t", "loss"};
        char name[64];
        float *floats[4], mse[4], vb[4];
        double times[4];
        size_t n, B;
        for (int i = 0; i < 4; i++) {
            snprintf(name, sizeof name, "step%d.%s", step, names[i]);
            floats[i] = reference_floats(&doc, name, i == 0 ? &n : NULL);
        }
        snprintf(name, sizeof name, "step%d.y", step);
        int32_t *labels = read_labels(&doc, name, &B);
        snprintf(name, sizeof name, "step%d.drop", step);
        int64_t *drop = reference_ints(&doc, name, NULL);
        for (size_t b = 0; b < B; b++) {
            labels[b] = drop[b] ? (int32_t)file.config.classes : labels[b];
            times[b] = floats[2][b];
        }
        device_upload(device, trainer_inputs(trainer).x0, floats[0], n * sizeof(float));
        device_upload(device, trainer_inputs(trainer).noise, floats[1], n * sizeof(float));
        trainer_set_conditions(trainer, times, labels, B);
        trainer_accumulate(trainer, B, B, mse, vb);
        loss_error = worse(loss_error, relative_error(mse, floats[3], B));
        if (step == 0)
            expect(array_error(trainer, &doc, "grad0", -1), bounds->gradients,
                   "flow matching's gradient");
        trainer_update(trainer, settings.lr);
        for (int i = 0; i < 4; i++)
            free(floats[i]);
        free(labels), free(drop);
    }
    expect(loss_error, bounds->loss, "flow matching's loss over four steps");
    expect(array_error(trainer, &doc, "final", TRAINER_MODEL), bounds->weights,
           "flow matching's weights after four steps");
    expect(array_error(trainer, &doc, "ema", TRAINER_EMA), bounds->average,
           "the average of flow matching's weights after four steps");
    trainer_free(trainer);
    free(weights);
    dit_file_close(&file);
    weights_close(&doc);
}

int main(int argc, char **argv)
{
    static const char *const models[] = {"sit-a", "sit-b"};
    char why[256];
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
            check_forward(models[m], "", 1, bounds->forward);
            check_forward(models[m], "cfg_", 1.5, bounds->guided);
            check_flows(models[m]);
        }
        check_losses(FLOW_LINEAR, "linear");
        check_losses(FLOW_GVP, "gvp");
        check_losses(FLOW_VP, "vp");
        check_training();
        check_solvers();
        ok(!device_error(device), "%s: no error is set on the device", backend);
        device_close(device);
        if (argc > 1)
            break;
    }
    return tap_done();
}
