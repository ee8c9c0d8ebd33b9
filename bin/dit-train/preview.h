// A look at a run's averaged weights: sample images, and the loss on held-out latents. Both use the
// same noise each time, and batches of a size that no option changes, so that runs can be compared.
// That of a rank over 0 draws images for an evaluation alone.
// SPDX-License-Identifier: MIT
#ifndef DIT_PREVIEW_H
#define DIT_PREVIEW_H

#include <stddef.h>
#include <stdint.h>

#include "formats/latents/latents.h"
#include "lib/base/io.h"
#include "lib/model/dit.h"
#include "lib/model/trainer.h"

struct preview_settings {
    uint64_t seed;
    bool draw;            // images will be drawn
    size_t samples;       // on a sheet; 0: none
    const char *vae;      // the autoencoder that decodes them; NULL: the one that the data names
    const char *valid;    // file of held-out latents; NULL: none
    size_t valid_records; // the most to take of these
    size_t threads;       // for decompressing them
    struct loss_settings loss;
};

struct preview;
// Makes a model of its own. `data`: the latents that are trained on; settings->valid must outlive
// the preview. NULL with an error.
struct preview *preview_new(struct device *device, const struct dit_config *config,
                            const struct latents *data, const struct preview_settings *settings);
void preview_free(struct preview *preview);           // NULL is fine
size_t preview_memory(const struct preview *preview); // bytes of device memory; 0 for NULL
// Copies the trainer's averaged weights into the preview's model. If the optimizer is sharded, all
// ranks must call this, those without a preview with NULL, and only that of rank 0 gets the
// weights, unless `ranks`, which is else NULL, is given. -1 with an error.
int preview_load(struct preview *preview, struct trainer *trainer, struct ranks *ranks);
// Images have sides of `side` pixels and are drawn PREVIEW_BATCH at a time or less: numbers first
// .. first + B - 1, of the classes labels[B] (K: the null class), into images (B,side,side,3).
// preview_set_drawing tells in how many steps and with which guidance, as sampler_change. -1 with
// an error.
#define PREVIEW_BATCH 8
size_t preview_side(const struct preview *preview);
int preview_set_drawing(struct preview *preview, const char *steps, double cfg_scale);
int preview_draw(struct preview *preview, uint64_t first, const int32_t *labels, size_t B,
                 uint8_t *images);
size_t preview_classes(const struct preview *preview); // K of the model
// Writes a PNG with a sheet of images, of classes spread over all, and commits the output, or
// discards it. -1 with an error.
int preview_write_samples(struct preview *preview, struct output *output);
// The mean loss of the held-out latents. -1 with an error.
int preview_validate(struct preview *preview, double *loss);

#endif
