// dit-sample's table of options, and what they say of the sampler. SPDX-License-Identifier: MIT
#include "bin/dit-sample/sample-options.h"

#include <stdio.h>

#include "lib/tool/tool.h"

static struct sample_options values = {
    .weights = "run/latest.safetensors",
    .classes = "balanced",
    .which = "ema",
    .count = 16,
    .batch = 8,
    .objective = -1,
    .path = -1,
    .prediction = -1,
    .method = -1,
    .schedule = -1,
    .form = -1,
    .last_step = -1,
    .guided = -1,
    .cfg_scale = -1,
    .part = {0, 1},
};
enum { GUIDED_3, GUIDED_ALL }; // of --cfg-channels

static const struct option rows[] = {
    OPTION_STRING("weights", 'w', &values.weights, "FILE",
                  "weights of the model, or a run's folder (default run/latest.safetensors)"),
    OPTION_STRING(
        "which", 0, &values.which, "WHICH",
        "weights to draw from: ema, the averaged ones (default), model, those of the last "
        "step, ema:DECAY or power:WIDTH"),
    OPTION_INT("heads", 0, &values.heads, 1, 1024,
               "attention heads of the model, where the file does not give them"),
    OPTION_INT("image-size", 0, &values.image_size, 8, 32768,
               "side of the images in pixels, where the file does not give it"),
    OPTION_CHOICE(
        "objective", 0, &values.objective,
        "what the model was trained for, where the file does not give it (default diffusion)",
        "diffusion", "flow"),
    OPTION_CHOICE("path", 0, &values.path,
                  "path of flow matching, where the file does not give it (default linear)",
                  "linear", "gvp", "vp"),
    OPTION_CHOICE("prediction", 0, &values.prediction,
                  "what a model of flow matching predicts, where the file does not give it "
                  "(default velocity)",
                  "velocity", "noise", "score"),
    OPTION_INT("count", 'n', &values.count, 1, 1e12, "number of samples (default 16)"),
    OPTION_STRING("classes", 'c', &values.classes, "LIST",
                  "comma-separated names or numbers of classes, or random, or balanced (default)"),
    OPTION_PART("part", 0, &values.part, "draw only the I-th of N equal parts of the samples"),
    OPTION_FLOAT("cfg-scale", 's', &values.cfg_scale, 0, 1000,
                 "scale of guidance; 1 turns it off (default 4; 1 without a null class)"),
    OPTION_CHOICE(
        "cfg-channels", 0, &values.guided,
        "guided channels (default: the first 3 of 4, as published, or all of any other number)",
        "3", "all"),
    OPTION_STRING("cfg-interval", 0, &values.cfg_interval, "LOW,HIGH",
                  "guide only at these times, 0 for data and 1 for noise (default 0,1)"),
    OPTION_FLOAT("cfg-rescale", 0, &values.cfg_rescale, 0, 1,
                 "share of the guided spread to bring back to that without guidance (default 0)"),
    OPTION_STRING("guide-weights", 0, &values.guide_weights, "FILE",
                  "guide away from this weaker model, not from no class"),
    OPTION_CHOICE("sampler", 0, &values.method,
                  "sampling method (default ddpm; euler for a model of flow matching)", "ddpm",
                  "ddim", "dpm++", "dpm++2m", "sde-dpm++2m", "unipc", "euler", "heun", "sde-euler",
                  "sde-heun"),
    OPTION_STRING("steps", 0, &values.steps, "SPEC",
                  "sampling steps: N; of ddpm and ddim also ddimN or A,B,C (default 250; 20 of "
                  "dpm++ to unipc)"),
    OPTION_CHOICE("schedule", 0, &values.schedule,
                  "spread of the steps of dpm++ to unipc: even, or dense at data (default linear)",
                  "linear", "karras"),
    OPTION_FLOAT("eta", 0, &values.eta, 0, 1, "noise of the ddim sampler, 0 to 1 (default 0)"),
    OPTION_CHOICE("diffusion-form", 0, &values.form,
                  "noise of sde-euler and sde-heun over time (default sigma)", "sigma", "linear",
                  "constant", "sbdm", "decreasing", "increasing-decreasing"),
    OPTION_CHOICE("last-step", 0, &values.last_step,
                  "last step of sde-euler and sde-heun (default mean)", "mean", "euler", "tweedie"),
    OPTION_FLOAT("last-step-size", 0, &values.last_step_size, 0.001, 0.5,
                 "length of that step in time (default 0.04)"),
    OPTION_FLOAT("time-shift", 0, &values.time_shift, 0.01, 100,
                 "above 1, spend more steps of flow matching near the noise (default 1)"),
    OPTION_INT("batch", 'b', &values.batch, 1, 65536, "samples drawn at a time (default 8)"),
    OPTION_FLAG("latents", 0, &values.want_latents, "write latents instead of images"),
    OPTION_STRING("vae", 0, &values.vae, "FILE",
                  "autoencoder (default: the one that made the model's latents)"),
    TOOL_OPTION_SEED,
    TOOL_OPTION_OUTPUT,
    TOOL_OPTION_LEVEL,
    TOOL_OPTION_PG,
    TOOL_OPTION_THREADS,
    TOOL_OPTION_DEVICE,
    TOOL_OPTION_PRECISION,
    TOOL_OPTION_DETERMINISTIC,
    TOOL_OPTIONS_COMMON,
    OPTION_END};

static void parse_interval(const struct sample_options *o, struct sampler_settings *settings)
{
    double low, high;
    int end = 0;
    if (!o->cfg_interval)
        return;
    if (sscanf(o->cfg_interval, "%lf,%lf%n", &low, &high, &end) != 2 || o->cfg_interval[end] ||
        !(low >= 0 && low < high && high <= 1))
        tool_usage_error("--cfg-interval %s: expected LOW,HIGH with 0 <= LOW < HIGH <= 1",
                         o->cfg_interval);
    settings->cfg_low = low;
    settings->cfg_high = high;
}

// Options that the sampler would not look at are refused.
static void check_options(const struct sample_options *o)
{
    enum sampler_method given = (enum sampler_method)(o->method + 1);
    bool solver = given >= SAMPLER_DPMPP && given <= SAMPLER_UNIPC;
    bool sde = given == SAMPLER_SDE_EULER || given == SAMPLER_SDE_HEUN;
    if (o->schedule >= 0 && !solver)
        tool_usage_error("--schedule applies only to the samplers from dpm++ to unipc");
    if ((o->form >= 0 || o->last_step >= 0 || o->last_step_size > 0) && !sde)
        tool_usage_error("--diffusion-form, --last-step and --last-step-size apply only to the "
                         "samplers sde-euler and sde-heun");
    if (o->eta > 0 && given != SAMPLER_DDIM)
        tool_usage_error("--eta applies only to --sampler ddim");
}

const struct sample_options *sample_options_parse(int argc, char **argv)
{
    static const struct tool_info info = {"dit-sample", "[OPTION]... > IMAGES",
                                          "Draw images from a trained Diffusion Transformer.",
                                          rows};
    char **operands = tool_start(argc, argv, &info);
    if (operands[0])
        tool_usage_error("%s: unexpected operand; --weights names the model", operands[0]);
    check_options(&values);
    return &values;
}

struct dit_hints sample_options_hints(const struct sample_options *o)
{
    return (struct dit_hints){.heads = (size_t)o->heads,
                              .image_size = (size_t)o->image_size,
                              .objective = {(enum objective_kind)(o->objective + 1),
                                            (enum flow_path)(o->path + 1),
                                            (enum flow_prediction)(o->prediction + 1), 0}};
}

struct sampler_settings sample_options_settings(const struct sample_options *o,
                                                const struct dit_file *file,
                                                const struct dit_file *guide)
{
    struct sampler_settings settings = {
        .objective = file->objective,
        .method = (enum sampler_method)(o->method + 1),
        .steps = o->steps,
        .eta = o->eta,
        .karras = o->schedule > 0,
        .flow = {.form = (enum flow_form)(o->form < 0 ? 0 : o->form),
                 .last = (enum flow_last)(o->last_step < 0 ? 0 : o->last_step),
                 .last_size = o->last_step_size,
                 .time_shift = o->time_shift},
        .cfg_scale = o->cfg_scale,
        .cfg_channels = o->guided < 0 ? 0
                        : o->guided == GUIDED_ALL || file->config.channels < 3
                            ? file->config.channels
                            : 3,
        .cfg_rescale = o->cfg_rescale,
        .guide = guide ? &guide->config : NULL,
        .seed = tool.seed,
    };
    parse_interval(o, &settings);
    if (o->time_shift > 0 && file->objective.kind != OBJECTIVE_FLOW)
        tool_usage_error("--time-shift is of flow matching, but %s was trained by diffusion",
                         file->path);
    return settings;
}
