// The files of a set of data: shards that know their set, and what a checkpoint
// keeps of them. SPDX-License-Identifier: MIT
//
// A shard says in its metadata shard.set, shard.index, shard.count and
// shard.records (tstream(5)). A stream with another number of records than
// shard.records was made of a shard, or of many, and is none.
#ifndef DIT_SHARDS_H
#define DIT_SHARDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/tstream/tstream.h"

struct shard {
    uint64_t set;          // the same in all shards of a set, and in no other
    uint64_t index, count; // from 0; of so many
    uint64_t records;
};
int shard_mark(struct schema *schema, const struct shard *shard);
bool shard_find(const struct tstream_file *file, struct shard *shard);

// Every shard must come once, and unless `partial` with all others of its set.
// -1 with an error (STATUS_DATA) that says which is missing or comes twice.
int shards_check(struct tstream_file *const *files, size_t n, bool partial);

// For each file a hash of its records, as framed: see tstream_file_hash.
int shards_hash(struct tstream_file *const *files, size_t n, size_t threads, uint64_t *hashes);
// [{"name": base name, "records": number, "hash": 16 hexadecimal digits}, ...];
// NULL with an error.
json_t *shards_describe(struct tstream_file *const *files, const uint64_t *hashes, size_t n);
// 0 if such a list, as text, has the same hashes in the same order; else -1
// with an error (STATUS_DATA) that says what is missing, changed, new or
// elsewhere in the order.
int shards_compare(struct tstream_file *const *files, const uint64_t *hashes, size_t n,
                   const char *json);

#endif
