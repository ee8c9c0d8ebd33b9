// The forward and backward passes of the Diffusion Transformer, as lists of operations.
// SPDX-License-Identifier: MIT
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/ops.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/model/arena.h"
#include "lib/model/device-check.h"
#include "lib/model/dit.h"

// A linear layer's weights and their gradients.
struct linear {
    const act *w, *b;
    float *dw, *db;
};

struct dit_block {
    struct linear modulation, qkv, proj, fc1, fc2;
    // Activations. The blocks share those that the backward pass does not need or recomputes.
    act *x, *norm1;            // (B,T,D): the input, and its modulated norm
    float *mean1, *rstd1;      // (B,T)
    act *qkv_out;              // (B,T,3,H,D/H)
    float *lse;                // (B,H,T)
    act *attention, *proj_out; // (B,T,D)
    act *x_mid, *norm2;        // (B,T,D): the residual stream after attention, and its norm
    float *mean2, *rstd2;      // (B,T)
    act *fc1_out, *gelu;       // (B,T,4D): before and after GELU
    act *fc2_out;              // (B,T,D)
};

struct dit {
    struct device *device;
    struct dit_config config;
    struct layout layout;
    size_t batch;
    enum dit_mode mode;
    const float *const *mapped; // NULL, or for each parameter NULL or its values in place
    void *memory;               // holds all arrays below
    size_t memory_size;

    act *weights, *positions; // (layout.size without mapped parameters), (T,D)
    size_t *offsets;          // into weights, of each parameter that is not mapped
    float *gradients;         // (layout.size)
    struct linear x_embedder, t_mlp0, t_mlp2, final_linear;
    const act *class_table; // (K+1,D), or (K,D)
    float *dclass_table;
    struct dit_block *blocks; // L, and one for the input and the modulation of the final layer

    act *patches;                                 // (B,T,C*P*P)
    act *time_features, *time_hidden, *time_silu; // (B,256), (B,D), (B,D)
    act *c, *c_silu;                              // (B,D): the condition
    act *modulations;                             // (B, (6L+2)D)
    act *tokens;                                  // (B,T,P*P*2C)

    act *dx, *dnorm, *dbranch; // (B,T,D)
    act *dqkv, *dfc;           // (B,T,3D), (B,T,4D)
    float *scratch;            // (B,T,D), for attention's backward pass
    act *dmodulations;         // (B, (6L+2)D)
    act *dc, *dc_silu;         // (B,D)
    act *dtokens;              // (B,T,P*P*2C)
};

// The first rows of a block's two modulations; each is followed by its scale and its gate, as in
// the published weights.
enum { SHIFT1 = 0, SHIFT2 = 3 };

// Activations in one sample's modulations.
static size_t modulations_width(const struct dit_config *c)
{
    return dit_modulations(c) * c->hidden;
}

// Sets the offset of each parameter that is not mapped. Returns their size.
static size_t place_weights(struct dit *m)
{
    size_t size = 0;
    for (size_t i = 0; i < m->layout.n_params; i++) {
        const struct param *p = &m->layout.params[i];
        if (dit_is_mapped(m, p))
            continue;
        if (p->offset % LAYOUT_ALIGN == 0) // else it follows the previous one without padding
            size = (size + LAYOUT_ALIGN - 1) / LAYOUT_ALIGN * LAYOUT_ALIGN;
        m->offsets[i] = size;
        size += p->count;
    }
    return size;
}

static const act *weights_of(const struct dit *m, const struct param *p)
{
    size_t i = (size_t)(p - m->layout.params);
    return dit_is_mapped(m, p) ? (const act *)m->mapped[i]
                               : act_at(m->device, m->weights, m->offsets[i]);
}

static struct linear linear_at(const struct dit *m, const char *name)
{
    char text[sizeof m->layout.params->name];
    snprintf(text, sizeof text, "%s.weight", name);
    const struct param *w = layout_find(&m->layout, text);
    snprintf(text, sizeof text, "%s.bias", name);
    const struct param *b = layout_find(&m->layout, text);
    return (struct linear){weights_of(m, w), weights_of(m, b),
                           m->gradients ? m->gradients + w->offset : NULL,
                           m->gradients ? m->gradients + b->offset : NULL};
}

static struct linear block_linear_at(const struct dit *m, size_t block, const char *name)
{
    char text[sizeof m->layout.params->name];
    snprintf(text, sizeof text, "blocks.%zu.%s", block, name);
    return linear_at(m, text);
}

static void place_block(struct dit *m, size_t l, struct arena *arena)
{
    const struct dit_config *c = &m->config;
    size_t D = c->hidden, R = m->batch * dit_tokens(c), H = c->heads;
    struct dit_block *b = &m->blocks[l], *first = &m->blocks[0];
    bool train = m->mode != DIT_INFER, all = m->mode == DIT_TRAIN;
    b->x = l == 0 || train ? arena_take_act(arena, R * D) : first->x;
    b->norm1 = l == 0 || all ? arena_take_act(arena, R * D) : first->norm1;
    b->mean1 = train ? arena_take_float(arena, R) : NULL;
    b->rstd1 = train ? arena_take_float(arena, R) : NULL;
    b->modulation = l < c->depth ? block_linear_at(m, l, "adaLN_modulation.1")
                                 : linear_at(m, "final_layer.adaLN_modulation.1");
    if (l == c->depth)
        return;
    if (l == 0 || all || m->mode == DIT_TRAIN_LIGHT) {
        b->qkv_out = arena_take_act(arena, R * 3 * D);
        b->lse = train ? arena_take_float(arena, R * H) : NULL;
        b->attention = arena_take_act(arena, R * D);
        b->proj_out = arena_take_act(arena, R * D);
        b->x_mid = train ? arena_take_act(arena, R * D) : b->x;
        b->norm2 = all || m->mode == DIT_TRAIN_BLOCK ? arena_take_act(arena, R * D) : b->norm1;
        b->mean2 = train ? arena_take_float(arena, R) : NULL;
        b->rstd2 = train ? arena_take_float(arena, R) : NULL;
        b->fc1_out = train ? arena_take_act(arena, R * DIT_MLP_RATIO * D) : NULL;
        b->gelu = l == 0 || all ? arena_take_act(arena, R * DIT_MLP_RATIO * D) : first->gelu;
        b->fc2_out = train ? arena_take_act(arena, R * D) : b->proj_out;
    } else {
        b->qkv_out = first->qkv_out, b->lse = first->lse;
        b->attention = first->attention, b->proj_out = first->proj_out;
        b->x_mid = first->x_mid, b->norm2 = first->norm2;
        b->mean2 = first->mean2, b->rstd2 = first->rstd2;
        b->fc1_out = first->fc1_out, b->gelu = first->gelu, b->fc2_out = first->fc2_out;
    }
    b->qkv = block_linear_at(m, l, "attn.qkv");
    b->proj = block_linear_at(m, l, "attn.proj");
    b->fc1 = block_linear_at(m, l, "mlp.fc1");
    b->fc2 = block_linear_at(m, l, "mlp.fc2");
}

// Whether the gradients of weights are computed beside the rest of the backward pass. What they
// read must stay until then, which recomputing overwrites.
static bool is_beside(const struct dit *m)
{
    return m->mode == DIT_TRAIN && m->device->backend->side_begin;
}

static void place(struct dit *m, uintptr_t base)
{
    const struct dit_config *c = &m->config;
    size_t B = m->batch, T = dit_tokens(c), D = c->hidden, L = c->depth;
    size_t modulation = modulations_width(c), patch = c->patch * c->patch * c->channels;
    struct arena arena = {base, m->device->backend->act_size};
    m->weights = arena_take_act(&arena, place_weights(m));
    m->positions = arena_take_act(&arena, T * D);
    if (m->mode != DIT_INFER)
        m->gradients = arena_take_float(&arena, m->layout.size);

    m->x_embedder = linear_at(m, "x_embedder.proj");
    m->t_mlp0 = linear_at(m, "t_embedder.mlp.0");
    m->t_mlp2 = linear_at(m, "t_embedder.mlp.2");
    m->final_linear = linear_at(m, "final_layer.linear");
    const struct param *table = layout_find(&m->layout, "y_embedder.embedding_table.weight");
    m->class_table = weights_of(m, table);
    m->dclass_table = m->gradients ? m->gradients + table->offset : NULL;

    m->patches = arena_take_act(&arena, B * T * patch);
    m->time_features = arena_take_act(&arena, B * DIT_TIME_FEATURES);
    m->time_hidden = arena_take_act(&arena, B * D);
    m->time_silu = arena_take_act(&arena, B * D);
    m->c = arena_take_act(&arena, B * D);
    m->c_silu = arena_take_act(&arena, B * D);
    m->modulations = arena_take_act(&arena, B * modulation);
    m->tokens = arena_take_act(&arena, B * T * c->patch * c->patch * dit_out_channels(c));
    for (size_t l = 0; l <= L; l++)
        place_block(m, l, &arena);
    if (m->mode != DIT_INFER) {
        m->dx = arena_take_act(&arena, B * T * D);
        m->dnorm = arena_take_act(&arena, B * T * D);
        m->dbranch = arena_take_act(&arena, B * T * D);
        m->dqkv = arena_take_act(&arena, B * T * 3 * D);
        m->dfc = arena_take_act(&arena, B * T * DIT_MLP_RATIO * D);
        m->dmodulations = arena_take_act(&arena, B * modulation);
        m->dc = arena_take_act(&arena, B * D);
        m->dc_silu = arena_take_act(&arena, B * D);
        // Beside attention the gradients of fc1's weights may still read dfc.
        m->scratch = is_beside(m) ? arena_take_float(&arena, B * T * D) : (float *)m->dfc;
        m->dtokens = m->tokens; // which the backward pass does not read
    }
    m->memory_size = arena.next - base;
}

// Sets up a model without its memory, to find how much it needs.
static int plan_model(struct dit *m, struct device *device, const struct dit_config *config,
                      size_t batch, enum dit_mode mode, const float *const *mapped)
{
    *m = (struct dit){
        .device = device, .config = *config, .batch = batch, .mode = mode, .mapped = mapped};
    if (dit_layout_init(&m->layout, config) < 0 ||
        !(m->offsets = mem_new(m->layout.n_params, sizeof *m->offsets)) ||
        !(m->blocks = mem_new(config->depth + 1, sizeof *m->blocks)))
        return -1;
    place(m, 0);
    return 0;
}

static void unplan_model(struct dit *m)
{
    layout_free(&m->layout);
    free(m->offsets);
    free(m->blocks);
}

size_t dit_memory_needed(struct device *device, const struct dit_config *config, size_t batch,
                         enum dit_mode mode)
{
    struct dit m;
    size_t size = plan_model(&m, device, config, batch, mode, NULL) < 0 ? 0 : m.memory_size;
    unplan_model(&m);
    return size;
}

// Copies float32 values from the host into activations, which may have fewer bits: the device
// converts them.
static int upload(struct dit *m, act *to, const float *values, size_t n, const char *what)
{
    float *uploaded = device_alloc(m->device, n * sizeof *uploaded);
    if (!uploaded)
        return device_lacks(m->device, n * sizeof *uploaded, NULL, "uploading %s", what);
    device_upload(m->device, uploaded, values, n * sizeof *values);
    op_to_act(m->device, to, uploaded, n);
    device_release(m->device, uploaded);
    return 0;
}

int dit_set_positions(struct dit *m, const float *table)
{
    size_t n = dit_tokens(&m->config) * m->config.hidden;
    return upload(m, m->positions, table, n, "the table of positions");
}

static int compute_positions(struct dit *m)
{
    float *table = mem_new(dit_tokens(&m->config) * m->config.hidden, sizeof *table);
    if (table)
        dit_position_table(&m->config, table);
    int rc = table ? dit_set_positions(m, table) : -1;
    free(table);
    return rc;
}

struct dit *dit_new(struct device *device, const struct dit_config *config, size_t batch,
                    enum dit_mode mode, const float *const *mapped)
{
    assert(!mapped || (mode == DIT_INFER && device_uses_host_floats(device)));
    struct dit *m = mem_new(1, sizeof *m);
    if (!m)
        return NULL;
    if (plan_model(m, device, config, batch, mode, mapped) < 0)
        goto failed;
    if (!(m->memory = device_alloc(device, m->memory_size))) {
        device_lacks(device, m->memory_size, "a smaller batch needs less",
                     "the model with activations of %zu samples", batch);
        goto failed;
    }
    place(m, (uintptr_t)m->memory);
    if (compute_positions(m) < 0)
        goto failed;
    return m;
failed:
    dit_free(m);
    return NULL;
}

void dit_free(struct dit *m)
{
    if (!m)
        return;
    if (m->memory)
        device_release(m->device, m->memory);
    unplan_model(m);
    free(m);
}

const struct dit_config *dit_get_config(const struct dit *m)
{
    return &m->config;
}

const struct layout *dit_get_layout(const struct dit *m)
{
    return &m->layout;
}

size_t dit_memory(const struct dit *m)
{
    return m->memory_size;
}

bool dit_is_mapped(const struct dit *m, const struct param *param)
{
    return m->mapped && m->mapped[param - m->layout.params];
}

int dit_set_param(struct dit *m, const struct param *param, const float *values)
{
    assert(!dit_is_mapped(m, param));
    act *to = act_at(m->device, m->weights, m->offsets[param - m->layout.params]);
    return upload(m, to, values, param->count, param->name);
}

act *dit_weights(struct dit *m)
{
    return m->weights;
}

float *dit_gradients(struct dit *m)
{
    return m->gradients;
}

// The modulation of a norm of block l (of the final layer if l is the depth), in `modulations` or
// their gradients. `shift` is the row of the norm's shift; its scale is the next row. The row
// before gates the residual branch that is added before the norm; no branch precedes the first
// norm.
static struct modulation modulation_at(const struct dit *m, act *modulations, size_t l,
                                       size_t shift)
{
    size_t D = m->config.hidden, row = l * DIT_BLOCK_MODULATIONS + shift;
    return (struct modulation){.shift = act_at(m->device, modulations, row * D),
                               .scale = act_at(m->device, modulations, (row + 1) * D),
                               .gate = row ? act_at(m->device, modulations, (row - 1) * D) : NULL,
                               .stride = modulations_width(&m->config)};
}

// Makes the modulations of all blocks, by one product for each run of contiguous weights: mapped
// weights may be scattered.
static void forward_modulations(struct dit *m, size_t B)
{
    struct device *d = m->device;
    size_t D = m->config.hidden, L = m->config.depth;
    for (size_t l = 0, end; l <= L; l = end) {
        const struct linear *first = &m->blocks[l].modulation;
        size_t rows = 0;
        for (end = l; end <= L; end++) {
            const struct linear *next = &m->blocks[end].modulation;
            if (next->w != act_at(d, first->w, rows * D) || next->b != act_at(d, first->b, rows))
                break;
            rows += (end < L ? DIT_BLOCK_MODULATIONS : DIT_FINAL_MODULATIONS) * D;
        }
        op_linear(d, act_at(d, m->modulations, l * DIT_BLOCK_MODULATIONS * D),
                  modulations_width(&m->config), m->c_silu, first->w, first->b, B, D, rows);
    }
}

// c = time embedding + class embedding, and from it the modulations.
static void forward_condition(struct dit *m, const float *t, const int32_t *y, size_t B)
{
    struct device *d = m->device;
    size_t D = m->config.hidden;
    op_timestep_features(d, m->time_features, t, B, DIT_TIME_FEATURES);
    op_linear(d, m->time_hidden, D, m->time_features, m->t_mlp0.w, m->t_mlp0.b, B,
              DIT_TIME_FEATURES, D);
    op_silu(d, m->time_silu, m->time_hidden, B * D);
    op_linear(d, m->c, D, m->time_silu, m->t_mlp2.w, m->t_mlp2.b, B, D, D);
    op_embedding_add(d, m->c, m->c, m->class_table, y, B, D);
    op_silu(d, m->c_silu, m->c, B * D);
    forward_modulations(m, B);
}

// Computes b->fc2_out from b->norm1: all of a block but its last residual connection.
static void forward_block(struct dit *m, size_t l, size_t B)
{
    struct device *d = m->device;
    struct dit_block *b = &m->blocks[l];
    size_t T = dit_tokens(&m->config), D = m->config.hidden, H = m->config.heads, R = B * T;
    op_linear(d, b->qkv_out, 3 * D, b->norm1, b->qkv.w, b->qkv.b, R, D, 3 * D);
    op_attention(d, b->attention, b->lse, b->qkv_out, B, T, H, D / H);
    op_linear(d, b->proj_out, D, b->attention, b->proj.w, b->proj.b, R, D, D);
    op_gate_residual_norm_modulate(d, b->x_mid, b->norm2, b->mean2, b->rstd2, b->x, b->proj_out,
                                   modulation_at(m, m->modulations, l, SHIFT2), B, T, D);
    op_linear_gelu(d, b->gelu, b->fc1_out, b->norm2, b->fc1.w, b->fc1.b, R, D, DIT_MLP_RATIO * D);
    op_linear(d, b->fc2_out, D, b->gelu, b->fc2.w, b->fc2.b, R, DIT_MLP_RATIO * D, D);
}

void dit_forward(struct dit *m, float *out, const float *x, const float *t, const int32_t *y,
                 size_t B)
{
    struct device *d = m->device;
    const struct dit_config *c = &m->config;
    size_t S = c->input_size, C = c->channels, P = c->patch, T = dit_tokens(c), D = c->hidden;
    size_t L = c->depth, O = dit_out_channels(c);
    struct dit_block *first = &m->blocks[0], *last = &m->blocks[L];

    forward_condition(m, t, y, B);
    op_patchify(d, m->patches, x, B, C, S, S, P);
    op_linear(d, first->x, D, m->patches, m->x_embedder.w, m->x_embedder.b, B * T, C * P * P, D);
    op_add_row(d, first->x, m->positions, B, T * D);
    op_norm_modulate(d, first->norm1, first->mean1, first->rstd1, first->x,
                     modulation_at(m, m->modulations, 0, SHIFT1), B, T, D);
    for (size_t l = 0; l < L; l++) {
        struct dit_block *b = &m->blocks[l], *next = b + 1;
        forward_block(m, l, B);
        op_gate_residual_norm_modulate(d, next->x, next->norm1, next->mean1, next->rstd1, b->x_mid,
                                       b->fc2_out, modulation_at(m, m->modulations, l + 1, SHIFT1),
                                       B, T, D);
    }
    op_linear(d, m->tokens, O * P * P, last->norm1, m->final_linear.w, m->final_linear.b, B * T, D,
              O * P * P);
    op_unpatchify(d, out, m->tokens, B, O, S, S, P);
}

// Recomputes a modulated norm of x (B,T,D); l and shift as for modulation_at.
static void recompute_norm(struct dit *m, act *norm, const act *x, size_t l, size_t shift, size_t B)
{
    op_norm_modulate(m->device, norm, NULL, NULL, x, modulation_at(m, m->modulations, l, shift), B,
                     dit_tokens(&m->config), m->config.hidden);
}

// The gradients of a layer of a block from those of its output, dy (R,O), and its input x (R,I).
// Neither may be overwritten before device_side_wait.
static void backward_weight(struct dit *m, const struct linear *layer, const act *dy, const act *x,
                            size_t R, size_t I, size_t O)
{
    struct device *d = m->device;
    if (is_beside(m))
        d->backend->side_begin(d);
    op_linear_backward_weight(d, layer->dw, layer->db, dy, x, R, I, O);
    if (is_beside(m))
        d->backend->side_end(d);
}

// Takes the gradients m->dbranch of b->fc2_out and m->dx of the residual stream after the block.
// Leaves those of the block's input: m->dnorm of b->norm1, m->dx of the residual stream b->x.
static void backward_block(struct dit *m, size_t l, size_t B)
{
    struct device *d = m->device;
    struct dit_block *b = &m->blocks[l];
    size_t T = dit_tokens(&m->config), D = m->config.hidden, H = m->config.heads, R = B * T;
    size_t D4 = DIT_MLP_RATIO * D;

    if (m->mode == DIT_TRAIN_LIGHT)
        op_gelu(d, b->gelu, b->fc1_out, R * D4);
    backward_weight(m, &b->fc2, m->dbranch, b->gelu, R, D4, D);
    op_linear_backward_input_gelu(d, m->dfc, m->dbranch, b->fc2.w, b->fc1_out, R, D4, D);
    if (m->mode == DIT_TRAIN_LIGHT)
        recompute_norm(m, b->norm2, b->x_mid, l, SHIFT2, B);
    op_linear_backward_input(d, m->dnorm, m->dfc, b->fc1.w, R, D, D4);
    device_side_wait(d); // for dbranch, and dqkv of the next block
    backward_weight(m, &b->fc1, m->dfc, b->norm2, R, D, D4);
    op_gate_residual_norm_modulate_backward(d, m->dx, m->dbranch,
                                            modulation_at(m, m->dmodulations, l, SHIFT2), m->dnorm,
                                            m->dx, b->x_mid, b->mean2, b->rstd2, b->proj_out,
                                            modulation_at(m, m->modulations, l, SHIFT2), B, T, D);
    backward_weight(m, &b->proj, m->dbranch, b->attention, R, D, D);
    op_linear_backward_input(d, m->dnorm, m->dbranch, b->proj.w, R, D, D);
    op_attention_backward(d, m->dqkv, m->scratch, m->dnorm, b->qkv_out, b->attention, b->lse, B, T,
                          H, D / H);
    if (m->mode == DIT_TRAIN_LIGHT)
        recompute_norm(m, b->norm1, b->x, l, SHIFT1, B);
    op_linear_backward_input(d, m->dnorm, m->dqkv, b->qkv.w, R, D, 3 * D);
    device_side_wait(d); // for dbranch and dfc
    backward_weight(m, &b->qkv, m->dqkv, b->norm1, R, D, 3 * D);
}

static void backward_condition(struct dit *m, const int32_t *y, size_t B)
{
    struct device *d = m->device;
    size_t D = m->config.hidden, modulation = modulations_width(&m->config);
    const struct linear *all = &m->blocks[0].modulation; // those of the other blocks follow
    op_linear_backward_weight(d, all->dw, all->db, m->dmodulations, m->c_silu, B, D, modulation);
    op_linear_backward_input(d, m->dc_silu, m->dmodulations, all->w, B, D, modulation);
    op_silu_backward(d, m->dc, m->dc_silu, m->c, B * D);
    op_embedding_backward(d, m->dclass_table, m->dc, y, B, D);
    op_linear_backward_weight(d, m->t_mlp2.dw, m->t_mlp2.db, m->dc, m->time_silu, B, D, D);
    op_linear_backward_input(d, m->dc_silu, m->dc, m->t_mlp2.w, B, D, D);
    op_silu_backward(d, m->dc, m->dc_silu, m->time_hidden, B * D);
    op_linear_backward_weight(d, m->t_mlp0.dw, m->t_mlp0.db, m->dc, m->time_features, B,
                              DIT_TIME_FEATURES, D);
}

// The offset of block l in the layout. The modulations of all blocks follow the last block.
static size_t block_begin(const struct dit *m, size_t l)
{
    const float *first = l < m->config.depth ? m->blocks[l].qkv.dw : m->blocks[0].modulation.dw;
    return (size_t)(first - m->gradients);
}

void dit_backward(struct dit *m, const float *dout, const int32_t *y, size_t B,
                  void (*ready)(void *user, size_t begin, size_t end), void *user)
{
    struct device *d = m->device;
    const struct dit_config *c = &m->config;
    size_t S = c->input_size, C = c->channels, P = c->patch, T = dit_tokens(c), D = c->hidden;
    size_t L = c->depth, O = dit_out_channels(c);
    struct dit_block *first = &m->blocks[0], *last = &m->blocks[L];

    op_unpatchify_backward(d, m->dtokens, dout, B, O, S, S, P);
    op_linear_backward_weight(d, m->final_linear.dw, m->final_linear.db, m->dtokens, last->norm1,
                              B * T, D, O * P * P);
    size_t final = (size_t)(m->final_linear.dw - m->gradients);
    if (ready)
        ready(user, final, m->layout.size);
    op_linear_backward_input(d, m->dnorm, m->dtokens, m->final_linear.w, B * T, D, O * P * P);
    for (size_t l = L; l-- > 0;) {
        struct dit_block *b = &m->blocks[l], *next = b + 1;
        if (m->mode == DIT_TRAIN_BLOCK) {
            recompute_norm(m, b->norm1, b->x, l, SHIFT1, B);
            forward_block(m, l, B);
        }
        op_gate_residual_norm_modulate_backward(
            d, m->dx, m->dbranch, modulation_at(m, m->dmodulations, l + 1, SHIFT1), m->dnorm,
            next == last ? NULL : m->dx, next->x, next->mean1, next->rstd1, b->fc2_out,
            modulation_at(m, m->modulations, l + 1, SHIFT1), B, T, D);
        backward_block(m, l, B);
        if (ready)
            ready(user, block_begin(m, l), block_begin(m, l + 1));
    }
    op_norm_modulate_backward(d, m->dx, modulation_at(m, m->dmodulations, 0, SHIFT1), m->dnorm,
                              m->dx, first->x, first->mean1, first->rstd1,
                              modulation_at(m, m->modulations, 0, SHIFT1), B, T, D);
    op_linear_backward_weight(d, m->x_embedder.dw, m->x_embedder.db, m->dx, m->patches, B * T,
                              C * P * P, D);
    backward_condition(m, y, B);
    device_side_wait(d);
    if (ready) {
        ready(user, block_begin(m, L), final);
        ready(user, 0, block_begin(m, 0));
    }
}
