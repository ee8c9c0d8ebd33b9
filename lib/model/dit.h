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
// Vectors of D that modulate a block: shift, scale and gate, of attention and of the MLP. The final
// layer has a shift and a scale.
#define DIT_BLOCK_MODULATIONS 6
#define DIT_FINAL_MODULATIONS 2

struct dit_config {
    size_t input_size; // S
    size_t channels;   // C
    size_t patch;      // P
    size_t depth;      // L
    size_t hidden;     // D
    size_t heads;      // H
    size_t classes;    // K, 0 without labels; class K is the null class
    // The class table has no row for the null class: the model was trained on labels alone, so that
    // it can't be guided.
    bool no_null_class;
    bool learn_sigma; // the output has the variance's channels after the C predicted ones
};

// Sets depth, hidden, heads and patch from a published name such as "DiT-XL/2" or "XL/2". -1 with
// an error that lists the names.
int dit_config_named(struct dit_config *config, const char *name);
// The number of heads of the published model of this width; 0 if there is none.
size_t dit_published_heads(size_t hidden);
// -1 with an error if a size is out of bounds or the sizes are inconsistent.
int dit_config_check(const struct dit_config *config);
// -1 with an error (65) that names the first size in which two models differ, and both values:
// "the depth is 6 in RUN, but 4 in OPTIONS", where the last two are the models' names.
int dit_config_compare(const struct dit_config *a, const char *a_name, const struct dit_config *b,
                       const char *b_name);
// Writes "DiT-S/2", or for other sizes "DiT of depth 6, width 192, 3 heads, patch 1".
void dit_config_text(const struct dit_config *config, char *text, size_t size);
size_t dit_tokens(const struct dit_config *config);       // T
size_t dit_out_channels(const struct dit_config *config); // C, or 2C with the variance
// Rows of the class table: one for each class, and one for the null class.
size_t dit_class_rows(const struct dit_config *config);
// -1 with an error (65) if the model lacks the class of a label; below 0 is the null class.
int dit_check_label(const struct dit_config *config, int64_t label);
// Rows of D in one sample's modulations: DIT_BLOCK_MODULATIONS of each block, then those of the
// final layer.
size_t dit_modulations(const struct dit_config *config);
// Floating-point operations of the forward pass of one sample; a multiply-add counts as two. A
// training step takes three times as many.
double dit_forward_flops(const struct dit_config *config);

// Lists the model's parameters and their offsets. All adaLN weights are contiguous, as are their
// biases, so that one product makes the modulations of all blocks. -1 with an error.
int dit_layout_init(struct layout *layout, const struct dit_config *config);

// Initializes weights[layout->size] as DiT does: Xavier uniform for linear layers and the patch
// embedding; N(0, 0.02) for the time embedding and the class table; 0 for biases, the adaLN layers
// and the final layer.
void dit_init_weights(const struct layout *layout, uint64_t seed, float *weights);
// Fills the fixed table of positions (T,D): sines and cosines of the column in the first half of D,
// of the row in the second.
void dit_position_table(const struct dit_config *config, float *table);

// Which activations the forward pass keeps for the backward pass, which recomputes the others.
enum dit_mode {
    DIT_INFER,       // none: there is no backward pass
    DIT_TRAIN,       // all
    DIT_TRAIN_LIGHT, // all but the modulated norms and the GELU: a third less memory, little work
    DIT_TRAIN_BLOCK, // only the input of each block
};

struct dit;
// Makes a model for up to `batch` samples, whose weights are zero until dit_set_param. `mapped` is
// NULL, or lists for each parameter of the layout the values to use in place, such as those in a
// mapped file, or NULL for a parameter to be set. The list and the values must outlive the model.
// `mapped` needs DIT_INFER and device_uses_host_floats. NULL with an error.
struct dit *dit_new(struct device *device, const struct dit_config *config, size_t batch,
                    enum dit_mode mode, const float *const *mapped);
void dit_free(struct dit *dit); // NULL is fine
const struct dit_config *dit_get_config(const struct dit *dit);
const struct layout *dit_get_layout(const struct dit *dit);
// Bytes of device memory for weights, activations and gradients, of a model, or of one to be made
// (0 if dit_config_check would fail).
size_t dit_memory(const struct dit *dit);
size_t dit_memory_needed(struct device *device, const struct dit_config *config, size_t batch,
                         enum dit_mode mode);

bool dit_is_mapped(const struct dit *dit, const struct param *param);
// Sets one parameter, which must not be mapped, from values[param->count] in host memory. -1 with
// an error if the upload runs out of memory.
int dit_set_param(struct dit *dit, const struct param *param, const float *values);
// Replaces dit_position_table's positions by a table (T,D) in host memory. -1 as above.
int dit_set_positions(struct dit *dit, const float *table);
// The weights in the activations' precision, and their float32 gradients (NULL with DIT_INFER), in
// device memory at the offsets of dit_get_layout.
act *dit_weights(struct dit *dit);
float *dit_gradients(struct dit *dit);

// Predicts the noise, or what else the model learned, and the variance if it learned that, from x
// (B,C,S,S), the times t (B) and the classes y (B), which are rows of the class table. out
// (B,dit_out_channels,S,S) holds the prediction in its first C channels. All are in device memory;
// B <= batch.
void dit_forward(struct dit *dit, float *out, const float *x, const float *t, const int32_t *y,
                 size_t B);
// Adds the gradients of sum(dout out) to those of the weights; B and y are those of the last
// dit_forward. Unless NULL, ready(user, begin, end) is called as soon as the gradients of a range
// [begin, end) of the layout are complete; the ranges are disjoint and cover the layout.
void dit_backward(struct dit *dit, const float *dout, const int32_t *y, size_t B,
                  void (*ready)(void *user, size_t begin, size_t end), void *user);

#endif
