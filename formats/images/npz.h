// NumPy's .npz of images, as the ADM evaluation suite reads it. SPDX-License-Identifier: MIT
// arr_0: uint8 (N, height, width, 3); arr_1, if there are labels: int64 (N).
#ifndef DIT_NPZ_H
#define DIT_NPZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/io.h"

#define NPZ_COUNT_UNKNOWN UINT64_MAX

struct npz_writer;

// N stands before the images. Where the output can be rewritten it is corrected at the end;
// elsewhere `count` must be right, or NPZ_COUNT_UNKNOWN: then the images wait in an unnamed
// temporary file (in $TMPDIR). Takes the output, also when it fails. NULL with an error.
struct npz_writer *npz_create(struct output *output, size_t height, size_t width, uint64_t count);
int npz_write(struct npz_writer *npz, const uint8_t *images, size_t n);
// labels: (N), packed if with_labels. Commits the output. Frees the writer, also when it fails, as
// where the count was wrong (65).
int npz_finish(struct npz_writer *npz, const int64_t *labels, bool with_labels);
void npz_abandon(struct npz_writer *npz); // NULL is fine

#endif
