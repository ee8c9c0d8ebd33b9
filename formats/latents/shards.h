// The files of a training set: whether all shards of a set are there, and whether the files are
// those of a checkpoint. SPDX-License-Identifier: MIT
//
// A shard's metadata has shard.set, shard.index, shard.count and shard.records (tstream(5)). A
// stream whose number of records is not shard.records is no shard, but was made from one or more.
#ifndef DIT_SHARDS_H
#define DIT_SHARDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/tstream/tstream.h"

struct shard {
    uint64_t set;     // identifies the set
    uint64_t index;   // from 0
    uint64_t count;   // shards of the set
    uint64_t records; // of this shard
};
// Writes the shard's metadata. -1 with an error.
int shard_mark(struct schema *schema, const struct shard *shard);
// False if the file is no shard.
bool shard_find(const struct tstream_file *file, struct shard *shard);

// Checks that each shard comes once and, unless `partial`, that its whole set is there. -1 with an
// error (STATUS_DATA) that says which shard is missing or comes twice.
int shards_check(struct tstream_file *const *files, size_t n, bool partial);

// Sets hashes (n) to those of tstream_file_hash. -1 with an error.
int shards_hash(struct tstream_file *const *files, size_t n, size_t threads, uint64_t *hashes);
// Lists up to SHARDS_LISTED_MAX files: [{"name": base name, "records": number, "hash": 16
// hexadecimal digits}, ...]; more are {"files": number, "hash": that of their hashes}. NULL with an
// error.
#define SHARDS_LISTED_MAX 1000
json_t *shards_describe(struct tstream_file *const *files, const uint64_t *hashes, size_t n);
// 0 if such a description, given as text, has the same hashes in the same order; else -1 with an
// error (STATUS_DATA) that says which files are missing, changed, new or out of order, as far as
// the description tells. A list may be of any length.
int shards_compare(struct tstream_file *const *files, const uint64_t *hashes, size_t n,
                   const char *json);

#endif
