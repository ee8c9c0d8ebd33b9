// Latents for training, in training order: shuffled anew each epoch, read ahead, in bounded memory.
// SPDX-License-Identifier: MIT
//
// From files (regular standard input too): an epoch's order follows from seed, epoch and memory.
// The frames of all files are permuted; runs of them that fill `memory` form blocks; the records of
// a block are permuted. Data that fits in `memory` whole is decoded once, kept, and shuffled
// perfectly; so is the frame cache no further than that. Every record comes once an epoch.
// From a pipe: one pass in blocks of `memory`, or, if more than one pass is wanted, all of it is
// first spooled to an unlinked temporary file (in $TMPDIR) and then read as a file is.
#ifndef DIT_LATENTS_H
#define DIT_LATENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/tstream.h"

struct latents_options {
    uint64_t seed;
    uint64_t memory; // bytes for decoded records
    bool one_pass;   // one epoch is enough: a pipe need not be spooled
    size_t threads;  // that decompress ahead
};

struct latents;

// paths: NULL-terminated; none: standard input. All must have the same schema with either `latent`
// or `latent_mean` and `latent_std` (F16, BF16 or F32; [N,C,h,w]), perhaps their `_flip` twins, and
// `label`. NULL with an error.
struct latents *latents_open(char **paths, const struct latents_options *options);
void latents_close(struct latents *latents);

struct latents_shape {
    size_t channels, height, width;
    bool spread; // there is a std
    bool flips;  // there are flipped twins: one of the two is drawn (RNG_FLIP, step = epoch, sample
                 // = record)
    uint64_t records; // of an epoch; 0 if not known (one pass from a pipe)
};
const struct latents_shape *latents_shape(const struct latents *latents);
const struct schema *latents_schema(const struct latents *latents);
// Identifies the data: a hash of schema, files' record counts and frame sizes; 0 for a one-pass
// pipe.
uint64_t latents_fingerprint(const struct latents *latents);

// The next record comes from `position`: records handed out since the start, over all epochs. For
// --resume. -1 with an error on a pipe that can't go there.
int latents_seek(struct latents *latents, uint64_t position);
uint64_t latents_position(const struct latents *latents);

// The next n records as float32: mean (n,C,h,w), std (same, or NULL if there is no spread), labels
// (n; -1 = none). Goes on into the next epoch. Returns the number read: less than n only when the
// one pass of a pipe is over; -1 with an error.
long latents_read(struct latents *latents, size_t n, float *mean, float *std, int64_t *labels);

#endif
