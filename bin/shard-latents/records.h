// The records that shard-latents shuffles, each of which goes to a shard or, with --hold-out, to a
// file of its own. SPDX-License-Identifier: MIT
//     for each input: records_add(&all, path, memory, folder);
//     records_hold_out(&all, path); // if all.held has chosen some
//     for each shard: records_write_shard(&all, path, &shard);
//     records_finish(&all);
#ifndef DIT_RECORDS_H
#define DIT_RECORDS_H

#include "formats/latents/hold-out.h"
#include "formats/latents/shards.h"
#include "formats/latents/shuffle.h"
#include "formats/tstream/row-writer.h"
#include "formats/tstream/tstream.h"

// {.held = {.seed = seed}, .hash = ..., .holds_out = ...} is empty.
struct records {
    struct shuffle *shuffle; // NULL, as the schema, before the first stream
    struct schema *schema;
    uint64_t hash;  // of all values that were added
    bool holds_out; // whether some are to be held out
    struct hold_out held;
    struct schema *held_schema; // of the file of those held out; NULL if there is none
    struct row_writer held_rows;
};

// Adds all records of a stream. Beyond `memory` bytes they wait in files in the folder. -1 with an
// error, as the others.
int records_add(struct records *all, const char *path, uint64_t memory, const char *folder);
// Opens a file for the records that all->held has chosen.
int records_hold_out(struct records *all, const char *path);
// Writes the next shard->records of those that are not held out to a file, and those that are held
// out before them to theirs.
int records_write_shard(struct records *all, const char *path, const struct shard *shard);
// Writes the records that are held out after the last shard, and ends their file.
int records_finish(struct records *all);
void records_free(struct records *all);

#endif
