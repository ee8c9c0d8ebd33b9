// A look at a run's averaged weights: sample images, and the loss on held-out latents. Both use the
// same noise each time, and batches of a size that no option changes, so that runs can be compared.
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
    size_t samples;       // images on a sheet; 0: none
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
// ranks must call this, those without a preview with NULL. -1 with an error.
int preview_load(struct preview *preview, struct trainer *trainer);
// Writes a PNG with a sheet of images, of classes spread over all, and commits the output, or
// discards it. -1 with an error.
int preview_write_samples(struct preview *preview, struct output *output);
// The mean loss of the held-out latents. -1 with an error.
int preview_validate(struct preview *preview, double *loss);

#endif
