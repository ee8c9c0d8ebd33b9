// Writes images as a NumPy .npz, as the ADM evaluation suite reads it. SPDX-License-Identifier: MIT
// arr_0: uint8 (N, height, width, 3); arr_1, if there are labels: int64 (N).
#ifndef DIT_NPZ_H
#define DIT_NPZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/io.h"

#define NPZ_COUNT_UNKNOWN UINT64_MAX

struct npz_writer;

// count: the number of images, which the format stores before them. If the output can be rewritten,
// a wrong or unknown count is corrected at the end. Else the count must be right; if it is
// NPZ_COUNT_UNKNOWN, the images are kept in an unnamed temporary file in $TMPDIR until it is known.
// Takes ownership of the output, even on failure. NULL with an error.
struct npz_writer *npz_create(struct output *output, size_t height, size_t width, uint64_t count);
// images: (n, height, width, 3). -1 with an error.
int npz_write(struct npz_writer *npz, const uint8_t *images, size_t n);
// Writes labels (N) if with_labels, commits the output and frees the writer, even on failure. -1
// with an error (65 if the count was wrong).
int npz_finish(struct npz_writer *npz, const int64_t *labels, bool with_labels);
void npz_abandon(struct npz_writer *npz); // NULL is fine

#endif
