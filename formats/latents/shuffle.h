// Puts records into a random order, in bounded memory. SPDX-License-Identifier: MIT
//
// Every record gets a random tag, drawn from (seed, its index); the order is that of the tags. So
// it depends on the seed and the records alone. Records beyond `memory` go to an unlinked file in
// runs sorted by tag, which are then merged.
//     while (...) { void *to = shuffle_add(shuffle); fill it; }
//     shuffle_start(shuffle);
//     while ((rc = shuffle_next(shuffle, &record)) > 0) use(record);
#ifndef DIT_SHUFFLE_H
#define DIT_SHUFFLE_H

#include <stddef.h>
#include <stdint.h>

struct shuffle;

// folder: for the file, if $TMPDIR is not set. NULL with an error (STATUS_USAGE if memory is too
// small to hold two records).
struct shuffle *shuffle_new(size_t record_size, uint64_t memory, uint64_t seed, const char *folder);
// Where the next record's bytes go, valid until the next call; aligned to 8. NULL with an error.
void *shuffle_add(struct shuffle *shuffle);
uint64_t shuffle_count(const struct shuffle *shuffle);
// After the last shuffle_add. -1 with an error.
int shuffle_start(struct shuffle *shuffle);
// 1 and a record, valid until the next call; 0 at the end; -1 with an error.
int shuffle_next(struct shuffle *shuffle, const void **record);
void shuffle_free(struct shuffle *shuffle); // NULL is fine

#endif
