// Loads the records of a training set block by block, each block in a shuffled order, ahead of
// their use. SPDX-License-Identifier: MIT
#ifndef DIT_BLOCKS_H
#define DIT_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/tstream/tstream.h"

// Where the records come from: a pipe that is read once, or files that are read again and again.
struct block_source {
    const struct schema *schema;
    struct tstream_reader *pipe; // or NULL
    size_t n_files, n_frames;    // n_frames: of all files
    struct tstream_file **files; // (n_files)
    uint64_t *file_first;        // (n_files): index of each file's first record, over all
    uint64_t frame_records_max;  // records of the largest frame
    uint64_t size;               // bytes of all files' records in memory
    bool cached;                 // all records are kept, as a single block
    uint64_t seed;               // of the order
    uint64_t memory;             // bytes for decoded records
    size_t threads;              // to decompress ahead
};
// Bytes in memory of a frame with so many records.
uint64_t block_frame_size(const struct schema *schema, uint64_t records);
// The most bytes that loading will take. It assumes frames of the usual size for a pipe, whose
// frames are not known beforehand.
uint64_t block_source_memory(const struct block_source *source);

// A frame of a block, and one of its records.
struct block_frame {
    struct batch *batch;
    uint64_t first; // index of its first record, over all files
};
struct block_record {
    uint32_t frame, row;
};
// Whole frames, and the order in which their records are used.
struct record_block {
    uint64_t epoch;
    size_t n_frames;
    struct block_frame *frames;
    size_t n_records, next; // next: index in `order` of the next record to use
    struct block_record *order;
};
void record_block_free(struct record_block *block); // NULL is fine

// The source and what it points to must outlive the loader. NULL with an error.
struct block_loader *block_loader_new(const struct block_source *source);
// Replaces *block (NULL at first) by the next one. 1, or 0 at the end of a pipe, or -1 with an
// error.
int block_loader_next(struct block_loader *loader, struct record_block **block);
// The next record to use is number `record` of an epoch of files. Frees *block unless it contains
// that record. -1 with an error.
int block_loader_seek(struct block_loader *loader, uint64_t epoch, uint64_t record,
                      struct record_block **block);
void block_loader_free(struct block_loader *loader); // NULL is fine

#endif
