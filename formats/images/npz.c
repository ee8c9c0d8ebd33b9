// Writes .npz files, whose count comes before the images but may be known only after them.
// SPDX-License-Identifier: MIT
#include "formats/images/npz.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/containers/npy.h"
#include "formats/containers/zip-write.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/scratch.h"
#include "lib/base/tensor.h"

#define COPY_SIZE ((size_t)1 << 20)

struct npz_writer {
    struct output *output;
    struct zip_writer *zip;
    size_t height, width;
    uint64_t stated, count; // number of images in the header; number written so far
    bool rewrite;           // the header can be corrected at the end
    int spool;              // temporary file that holds the images until they are counted, or -1
};

static void make_image_header(const struct npz_writer *npz, uint8_t header[NPY_HEADER_SIZE],
                              uint64_t count)
{
    npy_make_header(header, DTYPE_U8, (const size_t[]){count, npz->height, npz->width, 3}, 4);
}

static int start_images(struct npz_writer *npz, uint64_t count)
{
    uint8_t header[NPY_HEADER_SIZE];
    make_image_header(npz, header, count);
    return zip_start(npz->zip, "arr_0.npy") < 0 || zip_write(npz->zip, header, sizeof header) < 0
               ? -1
               : 0;
}

struct npz_writer *npz_create(struct output *output, size_t height, size_t width, uint64_t count)
{
    struct npz_writer *npz = mem_new(1, sizeof *npz);
    if (!npz) {
        output_discard(output);
        return NULL;
    }
    npz->output = output;
    npz->height = height;
    npz->width = width;
    npz->stated = count == NPZ_COUNT_UNKNOWN ? 0 : count;
    npz->rewrite = output_can_rewrite(output);
    npz->spool = -1;
    bool spooled = count == NPZ_COUNT_UNKNOWN && !npz->rewrite;
    if (!(npz->zip = zip_new(output)) ||
        (spooled ? (npz->spool = scratch_open(NULL)) < 0 : start_images(npz, npz->stated) < 0)) {
        npz_abandon(npz);
        return NULL;
    }
    return npz;
}

static void npz_free(struct npz_writer *npz)
{
    if (npz->spool >= 0)
        close(npz->spool);
    zip_free(npz->zip);
    free(npz);
}

void npz_abandon(struct npz_writer *npz)
{
    if (!npz)
        return;
    output_discard(npz->output);
    npz_free(npz);
}

int npz_write(struct npz_writer *npz, const uint8_t *images, size_t n)
{
    size_t size = n * npz->height * npz->width * 3;
    npz->count += n;
    return npz->spool >= 0 ? scratch_write(npz->spool, images, size)
                           : zip_write(npz->zip, images, size);
}

static int write_spooled(struct npz_writer *npz)
{
    uint8_t *buffer = malloc(COPY_SIZE);
    if (!buffer)
        return error_set(STATUS_INTERNAL, "out of memory");
    int rc = start_images(npz, npz->count);
    size_t got = COPY_SIZE;
    for (uint64_t offset = 0; rc == 0 && got == COPY_SIZE; offset += got) {
        if (fd_pread_full(npz->spool, buffer, COPY_SIZE, offset, &got) < 0)
            rc = error_set_errno(STATUS_IO, "cannot read a temporary file");
        else
            rc = zip_write(npz->zip, buffer, got);
    }
    free(buffer);
    return rc;
}

static int rewrite_header(struct npz_writer *npz)
{
    uint8_t old[NPY_HEADER_SIZE], header[NPY_HEADER_SIZE];
    make_image_header(npz, old, npz->stated);
    make_image_header(npz, header, npz->count);
    return zip_replace_start(npz->zip, old, header, sizeof header);
}

static int end_images(struct npz_writer *npz)
{
    if (npz->spool >= 0) {
        if (write_spooled(npz) < 0)
            return -1;
    } else if (npz->stated != npz->count) {
        if (!npz->rewrite)
            return error_set(STATUS_DATA,
                             "expected %" PRIu64 " images, as the first stream states, found "
                             "%" PRIu64 "; join streams by tstream-cat, which updates the count",
                             npz->stated, npz->count);
        if (rewrite_header(npz) < 0)
            return -1;
    }
    return zip_end(npz->zip);
}

static int write_labels(struct npz_writer *npz, const int64_t *labels)
{
    uint8_t header[NPY_HEADER_SIZE];
    npy_make_header(header, DTYPE_I64, (const size_t[]){npz->count}, 1);
    return zip_start(npz->zip, "arr_1.npy") < 0 || zip_write(npz->zip, header, sizeof header) < 0 ||
                   zip_write(npz->zip, labels, npz->count * sizeof *labels) < 0 ||
                   zip_end(npz->zip) < 0
               ? -1
               : 0;
}

int npz_finish(struct npz_writer *npz, const int64_t *labels, bool with_labels)
{
    if (end_images(npz) < 0 || (with_labels && write_labels(npz, labels) < 0) ||
        zip_finish(npz->zip) < 0) {
        npz_abandon(npz);
        return -1;
    }
    int rc = output_commit(npz->output);
    npz_free(npz);
    return rc;
}
