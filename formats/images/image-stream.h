// Opens streams of RGB images for reading. SPDX-License-Identifier: MIT
#ifndef DIT_IMAGE_STREAM_H
#define DIT_IMAGE_STREAM_H

#include "formats/tstream/tstream.h"

struct image_stream {
    struct tstream_reader *reader; // the caller reads from it and closes it
    const char *name;
    int image, label; // indices of the tensors; label is -1 if it wasn't asked for
    size_t height, width;
    size_t image_size; // bytes of an image
    bool counted;      // whether the stream states its count
    uint64_t count;    // the stated count of images
};

// Opens `path` as tstream_open does and checks that it has the tensors `image`, U8 [N,H,W,3], and,
// if asked for, `label`, I64 [N]. -1 with an error.
int image_stream_open(struct image_stream *in, const char *path, size_t threads, bool with_labels);

#endif
