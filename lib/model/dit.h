// The Diffusion Transformer of Peebles and Xie, "Scalable Diffusion Models with Transformers"
// (ICCV 2023): forward and backward. SPDX-License-Identifier: MIT
//
// Sizes: B samples, C channels of a latent, S its side, P the patch's side, T = (S/P)^2 tokens,
// D the width, H heads, L blocks, K classes. Tensors carry the names of the published weights.
#ifndef DIT_DIT_H
#define DIT_DIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"
#include "lib/model/layout.h"

#define DIT_TIME_FEATURES 256
#define DIT_MLP_RATIO     4

struct dit_config {
    size_t input_size; // S
    size_t channels;   // C
    size_t patch;      // P
    size_t depth;      // L
    size_t hidden;     // D
    size_t heads;      // H
    size_t classes;    // K; class K is the null class
};

// Fills depth, hidden, heads and patch of a published name, "DiT-XL/2" or "XL/2". -1 with an error
// that lists the names.
int dit_config_named(struct dit_config *config, const char *name);
size_t dit_published_heads(size_t hidden); // of the published model of this width; 0 without one
// -1 with an error if the sizes don't fit each other or are out of bounds.
int dit_config_check(const struct dit_config *config);
// "DiT-S/2", or "width 192, depth 6, heads 3, patch 1".
void dit_config_text(const struct dit_config *config, char *text, size_t size);
size_t dit_tokens(const struct dit_config *config);
// Floating-point operations (a multiply-add is two) of one forward pass of one sample. A training
// step has three times as many.
double dit_forward_flops(const struct dit_config *config);

// Where each parameter is. All adaLN weights stand together, as do their biases, so that one
// product makes the modulations of all blocks. -1 with an error.
int dit_layout_init(struct layout *layout, const struct dit_config *config);

// DiT's initial weights (DESIGN section 4) into weights[layout->size].
void dit_init_weights(const struct layout *layout, uint64_t seed, float *weights);
// The fixed table of positions (T,D).
void dit_position_table(const struct dit_config *config, float *table);

// The training modes keep ever fewer activations for backward, and compute the others again there.
enum dit_mode {
    DIT_INFER,       // forward only
    DIT_TRAIN,       // all are kept
    DIT_TRAIN_LIGHT, // all but the modulated norms and the GELU: a third less for little work
    DIT_TRAIN_BLOCK, // the blocks' inputs alone
};

struct dit;
// A model for up to `batch` samples. Its weights are zero until dit_set_param. `held`, NULL for
// none, is for DIT_INFER on a backend of host_floats: for each parameter of the layout NULL, or
// where its values lie and stay, such as in a mapped file. NULL with an error.
struct dit *dit_new(struct device *device, const struct dit_config *config, size_t batch,
                    enum dit_mode mode, const float *const *held);
void dit_free(struct dit *dit); // NULL is fine
const struct dit_config *dit_get_config(const struct dit *dit);
const struct layout *dit_get_layout(const struct dit *dit);
// Bytes of device memory for weights, activations and gradients: of a model, and of one to be made
// (0 if the sizes don't fit each other).
size_t dit_memory(const struct dit *dit);
size_t dit_memory_needed(struct device *device, const struct dit_config *config, size_t batch,
                         enum dit_mode mode);

bool dit_holds(const struct dit *dit, const struct param *param); // it is one of `held`
// One parameter's values (param->count) from host memory; not of one that is held. -1 with an error
// if there is no memory on the way.
int dit_set_param(struct dit *dit, const struct param *param, const float *values);
// A table of positions (T,D), host memory, in place of dit_position_table's.
int dit_set_positions(struct dit *dit, const float *table);
// The weights as the products take them, and their gradients (NULL with DIT_INFER), in device
// memory, laid out as dit_get_layout says.
act *dit_weights(struct dit *dit);
float *dit_gradients(struct dit *dit);

// out (B,2C,S,S): the noise, then the variance. x (B,C,S,S), t (B), y (B) with 0 <= y <= K. All in
// device memory; B <= batch.
void dit_forward(struct dit *dit, float *out, const float *x, const float *t, const int32_t *y,
                 size_t B);
// Adds to the gradients those of sum(dout out), for the same B and y as the last dit_forward.
// `ready` (NULL: nobody) is told of each part of the layout, [begin, end), when its gradients are
// complete; the parts don't overlap and cover all.
void dit_backward(struct dit *dit, const float *dout, const int32_t *y, size_t B,
                  void (*ready)(void *user, size_t begin, size_t end), void *user);

#endif
