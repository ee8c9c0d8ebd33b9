// What a training shows of its averaged weights: pictures, and the loss on records that it does not
// learn from. Both with the same noise each time, in batches of a size that no option changes.
// SPDX-License-Identifier: MIT
#ifndef DIT_PREVIEW_H
#define DIT_PREVIEW_H

#include <stddef.h>
#include <stdint.h>

#include "formats/latents/latents.h"
#include "lib/model/dit.h"
#include "lib/model/trainer.h"

struct preview_settings {
    uint64_t seed;
    size_t samples;       // pictures on a sheet; 0: none
    const char *vae;      // the autoencoder that decodes them (NULL: the one that the data names)
    const char *valid;    // file of records; NULL: none
    size_t valid_records; // at most
    size_t threads;       // that decompress them
};

struct preview;
// Takes a model of its own. `data`: the latents that are trained on. NULL with an error.
struct preview *preview_new(struct device *device, const struct dit_config *config,
                            const struct latents *data, const struct preview_settings *settings);
void preview_free(struct preview *preview);           // NULL is fine
size_t preview_memory(const struct preview *preview); // bytes of device memory; of NULL none
// Takes the trainer's averaged weights. Collective where the optimizer is sharded; NULL: only takes
// part. -1 with an error.
int preview_load(struct preview *preview, struct trainer *trainer);
// Writes a sheet of pictures, the classes spread over all, as PNG.
int preview_write_samples(struct preview *preview, const char *path);
// The mean loss of the held-out records.
int preview_validate(struct preview *preview, double *loss);

#endif
