// Tells what a file's DiT was trained for. SPDX-License-Identifier: MIT
#ifndef DIT_DIT_OBJECTIVE_H
#define DIT_DIT_OBJECTIVE_H

#include <jansson.h>

#include "formats/weights/weights.h"
#include "lib/model/objective.h"

// Reads what the file says: the metadata of dit-train, the arguments of SiT's and REPA's programs,
// REPA's own tensors, or a model without the variance, which a DiT of diffusion has. Joins it with
// what `asked` says, for example by options, and completes it. -1 with an error (65) if they differ
// or the file needs to be told.
int dit_objective_read(struct objective *objective, const struct weights *weights, bool learn_sigma,
                       const struct objective *asked);
// Says it in a checkpoint's metadata. -1 with an error.
int dit_objective_save(const struct objective *objective, json_t *metadata);

#endif
