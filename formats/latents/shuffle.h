// Shuffles records in bounded memory. SPDX-License-Identifier: MIT
//
// Each record gets a random tag, drawn from the seed and its index, and the records are sorted by
// tag. So the order depends on nothing else. The sort is an external merge sort: records that
// exceed `memory` go to an unlinked file in sorted runs, which are then merged.
//     while (...) { void *to = shuffle_add(shuffle); fill it; }
//     shuffle_start(shuffle);
//     while ((rc = shuffle_next(shuffle, &record)) > 0) use(record);
#ifndef DIT_SHUFFLE_H
#define DIT_SHUFFLE_H

#include <stddef.h>
#include <stdint.h>

struct shuffle;

// folder: for the temporary file, if $TMPDIR is not set. NULL with an error: STATUS_USAGE if memory
// holds less than two records.
struct shuffle *shuffle_new(size_t record_size, uint64_t memory, uint64_t seed, const char *folder);
// Where to write the next record; valid until the next call, aligned to 8. NULL with an error.
void *shuffle_add(struct shuffle *shuffle);
uint64_t shuffle_count(const struct shuffle *shuffle); // records added
// To be called between the last shuffle_add and the first shuffle_next. -1 with an error.
int shuffle_start(struct shuffle *shuffle);
// 1 and a record, valid until the next call; 0 at the end; -1 with an error.
int shuffle_next(struct shuffle *shuffle, const void **record);
void shuffle_free(struct shuffle *shuffle); // NULL is fine

#endif
