// Latents for training, in training order: shuffled anew each epoch, read ahead, in bounded memory.
// SPDX-License-Identifier: MIT
//
// From files (regular standard input too): an epoch's order follows from seed, epoch and memory.
// The frames of all files are permuted; runs of them that fill half of `memory` form blocks, of
// which one is handed out while the next is loaded; the records of a block are permuted. Data that
// fits in `memory` whole, or is to be kept there (`cache`), is decoded once and shuffled perfectly.
// Every record comes once an epoch; a batch may end one epoch and begin the next. Who reads every
// record and who skips some gets them in the same order; threads don't matter either.
// From a pipe: one pass in blocks of half of `memory`, or, if more than one pass or `cache` is
// wanted, all of it is first spooled to an unlinked temporary file (in $TMPDIR) and then read as a
// file is.
#ifndef DIT_LATENTS_H
#define DIT_LATENTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/tstream/tstream.h"

struct latents_options {
    uint64_t seed;
    uint64_t memory; // bytes for decoded records
    bool one_pass;   // one epoch is enough: a pipe need not be spooled
    bool cache;      // keep all records in memory, whatever `memory` says
    bool partial;    // shards of a set may be missing
    size_t threads;  // that decompress ahead
};

struct latents;

// paths: NULL-terminated; none: standard input. All must have the same schema with either `latent`
// or `latent_mean` and `latent_std` (F16, BF16 or F32; [N,C,h,w]), perhaps their `_flip` twins, and
// `label`. A shard among them (formats/latents/shards.h) must come once and, but for `partial`,
// with all the others of its set. NULL with an error; STATUS_USAGE if there is not the memory for
// `cache`.
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
// The most bytes that it will hold: records, their order, and the frames being decoded. Of a pipe,
// whose frames are not known before they come, as if they had the usual size.
uint64_t latents_memory(const struct latents *latents);

// Identifies the data: a hash of schema and files, their order included; 0 for a one-pass pipe. It
// sees every change of a record, but not another level of compression.
uint64_t latents_fingerprint(const struct latents *latents);
// For a checkpoint: [{"name": base name, "records": number, "hash": 16 hexadecimal digits}, ...] in
// the order of the files; an empty list for a one-pass pipe. NULL with an error.
json_t *latents_describe(const struct latents *latents);
// Compares the files with such a list, as text. 0: the same contents in the same order; -1 with an
// error (STATUS_DATA) that says which file is missing, new, changed or elsewhere in the order.
int latents_compare(const struct latents *latents, const char *json);

// The next record comes from `position`: records handed out or skipped since the start, over all
// epochs. For --resume. -1 with an error on a pipe that can't go there.
int latents_seek(struct latents *latents, uint64_t position);
uint64_t latents_position(const struct latents *latents);

// The next n records as float32: mean (n,C,h,w), std (same, or NULL if there is no spread), labels
// (n; -1 = none). Goes on into the next epoch. Returns the number read: less than n only when the
// one pass of a pipe is over; -1 with an error.
long latents_read(struct latents *latents, size_t n, float *mean, float *std, int64_t *labels);
// Passes over n records. 0, also when the one pass of a pipe is over before (the position tells how
// far it went); -1 with an error.
int latents_skip(struct latents *latents, uint64_t n);

#endif
