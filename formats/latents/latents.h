// Latents for training, in training order: shuffled anew each epoch, read ahead, in bounded memory.
// SPDX-License-Identifier: MIT
//
// Files, or a regular file as standard input: the order of an epoch follows from seed, epoch and
// memory. The frames of all files are shuffled, then split into blocks of half of `memory`; the
// records within each block are shuffled. One block is used while the next one is loaded. Data that
// fits into `memory` as a whole, or that `cache` keeps there, is decoded once and shuffled as a
// whole. Each epoch yields every record once; a batch may end one epoch and begin the next. The
// order does not depend on the number of threads, nor on whether records are read or skipped.
// A pipe: it is read once, in blocks of half of `memory`. For more than one pass or `cache`, it is
// first copied to an unlinked temporary file (in $TMPDIR), which is read as any file.
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
    bool one_pass;   // one epoch is enough, so a pipe need not be copied to a file
    bool cache;      // keep all records in memory, even if they exceed `memory`
    bool partial;    // shards of a set may be missing
    size_t threads;  // to decompress ahead
};

struct latents;

// paths: NULL-terminated; NULL or empty for standard input. All files must have the same schema:
// either `latent`, or `latent_mean` and `latent_std` (F16, BF16 or F32; [N,C,h,w]), optionally with
// their `_flip` twins, and optionally `label`. Each shard (formats/latents/shards.h) must be named
// once and, unless `partial` is set, with all the others of its set. NULL with an error:
// STATUS_USAGE if there is too little memory for `cache`.
struct latents *latents_open(char **paths, const struct latents_options *options);
void latents_close(struct latents *latents);

struct latents_shape {
    size_t channels, height, width;
    bool spread;      // records have a standard deviation
    bool flips;       // records have a mirrored twin: one of the two is drawn in each epoch
    uint64_t records; // of an epoch; 0 if unknown (one pass of a pipe)
};
const struct latents_shape *latents_shape(const struct latents *latents);
const struct schema *latents_schema(const struct latents *latents);
// An upper bound for the bytes that reading takes: records, their order, and frames being
// decompressed. It assumes frames of the usual size for a pipe.
uint64_t latents_memory(const struct latents *latents);

// A hash that identifies the data: schema, files and their order; 0 for one pass of a pipe. It
// changes with every record, but not with the level of compression.
uint64_t latents_fingerprint(const struct latents *latents);
// Describes the files for a checkpoint, in their order: [{"name": base name, "records": number,
// "hash": 16 hexadecimal digits}, ...], or over 1000 by their number and one hash (shards.h); []
// for one pass of a pipe. NULL with an error.
json_t *latents_describe(const struct latents *latents);
// Compares the files with such a description, given as text. 0 if contents and order are the same,
// else -1 with an error (STATUS_DATA) that says which file is missing, new, changed or out of
// order.
int latents_compare(const struct latents *latents, const char *json);

// Continues at a position: the number of records read or skipped since the start, over all epochs.
// -1 with an error on one pass of a pipe, unless the position is the present one.
int latents_seek(struct latents *latents, uint64_t position);
uint64_t latents_position(const struct latents *latents);

// Reads the next n records as float32: mean (n,C,h,w), std (the same, or NULL if there is no
// spread), labels (n; -1 = none). Continues into the next epoch. Returns the number read, which is
// less than n only at the end of a pipe; -1 with an error.
long latents_read(struct latents *latents, size_t n, float *mean, float *std, int64_t *labels);
// Skips n records. 0, also if a pipe ends before (latents_position tells where); -1 with an error.
int latents_skip(struct latents *latents, uint64_t n);

#endif
