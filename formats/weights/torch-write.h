// Writes files as torch.save does, for torch.load(weights_only=True, mmap=True).
// SPDX-License-Identifier: MIT
//
// A file is a zip archive of stored members: data.pkl is a pickle (protocol 2) of the value, and
// data/0, data/1, ... are the bytes of its tensors.
#ifndef DIT_TORCH_WRITE_H
#define DIT_TORCH_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/io.h"
#include "lib/base/tensor.h"

struct torch_writer;

// The output stays the caller's. NULL with an error.
struct torch_writer *torch_new(struct output *output);
void torch_free(struct torch_writer *torch); // NULL is fine

// First comes the one value that the file holds. Lists, tuples and dicts are begun and ended; a
// dict's keys and values take turns. If memory runs out, torch_end_value fails.
enum torch_kind { TORCH_DICT, TORCH_ORDERED_DICT, TORCH_LIST, TORCH_TUPLE };
void torch_begin(struct torch_writer *torch, enum torch_kind kind);
void torch_end(struct torch_writer *torch);
void torch_none(struct torch_writer *torch);
void torch_bool(struct torch_writer *torch, bool value);
void torch_integer(struct torch_writer *torch, int64_t value);
void torch_real(struct torch_writer *torch, double value);
void torch_text(struct torch_writer *torch, const char *text); // UTF-8
void torch_tensor(struct torch_writer *torch, enum dtype dtype, const size_t *shape, size_t rank);
// Writes the pickle. -1 with an error.
int torch_end_value(struct torch_writer *torch);

// Then come the bytes of each tensor, in the order of the calls of torch_tensor: in C order, and in
// pieces of any size. -1 with an error.
int torch_start_data(struct torch_writer *torch);
int torch_write_data(struct torch_writer *torch, const void *data, size_t size);
int torch_end_data(struct torch_writer *torch);

// Ends the archive after the last tensor, without committing the output. -1 with an error.
int torch_finish(struct torch_writer *torch);

#endif
