// The sizes, parameters and initial weights of a DiT. SPDX-License-Identifier: MIT
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "lib/model/dit.h"

static const struct {
    const char *name;
    size_t depth, hidden, heads;
} published[] = {{"S", 12, 384, 6}, {"B", 12, 768, 12}, {"L", 24, 1024, 16}, {"XL", 28, 1152, 16}};
#define N_PUBLISHED (sizeof published / sizeof *published)

int dit_config_named(struct dit_config *config, const char *name)
{
    const char *size = strncmp(name, "DiT-", 4) == 0 ? name + 4 : name;
    const char *slash = strchr(size, '/');
    for (size_t i = 0; slash && i < N_PUBLISHED; i++) {
        size_t length = strlen(published[i].name);
        if (length != (size_t)(slash - size) || strncmp(size, published[i].name, length) != 0)
            continue;
        if (strcmp(slash, "/2") != 0 && strcmp(slash, "/4") != 0 && strcmp(slash, "/8") != 0)
            break;
        config->depth = published[i].depth;
        config->hidden = published[i].hidden;
        config->heads = published[i].heads;
        config->patch = (size_t)(slash[1] - '0');
        return 0;
    }
    return error_set(STATUS_USAGE,
                     "no model is called \"%s\"; there are DiT-S, DiT-B, DiT-L and DiT-XL, "
                     "each with /2, /4 or /8",
                     name);
}

size_t dit_published_heads(size_t hidden)
{
    for (size_t i = 0; i < N_PUBLISHED; i++)
        if (published[i].hidden == hidden)
            return published[i].heads;
    return 0;
}

int dit_config_check(const struct dit_config *c)
{
    if (c->input_size < 1 || c->input_size > 4096 || c->channels < 1 || c->channels > 1024 ||
        c->patch < 1 || c->depth < 1 || c->depth > 1024 || c->hidden < 4 || c->hidden > 65536 ||
        c->heads < 1 || c->classes > 1 << 24)
        return error_set(STATUS_USAGE,
                         "a model of depth %zu, width %zu, %zu heads, patch %zu, %zu classes for "
                         "latents %zux%zux%zu is out of bounds",
                         c->depth, c->hidden, c->heads, c->patch, c->classes, c->channels,
                         c->input_size, c->input_size);
    if (dit_class_rows(c) == 0)
        return error_set(STATUS_USAGE, "the model has neither classes nor a null class");
    if (c->input_size % c->patch != 0)
        return error_set(STATUS_USAGE, "the latents' side %zu is not a multiple of the patch %zu",
                         c->input_size, c->patch);
    if (c->hidden % c->heads != 0)
        return error_set(STATUS_USAGE, "the width %zu is not a multiple of the %zu heads",
                         c->hidden, c->heads);
    if (c->hidden % 4 != 0)
        return error_set(STATUS_USAGE,
                         "the width %zu is not a multiple of 4, as the position table needs it",
                         c->hidden);
    return 0;
}

int dit_config_compare(const struct dit_config *a, const char *a_name, const struct dit_config *b,
                       const char *b_name)
{
    const struct {
        const char *name;
        size_t a, b;
    } sizes[] = {{"depth", a->depth, b->depth},
                 {"width", a->hidden, b->hidden},
                 {"number of heads", a->heads, b->heads},
                 {"side of a patch", a->patch, b->patch},
                 {"number of classes", a->classes, b->classes},
                 {"number of null classes", !a->no_null_class, !b->no_null_class},
                 {"number of the latents' channels", a->channels, b->channels},
                 {"side of the latents", a->input_size, b->input_size}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].a != sizes[i].b)
            return error_set(STATUS_DATA, "the %s is %zu in %s, but %zu in %s", sizes[i].name,
                             sizes[i].a, a_name, sizes[i].b, b_name);
    if (a->learn_sigma != b->learn_sigma)
        return error_set(STATUS_DATA, "the output has the variance in %s, but not in %s",
                         a->learn_sigma ? a_name : b_name, a->learn_sigma ? b_name : a_name);
    return 0;
}

void dit_config_text(const struct dit_config *config, char *text, size_t size)
{
    for (size_t i = 0; i < N_PUBLISHED; i++)
        if (config->depth == published[i].depth && config->hidden == published[i].hidden &&
            config->heads == published[i].heads &&
            (config->patch == 2 || config->patch == 4 || config->patch == 8)) {
            snprintf(text, size, "DiT-%s/%zu", published[i].name, config->patch);
            return;
        }
    snprintf(text, size, "DiT of depth %zu, width %zu, %zu heads, patch %zu", config->depth,
             config->hidden, config->heads, config->patch);
}

size_t dit_tokens(const struct dit_config *config)
{
    return (config->input_size / config->patch) * (config->input_size / config->patch);
}

size_t dit_class_rows(const struct dit_config *config)
{
    return config->classes + !config->no_null_class;
}

size_t dit_out_channels(const struct dit_config *config)
{
    return config->learn_sigma ? 2 * config->channels : config->channels;
}

int dit_check_label(const struct dit_config *config, int64_t label)
{
    if (label >= (int64_t)config->classes)
        return error_set(STATUS_DATA, "label %lld, but the model has %zu classes", (long long)label,
                         config->classes);
    if (label < 0 && config->no_null_class)
        return error_set(STATUS_DATA, "a latent without a label, but the model has no null class, "
                                      "as it is trained with a --class-dropout of 0");
    return 0;
}

size_t dit_modulations(const struct dit_config *config)
{
    return config->depth * DIT_BLOCK_MODULATIONS + DIT_FINAL_MODULATIONS;
}

double dit_forward_flops(const struct dit_config *c)
{
    double T = (double)dit_tokens(c), D = (double)c->hidden, L = (double)c->depth;
    double patch = (double)(c->patch * c->patch);
    double per_token = patch * (double)(c->channels + dit_out_channels(c)) * D +
                       L * (4 + 2 * DIT_MLP_RATIO) * D * D;
    double attention = 2 * L * T * T * D;
    double per_sample = (double)dit_modulations(c) * D * D + DIT_TIME_FEATURES * D + D * D;
    return 2 * (T * per_token + attention + per_sample);
}

static void add_block_linear(struct layout *layout, size_t block, const char *name, size_t O,
                             size_t I)
{
    char text[sizeof layout->params->name];
    snprintf(text, sizeof text, "blocks.%zu.%s", block, name);
    layout_add_linear(layout, text, O, I);
}

// Adds all adaLN weights as one matrix, or all their biases as one row: without padding between.
static void add_modulations(struct layout *layout, const struct dit_config *c, bool bias)
{
    char text[sizeof layout->params->name];
    for (size_t l = 0; l <= c->depth; l++) {
        const char *kind = bias ? "bias" : "weight";
        if (l < c->depth)
            snprintf(text, sizeof text, "blocks.%zu.adaLN_modulation.1.%s", l, kind);
        else
            snprintf(text, sizeof text, "final_layer.adaLN_modulation.1.%s", kind);
        size_t vectors = l < c->depth ? DIT_BLOCK_MODULATIONS : DIT_FINAL_MODULATIONS;
        size_t shape[] = {vectors * c->hidden, c->hidden};
        layout_add(layout, l == 0, text, bias ? 1 : 2, shape);
    }
}

int dit_layout_init(struct layout *layout, const struct dit_config *c)
{
    *layout = (struct layout){0};
    if (dit_config_check(c) < 0)
        return -1;
    size_t D = c->hidden;
    layout_add(layout, true, "x_embedder.proj.weight", 4,
               (const size_t[]){D, c->channels, c->patch, c->patch});
    layout_add(layout, true, "x_embedder.proj.bias", 1, &D);
    layout_add_linear(layout, "t_embedder.mlp.0", D, DIT_TIME_FEATURES);
    layout_add_linear(layout, "t_embedder.mlp.2", D, D);
    layout_add(layout, true, "y_embedder.embedding_table.weight", 2,
               (const size_t[]){dit_class_rows(c), D});
    for (size_t l = 0; l < c->depth; l++) {
        add_block_linear(layout, l, "attn.qkv", 3 * D, D);
        add_block_linear(layout, l, "attn.proj", D, D);
        add_block_linear(layout, l, "mlp.fc1", DIT_MLP_RATIO * D, D);
        add_block_linear(layout, l, "mlp.fc2", D, DIT_MLP_RATIO * D);
    }
    add_modulations(layout, c, false);
    add_modulations(layout, c, true);
    layout_add_linear(layout, "final_layer.linear", dit_out_channels(c) * c->patch * c->patch, D);
    return layout_finish(layout);
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

void dit_init_weights(const struct layout *layout, uint64_t seed, float *weights)
{
    memset(weights, 0, layout->size * sizeof *weights);
    for (size_t i = 0; i < layout->n_params; i++) {
        const struct param *p = &layout->params[i];
        struct rng rng = {.seed = seed, .purpose = RNG_INIT, .sample = i};
        float *w = weights + p->offset;
        if (p->rank == 1 || strstr(p->name, "adaLN_modulation") ||
            starts_with(p->name, "final_layer"))
            continue;
        if (starts_with(p->name, "t_embedder") || starts_with(p->name, "y_embedder")) {
            for (size_t e = 0; e < p->count; e++)
                w[e] = (float)(0.02 * rng_normal(&rng, e));
            continue;
        }
        double fan_out = (double)p->shape[0], fan_in = (double)(p->count / p->shape[0]);
        double bound = sqrt(6 / (fan_in + fan_out)); // Xavier (Glorot and Bengio, AISTATS 2010)
        for (size_t e = 0; e < p->count; e++)
            w[e] = (float)(bound * (2 * rng_uniform(&rng, e) - 1));
    }
}

void dit_position_table(const struct dit_config *config, float *table)
{
    size_t side = config->input_size / config->patch, D = config->hidden, quarter = D / 4;
    for (size_t row = 0; row < side; row++)
        for (size_t column = 0; column < side; column++) {
            float *e = table + (row * side + column) * D;
            for (size_t i = 0; i < quarter; i++) {
                double omega = pow(10000, -(double)i / (double)quarter);
                e[i] = (float)sin((double)column * omega);
                e[quarter + i] = (float)cos((double)column * omega);
                e[2 * quarter + i] = (float)sin((double)row * omega);
                e[3 * quarter + i] = (float)cos((double)row * omega);
            }
        }
}
